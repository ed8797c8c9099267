use super::*;
use crate::PeerLists;
use bendy::encoding::{Error, SingleItemEncoder};
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The same reply, as bendy writes it.
struct ByBendy<'a>(&'a AnnounceReply, PeerFormat);

impl ToBencode for ByBendy<'_> {
    const MAX_DEPTH: usize = 3;

    fn encode(&self, encoder: SingleItemEncoder<'_>) -> Result<(), Error> {
        let Self(reply, format) = self;
        let external_ip = reply.external_ip.map(|ip| match ip {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        });
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        compact::encode(&reply.peers.v4, &mut v4);
        compact::encode(&reply.peers.v6, &mut v6);
        encoder.emit_dict(|mut dict| {
            dict.emit_pair(b"complete", reply.complete)?;
            dict.emit_pair(b"downloaded", reply.downloaded)?;
            if let Some(external_ip) = &external_ip {
                dict.emit_pair_with(b"external ip", |e| e.emit_bytes(external_ip))?;
            }
            dict.emit_pair(b"incomplete", reply.incomplete)?;
            dict.emit_pair(b"interval", reply.interval)?;
            dict.emit_pair(b"min interval", reply.min_interval)?;
            match *format {
                PeerFormat::Compact => {
                    dict.emit_pair_with(b"peers", |e| e.emit_bytes(&v4))?;
                    if !v6.is_empty() {
                        dict.emit_pair_with(b"peers6", |e| e.emit_bytes(&v6))?;
                    }
                }
                PeerFormat::Dictionaries { ids } => dict.emit_pair_with(b"peers", |peers| {
                    peers.emit_list(|list| {
                        let v4 = reply.peers.v4.iter().map(|p| (p.endpoint.ip.to_string(), p.endpoint.port, p.id));
                        let v6 = reply.peers.v6.iter().map(|p| (p.endpoint.ip.to_string(), p.endpoint.port, p.id));
                        v4.chain(v6).try_for_each(|(ip, port, id)| {
                            list.emit_dict(|mut peer| {
                                peer.emit_pair(b"ip", ip)?;
                                if let Some(id) = id.filter(|_| ids) {
                                    peer.emit_pair_with(b"peer id", |e| e.emit_bytes(&id.0))?;
                                }
                                peer.emit_pair(b"port", port.get())
                            })
                        })
                    })
                })?,
            }
            match &reply.warning {
                Some(warning) => dict.emit_pair(b"warning message", warning.as_ref()),
                None => Ok(()),
            }
        })
    }
}

fn any_ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any::<Ipv4Addr>().prop_map(IpAddr::V4), any::<Ipv6Addr>().prop_map(IpAddr::V6)]
}

proptest! {
    #[test]
    fn replies_are_what_bendy_writes_in_one_allocation(
        peers in proptest::collection::vec((any_ip(), any::<NonZeroU16>(), any::<Option<[u8; 20]>>()), 0..60),
        numbers in any::<[u32; 5]>(),
        external_ip in proptest::option::of(any_ip()),
        warning in any::<Option<String>>(),
        format in prop_oneof![
            Just(PeerFormat::Compact),
            any::<bool>().prop_map(|ids| PeerFormat::Dictionaries { ids }),
        ],
    ) {
        let mut lists = PeerLists::default();
        peers.into_iter().for_each(|(ip, port, id)| lists.push(ip, port, id.map(PeerId)));
        let [interval, min_interval, complete, incomplete, downloaded] = numbers;
        let reply = AnnounceReply {
            interval, min_interval, complete, incomplete, downloaded, external_ip,
            warning: warning.map(Into::into), peers: lists,
        };
        let mut body = Vec::new();
        encode(&reply, format, &mut body);
        prop_assert!(body.len() <= capacity(&reply, format), "{} of {}", body.len(), capacity(&reply, format));
        let expected = ByBendy(&reply, format).to_bencode().unwrap();
        prop_assert_eq!(body.escape_ascii().to_string(), expected.escape_ascii().to_string());
    }

    #[test]
    fn any_query_is_read_or_refused(query in "[ -~]{0,200}") {
        let _ = parse(query.as_bytes());
    }
}

#[test]
fn addresses_in_every_notation() {
    for (text, ip) in [
        ("10.0.0.1", "10.0.0.1"),
        ("10.0.0.1:6881", "10.0.0.1"),
        (" 10.0.0.1 ", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("fd00::1", "fd00::1"),
        ("[fd00::1]", "fd00::1"),
        ("[fd00::1]:6881", "fd00::1"),
        ("fe80::1%eth0", "fe80::1"),
    ] {
        assert_eq!(parse_ip(text), ip.parse().ok(), "{text}");
    }
    for text in ["", "example.com", "example.com:80", "abc.i2p", "[fd00::1", "1.2.3", "1.2.3.4.5", "::g"] {
        assert_eq!(parse_ip(text), None, "{text}");
    }
}
