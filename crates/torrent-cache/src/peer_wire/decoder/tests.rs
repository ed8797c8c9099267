use super::super::message::MAX_BLOCK;
use super::*;
use proptest::prelude::*;

const PIECES: u32 = 20;

fn decoder() -> PeerMessageDecoder {
    PeerMessageDecoder::new(PIECES)
}

/// Returns a message with a length before it. The length can be wrong.
fn framed(length: u32, rest: &[u8]) -> BytesMut {
    BytesMut::from(&[&length.to_be_bytes(), rest].concat()[..])
}

fn whole(rest: &[u8]) -> BytesMut {
    framed(u32::try_from(rest.len()).unwrap(), rest)
}

/// Returns the messages in the bytes, and the fault after them, if any.
fn all(decoder: PeerMessageDecoder, buffer: &mut BytesMut) -> (Vec<PeerMessage>, Option<PeerMessageFault>) {
    let mut messages = Vec::new();
    loop {
        match decoder.decode(buffer) {
            Ok(Some(message)) => messages.push(message),
            Ok(None) => return (messages, None),
            Err(fault) => return (messages, Some(fault)),
        }
    }
}

#[test]
fn a_message_above_the_bound_is_refused_by_its_length_alone() {
    assert_eq!(decoder().decode(&mut framed(MAX_LENGTH, &[])), Ok(None));
    for length in [MAX_LENGTH + 1, u32::MAX, u32::from_be_bytes(*b"\x13Bit")] {
        assert_eq!(decoder().decode(&mut framed(length, &[])), Err(PeerMessageFault::TooLong { length }));
    }
}

#[test]
fn only_the_bitfield_of_a_large_torrent_may_be_longer() {
    let large = PeerMessageDecoder::new(8 * 100_000);
    assert_eq!(large.decode(&mut framed(100_001, &[id::BITFIELD])), Ok(None));
    assert_eq!(large.decode(&mut framed(100_002, &[])), Err(PeerMessageFault::TooLong { length: 100_002 }));
    for id in [id::PIECE, id::EXTENDED, 99] {
        let fault = large.decode(&mut framed(MAX_LENGTH + 1, &[id])).unwrap_err();
        assert!(matches!(fault, PeerMessageFault::WrongLength { most: MAX_LENGTH, .. }), "{fault}");
    }
}

#[test]
fn a_wrong_length_is_refused_by_length_and_kind_alone() {
    let fits = |id: u8, length| match decoder().decode(&mut framed(length, &[id])) {
        Ok(_) => true,
        Err(PeerMessageFault::WrongLength { .. }) => false,
        Err(other) => panic!("{other}"),
    };
    for (id, length) in [(0, 1), (1, 1), (2, 1), (3, 1), (4, 5), (5, 4), (6, 13), (8, 13)] {
        let fitting: Vec<_> = (1..=MAX_LENGTH).filter(|&length| fits(id, length)).collect();
        assert_eq!(fitting, [length], "kind {id}");
    }
    assert!(!fits(id::PIECE, 8) && fits(id::PIECE, 9) && fits(id::PIECE, MAX_LENGTH));
    assert!(!fits(id::EXTENDED, 1) && fits(id::EXTENDED, 2) && fits(id::EXTENDED, MAX_LENGTH));
}

#[test]
fn a_piece_that_the_torrent_does_not_have_is_refused() {
    let after = |id: u8, piece: u32, rest: usize| {
        decoder().decode(&mut whole(&[&[id], &piece.to_be_bytes()[..], &vec![0; rest]].concat()))
    };
    for (id, rest) in [(id::HAVE, 0), (id::REQUEST, 8), (id::CANCEL, 8), (id::PIECE, 5)] {
        assert!(after(id, PIECES - 1, rest).unwrap().is_some(), "kind {id}");
        for piece in [PIECES, u32::MAX] {
            assert_eq!(after(id, piece, rest), Err(PeerMessageFault::NoSuchPiece { piece, pieces: PIECES }));
        }
    }
    let bitfield = decoder().decode(&mut whole(&[id::BITFIELD, 0xff, 0xff, 0b1111_1000]));
    assert_eq!(bitfield, Err(PeerMessageFault::Bitfield(BitfieldFault::SpareBit)));
    let bitfield = decoder().decode(&mut whole(&[id::BITFIELD, 0xff, 0xff, 0b1111_0000]));
    assert_eq!(bitfield, Ok(Some(PeerMessage::Bitfield(PieceSet::full(PIECES)))));
}

#[test]
fn unknown_messages_are_skipped() {
    let mut bytes = BytesMut::new();
    // These are the port of the DHT; suggest, have all, have none, reject and allowed fast; and a kind that no BEP
    // defines.
    for unknown in
        [&b"\x09\x1a\xe1"[..], b"\x0d\0\0\0\x01", b"\x0e", b"\x0f", &[16; 13], b"\x11\0\0\0\x01", &[99; 3000]]
    {
        bytes.extend_from_slice(&whole(unknown));
    }
    PeerMessage::Unchoke.encode(&mut bytes);
    assert_eq!(decoder().decode(&mut bytes), Ok(Some(PeerMessage::Unchoke)));
    assert!(bytes.is_empty());
}

