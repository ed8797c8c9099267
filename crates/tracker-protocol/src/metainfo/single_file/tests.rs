use super::*;
use proptest::prelude::*;

/// Returns a file of 40,000 bytes in three pieces.
fn small() -> MetainfoParts {
    MetainfoParts {
        name: "blob".to_owned(),
        length: 40_000,
        piece_length: MIN_PIECE_LENGTH,
        piece_hashes: vec![[7; 20], [8; 20], [9; 20]],
        private: false,
        source: None,
    }
}

fn hashes() -> String {
    [7, 8, 9].map(|byte| char::from(byte).to_string().repeat(20)).concat()
}

fn any_parts() -> impl Strategy<Value = MetainfoParts> {
    let name = "[^/\\\\\\p{Cc}]{1,60}".prop_filter("a file name", |name| is_name(name));
    let source = prop::option::of(prop::collection::vec(any::<u8>(), 1..=MAX_SOURCE));
    (name, 14_u32..=24, 1_u64..200, 0_u64..=u64::MAX, any::<bool>(), source, any::<u8>()).prop_map(
        |(name, exponent, pieces, cut, private, source, byte)| {
            let piece_length = 1 << exponent;
            MetainfoParts {
                name,
                length: pieces * u64::from(piece_length) - cut % u64::from(piece_length),
                piece_length,
                piece_hashes: (0..pieces).map(|n| [byte.wrapping_add(n.to_le_bytes()[0]); 20]).collect(),
                private,
                source,
            }
        },
    )
}

#[test]
fn it_is_written_byte_for_byte() {
    let pieces = hashes();
    let plain = Metainfo::new(small()).unwrap();
    let expected = format!("d4:infod6:lengthi40000e4:name4:blob12:piece lengthi16384e6:pieces60:{pieces}ee");
    assert_eq!(plain.encode(), expected.as_bytes());
    let secret = Metainfo::new(MetainfoParts { private: true, source: Some(b"\0key".to_vec()), ..small() }).unwrap();
    let expected = format!(
        "d4:infod6:lengthi40000e4:name4:blob12:piece lengthi16384e6:pieces60:{pieces}7:privatei1e6:source4:\0keyee"
    );
    assert_eq!(secret.encode(), expected.as_bytes());
    assert_ne!(plain.info_hash(), secret.info_hash());
    // Computed by Python's hashlib from the bytes above.
    assert_eq!(plain.info_hash().to_string(), "a773da6d8e1a30bb7b6e6a00dce2bc108cb7e372");
}

#[test]
fn other_keys_of_the_file_are_ignored() {
    let info = Metainfo::new(small()).unwrap().info();
    for (before, after) in
        [("d8:announce3:url13:creation datei1e", "e"), ("d", "8:url-listl1:a1:bee"), ("d1:ad1:bl1:cee", "1:z0:e")]
    {
        let file = [before.as_bytes(), b"4:info", &info, after.as_bytes()].concat();
        assert_eq!(Metainfo::decode(&file), Metainfo::new(small()), "{before}");
    }
}

