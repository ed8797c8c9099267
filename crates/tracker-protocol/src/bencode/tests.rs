use super::*;
use bendy::encoding::{SingleItemEncoder, ToBencode};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A whole value, for comparison with what bendy wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Tree {
    Int(i64),
    Bytes(Vec<u8>),
    List(Vec<Tree>),
    Dict(BTreeMap<Vec<u8>, Tree>),
}

impl ToBencode for Tree {
    const MAX_DEPTH: usize = MAX_DEPTH;
    fn encode(&self, encoder: SingleItemEncoder<'_>) -> Result<(), bendy::encoding::Error> {
        match self {
            Self::Int(n) => encoder.emit_int(*n),
            Self::Bytes(bytes) => encoder.emit_bytes(bytes),
            Self::List(items) => encoder.emit_list(|list| items.iter().try_for_each(|item| list.emit(item))),
            Self::Dict(pairs) => {
                encoder.emit_dict(|mut dict| pairs.iter().try_for_each(|(key, value)| dict.emit_pair(key, value)))
            }
        }
    }
}

fn tree(reader: &mut Reader<'_>) -> Result<Tree, BencodeError> {
    Ok(match reader.value()? {
        Value::Int(n) => Tree::Int(n),
        Value::Bytes(bytes) => Tree::Bytes(bytes.to_vec()),
        Value::List => {
            let mut items = Vec::new();
            while !reader.end()? {
                items.push(tree(reader)?);
            }
            Tree::List(items)
        }
        Value::Dict => {
            let mut pairs = BTreeMap::new();
            while let Some(key) = reader.key()? {
                pairs.insert(key.to_vec(), tree(reader)?);
            }
            Tree::Dict(pairs)
        }
    })
}

fn any_tree() -> impl Strategy<Value = Tree> {
    let leaf =
        prop_oneof![any::<i64>().prop_map(|n| Tree::Int(n.max(-i64::MAX))), any::<Vec<u8>>().prop_map(Tree::Bytes)];
    leaf.prop_recursive(8, 64, 8, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..8).prop_map(Tree::List),
            proptest::collection::btree_map(any::<Vec<u8>>(), inner, 0..8).prop_map(Tree::Dict),
        ]
    })
}

proptest! {
    #[test]
    fn reads_what_bendy_writes(expected in any_tree()) {
        let bytes = expected.to_bencode().unwrap();
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!(tree(&mut reader).unwrap(), expected);
        prop_assert!(reader.rest().is_empty());

        let mut reader = Reader::new(&bytes);
        let value = reader.value().unwrap();
        reader.skip(value).unwrap();
        prop_assert!(reader.rest().is_empty());
    }

    #[test]
    fn every_cut_of_a_value_ends_early(expected in any_tree(), cut in any::<prop::sample::Index>()) {
        let bytes = expected.to_bencode().unwrap();
        let cut = cut.index(bytes.len());
        let result = tree(&mut Reader::new(&bytes[..cut]));
        prop_assert_eq!(result, Err(BencodeError::EndsEarly));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in any::<Vec<u8>>()) {
        let _ = tree(&mut Reader::new(&bytes));
    }
}

#[test]
fn depth_is_bounded() {
    let read = |depth: usize| tree(&mut Reader::new("l".repeat(depth).as_bytes()));
    assert_eq!(read(MAX_DEPTH), Err(BencodeError::EndsEarly));
    assert_eq!(read(MAX_DEPTH + 1), Err(BencodeError::TooDeep));
    assert_eq!(read(1_000_000), Err(BencodeError::TooDeep));
}

#[test]
fn tolerates_what_bendy_does_not() {
    let read = |text: &str| tree(&mut Reader::new(text.as_bytes()));
    assert_eq!(read("i007e"), Ok(Tree::Int(7)));
    assert_eq!(read("i-0e"), Ok(Tree::Int(0)));
    assert_eq!(read("i99999999999999999999999e"), Ok(Tree::Int(i64::MAX)));
    assert_eq!(read("03:abc"), Ok(Tree::Bytes(b"abc".to_vec())));
    assert_eq!(
        read("d1:bi1e1:ai2e1:bi3ee"),
        Ok(Tree::Dict([(b"b".to_vec(), Tree::Int(3)), (b"a".to_vec(), Tree::Int(2))].into()))
    );
}

#[test]
fn says_where_it_is_wrong() {
    let read = |text: &str| tree(&mut Reader::new(text.as_bytes()));
    assert_eq!(read("<html>"), Err(BencodeError::Unexpected(0)));
    assert_eq!(read("ie"), Err(BencodeError::Unexpected(1)));
    assert_eq!(read("i-e"), Err(BencodeError::Unexpected(2)));
    assert_eq!(read("di1ei2ee"), Err(BencodeError::Unexpected(1)));
    assert_eq!(read("99999999999999999999:a"), Err(BencodeError::EndsEarly));
    assert_eq!(read("e"), Err(BencodeError::Unexpected(0)));
}