#[test]
fn the_data_of_a_piece_are_not_copied() {
    let mut bytes = BytesMut::new();
    let data = Bytes::from(vec![7; MAX_BLOCK as usize]);
    PeerMessage::Piece { piece: 3, begin: 0, data }.encode(&mut bytes);
    let before = bytes[13..].as_ptr();
    let Ok(Some(PeerMessage::Piece { data, .. })) = decoder().decode(&mut bytes) else { panic!("no piece") };
    assert_eq!(data.as_ptr(), before);
}

fn any_request() -> impl Strategy<Value = BlockRequest> {
    (0..PIECES, any::<u32>(), any::<u32>()).prop_map(|(piece, begin, length)| BlockRequest { piece, begin, length })
}

fn any_data() -> impl Strategy<Value = Bytes> {
    prop_oneof![0..300_usize, Just(32 * 1024)].prop_map(|length| vec![9; length].into())
}

fn any_message() -> impl Strategy<Value = PeerMessage> {
    let any_set = prop::collection::vec(0..PIECES, 0..30).prop_map(|pieces| {
        let mut set = PieceSet::empty(PIECES);
        for piece in pieces {
            set.insert(piece);
        }
        set
    });
    prop_oneof![
        Just(PeerMessage::KeepAlive),
        Just(PeerMessage::Choke),
        Just(PeerMessage::Unchoke),
        Just(PeerMessage::Interested),
        Just(PeerMessage::NotInterested),
        (0..PIECES).prop_map(PeerMessage::Have),
        any_set.prop_map(PeerMessage::Bitfield),
        any_request().prop_map(PeerMessage::Request),
        any_request().prop_map(PeerMessage::Cancel),
        (0..PIECES, any::<u32>(), any_data()).prop_map(|(piece, begin, data)| PeerMessage::Piece {
            piece,
            begin,
            data
        }),
        (any::<u8>(), any_data()).prop_map(|(id, payload)| PeerMessage::Extended { id, payload }),
    ]
}

/// Makes bytes that look like messages: kinds and lengths are often right.
fn nearly_messages() -> impl Strategy<Value = Vec<u8>> {
    let message = (0..40_u32, -1..=1_i32, prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(id, off, mut rest)| {
        if let Some(first) = rest.first_mut() {
            *first = u8::try_from(id).unwrap();
        }
        let length = u32::try_from(rest.len()).unwrap();
        framed(if id == 39 { length.saturating_add_signed(off) } else { length }, &rest).to_vec()
    });
    prop_oneof![prop::collection::vec(message, 0..8).prop_map(|messages| messages.concat()), any::<Vec<u8>>()]
}

proptest! {
    #[test]
    fn messages_are_read_as_they_were_written(messages in prop::collection::vec(any_message(), 0..10)) {
        let mut bytes = BytesMut::new();
        messages.iter().for_each(|message| message.encode(&mut bytes));
        prop_assert_eq!(all(decoder(), &mut bytes), (messages, None));
        prop_assert!(bytes.is_empty());
    }

    #[test]
    fn where_the_bytes_are_split_does_not_matter(
        bytes in nearly_messages(), mut cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let (expected, fault) = all(decoder(), &mut BytesMut::from(&bytes[..]));
        cuts.sort_unstable_by_key(|cut| cut.index(bytes.len() + 1));
        let mut messages = Vec::new();
        let mut buffer = BytesMut::new();
        let mut at = 0;
        let mut found = None;
        for end in cuts.iter().map(|cut| cut.index(bytes.len() + 1)).chain([bytes.len()]) {
            buffer.extend_from_slice(&bytes[at..end]);
            at = end;
            let (more, fault) = all(decoder(), &mut buffer);
            messages.extend(more);
            found = fault;
            if found.is_some() {
                break;
            }
        }
        prop_assert_eq!((messages, found), (expected, fault));
    }

    #[test]
    fn no_input_panics_and_what_is_read_can_be_written(bytes in nearly_messages(), pieces in 0_u32..300) {
        let decoder = PeerMessageDecoder::new(pieces);
        let (messages, _) = all(decoder, &mut BytesMut::from(&bytes[..]));
        let mut again = BytesMut::new();
        messages.iter().for_each(|message| message.encode(&mut again));
        prop_assert!(again.len() <= bytes.len());
        prop_assert_eq!(all(decoder, &mut again), (messages, None));
    }

    #[test]
    fn the_buffer_needs_room_for_one_message_only(bytes in nearly_messages()) {
        let mut buffer = BytesMut::from(&bytes[..]);
        if let (_, None) = all(decoder(), &mut buffer) {
            prop_assert!(buffer.len() < 4 + MAX_LENGTH as usize);
        }
    }
}