#[test]
fn what_is_not_one_file_in_canonical_form_is_refused() {
    let pieces = hashes();
    let file = |info: &str| format!("d4:infod{info}ee");
    let good = format!("6:lengthi40000e4:name4:blob12:piece lengthi16384e6:pieces60:{pieces}");
    assert!(Metainfo::decode(file(&good).as_bytes()).is_ok());
    for (from, to, part) in [
        ("i40000e", "i040000e", "canonical"),
        ("i40000e", "i40000e6:lengthi40000e", "canonical"),
        ("6:lengthi40000e4:name4:blob", "4:name4:blob6:lengthi40000e", "canonical"),
        ("i40000e", "i0e", "length is"),
        ("i40000e", "i-1e", "length is"),
        ("i40000e", "5:40000", "length is"),
        ("6:lengthi40000e", "", "length is"),
        ("i40000e", "i99999999999999999999e", "hashes"),
        ("i40000e", "i49153e", "3 piece hashes, expected 4"),
        ("i40000e", "i32768e", "3 piece hashes, expected 2"),
        ("4:blob", "0:", "name is"),
        ("4:blob", "1:.", "name is"),
        ("4:blob", "2:..", "name is"),
        ("4:blob", "6:../etc", "name is"),
        ("4:blob", "3:a\\b", "name is"),
        ("4:blob", "3:a\0b", "name is"),
        ("i16384e", "i16385e", "piece length is"),
        ("i16384e", "i8192e", "piece length is"),
        ("i16384e", "i33554432e", "piece length is"),
        ("i16384e", "i0e", "piece length is"),
        ("6:pieces60:", "6:pieces59:", "bencode"),
        ("6:lengthi40000e", "5:filesle6:lengthi40000e", "list of files"),
        ("4:name", "12:meta versioni2e4:name", "meta version"),
    ] {
        // The test replaces the first occurrence of `from` by `to`.
        let text = file(&good.replacen(from, to, 1));
        let error = Metainfo::decode(text.as_bytes()).expect_err(&text).to_string();
        assert!(error.contains(part), "{from} → {to}: {error}");
    }
    for (end, part) in [
        ("7:privatei0e", "private is"),
        ("7:privatei2e", "private is"),
        ("7:privatei1e6:source0:", "source is"),
        ("7:privatei1e6:sourcei1e", "source is"),
        ("6:source1:a7:privatei1e", "canonical"),
        ("1:z0:", "key \"z\""),
    ] {
        let error = Metainfo::decode(file(&format!("{good}{end}")).as_bytes()).expect_err(end).to_string();
        assert!(error.contains(part), "{end}: {error}");
    }
    for text in [
        String::new(),
        "de".to_owned(),
        "le".to_owned(),
        "d4:info0:e".to_owned(),
        "d4:infodee".to_owned(),
        format!("{}x", file(&good)),
        format!("d4:infod{good}e4:infod{good}ee"),
        format!("d4:infod{good}e4:infoi1ee"),
        format!("{}{}", "l".repeat(100), "e".repeat(100)),
    ] {
        assert!(Metainfo::decode(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn the_largest_file_is_bounded() {
    let pieces = MAX_METAINFO / 20;
    let parts = MetainfoParts {
        length: pieces as u64 * u64::from(MIN_PIECE_LENGTH),
        piece_hashes: vec![[0; 20]; pieces],
        ..small()
    };
    assert_eq!(Metainfo::new(parts.clone()), Err(MetainfoError::TooLong));
    let less = MetainfoParts {
        length: (pieces - 10) as u64 * u64::from(MIN_PIECE_LENGTH),
        piece_hashes: vec![[0; 20]; pieces - 10],
        ..parts
    };
    let file = Metainfo::new(less).unwrap().encode();
    assert!(Metainfo::decode(&file).is_ok());
    let padded = [&b"d1:a"[..], format!("{MAX_METAINFO}:").as_bytes(), &vec![0; MAX_METAINFO], &file[1..]].concat();
    assert_eq!(Metainfo::decode(&padded), Err(MetainfoError::TooLong));
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(parts in any_parts()) {
        let metainfo = Metainfo::new(parts.clone()).unwrap();
        let file = metainfo.encode();
        let read = Metainfo::decode(&file).unwrap();
        prop_assert_eq!(read.info_hash(), metainfo.info_hash());
        prop_assert_eq!(read.encode(), file);
        prop_assert_eq!(read.into_parts(), parts);
    }

    #[test]
    fn the_info_hash_is_that_of_the_bytes_in_the_file(parts in any_parts()) {
        let metainfo = Metainfo::new(parts).unwrap();
        let file = metainfo.encode();
        let info = crate::metainfo::info(&file).unwrap().unwrap();
        prop_assert!(info.is_v1);
        prop_assert_eq!(InfoHash(Sha1::digest(info.bytes).into()), metainfo.info_hash());
    }

    #[test]
    fn a_changed_byte_is_refused_or_another_file(parts in any_parts(), at in any::<prop::sample::Index>(), byte: u8) {
        let metainfo = Metainfo::new(parts).unwrap();
        let mut file = metainfo.encode();
        let at = at.index(file.len());
        prop_assume!(file[at] != byte);
        file[at] = byte;
        if let Ok(other) = Metainfo::decode(&file) {
            prop_assert_eq!(other.encode(), file);
            prop_assert_ne!(other.info_hash(), metainfo.info_hash());
        }
    }

    #[test]
    fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Metainfo::decode(&bytes);
        let _ = Metainfo::decode(&[b"d4:infod", &bytes[..], b"ee"].concat());
    }
}
