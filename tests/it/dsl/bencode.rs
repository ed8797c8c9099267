//! Bencoded values, read strictly.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bendy::decoding::{Decoder, Object};

/// A bencoded value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Bencode {
    Int(i64),
    Bytes(Vec<u8>),
    List(Vec<Bencode>),
    Dict(BTreeMap<Vec<u8>, Bencode>),
}

impl Bencode {
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, bendy::decoding::Error> {
        let mut decoder = Decoder::new(bytes);
        let tree = Self::of(decoder.next_object()?.ok_or_else(|| bendy::decoding::Error::missing_field("value"))?)?;
        match decoder.next_object()? {
            None => Ok(tree),
            Some(_) => Err(bendy::decoding::Error::unexpected_field("a second value")),
        }
    }

    fn of(object: Object<'_, '_>) -> Result<Self, bendy::decoding::Error> {
        Ok(match object {
            Object::Integer(digits) => Self::Int(digits.parse()?),
            Object::Bytes(bytes) => Self::Bytes(bytes.to_vec()),
            Object::List(mut list) => {
                let mut items = Vec::new();
                while let Some(item) = list.next_object()? {
                    items.push(Self::of(item)?);
                }
                Self::List(items)
            }
            Object::Dict(mut dict) => {
                let mut pairs = BTreeMap::new();
                while let Some((key, value)) = dict.next_pair()? {
                    pairs.insert(key.to_vec(), Self::of(value)?);
                }
                Self::Dict(pairs)
            }
        })
    }

    pub(crate) fn get(&self, key: impl AsRef<[u8]>) -> Option<&Self> {
        match self {
            Self::Dict(pairs) => pairs.get(key.as_ref()),
            other => panic!("not a dictionary: {other:?}"),
        }
    }

    pub(crate) fn int(&self) -> i64 {
        match self {
            Self::Int(n) => *n,
            other => panic!("not an integer: {other:?}"),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            other => panic!("not a string: {other:?}"),
        }
    }

    /// Returns the peers in `peers` (either form) and `peers6`, sorted. Compact lists must have a correct length.
    pub(super) fn peers(&self) -> Vec<SocketAddr> {
        let mut peers: Vec<SocketAddr> = match self.get("peers").expect("peers is always there") {
            Self::List(peers) => peers
                .iter()
                .map(|peer| {
                    let ip = std::str::from_utf8(peer.get("ip").unwrap().bytes()).unwrap();
                    SocketAddr::new(ip.parse().unwrap(), peer.get("port").unwrap().int().try_into().unwrap())
                })
                .collect(),
            compact => entries::<6>(compact.bytes())
                .map(|[a, b, c, d, high, low]| ([a, b, c, d], u16::from_be_bytes([high, low])).into())
                .collect(),
        };
        if let Some(peers6) = self.get("peers6") {
            peers.extend(entries::<18>(peers6.bytes()).map(|entry| {
                let (ip, port) = entry.split_first_chunk::<16>().unwrap();
                SocketAddr::from((*ip, u16::from_be_bytes(port.try_into().unwrap())))
            }));
        }
        peers.sort();
        peers
    }
}

fn entries<const LENGTH: usize>(list: &[u8]) -> impl Iterator<Item = [u8; LENGTH]> {
    let (entries, rest) = list.as_chunks::<LENGTH>();
    assert!(rest.is_empty(), "the last of the compact peers is incomplete: {} bytes", list.len());
    entries.iter().copied()
}
