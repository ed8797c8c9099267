//! Any bytes from a peer are read or refused, with the same result however they are segmented. What is read can be
//! written, and is read again as the same. The first eight input bytes are the cuts, the ninth the number of pieces.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use torrent_cache::peer_wire::{
    EXTENSION_HANDSHAKE_ID, ExtensionHandshake, PeerHandshake, PeerMessage, PeerMessageDecoder, PieceHashes,
};

/// What a peer has said in these pieces of a connection, and how it ends.
fn said(pieces: &[&[u8]], decoder: PeerMessageDecoder) -> (Option<PeerHandshake>, Vec<PeerMessage>, Option<String>) {
    let (mut handshake, mut messages) = (None, Vec::new());
    let mut buffer = BytesMut::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        if handshake.is_none() {
            match PeerHandshake::decode(&mut buffer) {
                Ok(Some(read)) => handshake = Some(read),
                Ok(None) => continue,
                Err(error) => return (None, messages, Some(error.to_string())),
            }
        }
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(fault) => return (handshake, messages, Some(fault.to_string())),
            }
        }
    }
    (handshake, messages, None)
}

fn check_payload(id: u8, payload: &[u8], pieces: u32) {
    if id == EXTENSION_HANDSHAKE_ID {
        if let Ok(read) = ExtensionHandshake::decode(payload) {
            assert_eq!(ExtensionHandshake::decode(&read.encode()), Ok(read));
        }
    } else if let Ok(read) = PieceHashes::decode(payload, pieces) {
        assert!(read.iter().all(|(piece, _)| piece < pieces));
        assert_eq!(PieceHashes::decode(&read.encode(), pieces), Ok(read));
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((cuts, rest)) = input.split_first_chunk::<8>() else { return };
    let Some((&pieces, bytes)) = rest.split_first() else { return };
    let pieces = u32::from(pieces);
    let decoder = PeerMessageDecoder::new(pieces);
    let whole = said(&[bytes], decoder);
    let mut ends: Vec<usize> = cuts.iter().map(|&cut| usize::from(cut) % (bytes.len() + 1)).collect();
    ends.extend([0, bytes.len()]);
    ends.sort_unstable();
    let segments: Vec<&[u8]> = ends.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect();
    assert_eq!(said(&segments, decoder), whole);

    let (Some(handshake), messages, _) = whole else { return };
    let mut written = BytesMut::new();
    handshake.encode(&mut written);
    for message in &messages {
        message.encode(&mut written);
        if let PeerMessage::Extended { id, payload } = message {
            check_payload(*id, payload, pieces);
        }
    }
    assert_eq!(said(&[&written], decoder), (Some(handshake), messages, None));
});
