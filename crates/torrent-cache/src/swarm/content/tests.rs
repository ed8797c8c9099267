use proptest::prelude::*;

use super::*;

const SMALL: u32 = 100;

fn blob(length: u64) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect()
}

fn hashes(blob: &[u8]) -> Vec<PieceHash> {
    blob.chunks(SMALL as usize).map(|piece| Sha1::digest(piece).into()).collect()
}

fn content(length: u64, hashes: Vec<PieceHash>) -> SharedContent {
    let shape = PieceShape::new(length, SMALL).unwrap();
    SharedContent::new(Arc::new(tempfile::tempfile().unwrap()), shape, hashes)
}

fn piece(blob: &[u8], piece: usize) -> &[u8] {
    blob.chunks(SMALL as usize).nth(piece).unwrap()
}

fn bytes(content: &SharedContent) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(content.progress().borrow().prefix).unwrap()];
    content.read(0, &mut bytes).unwrap();
    bytes
}

#[test]
fn the_last_piece_is_as_long_as_the_rest() {
    let shape = PieceShape::new(250, SMALL).unwrap();
    assert_eq!((shape.count, [0, 1, 2, 3].map(|piece| shape.length_of(piece))), (3, [100, 100, 50, 0]));
    assert_eq!(PieceShape::new(200, SMALL).unwrap().count, 2);
    assert_eq!(PieceShape::new(u64::MAX, SMALL), None);
}

#[test]
fn a_piece_with_another_hash_is_not_taken() {
    let blob = blob(250);
    let content = content(250, hashes(&blob));
    assert!(matches!(content.put(0, piece(&blob, 1)), Err(PieceFault::WrongHash(0))));
    assert!(matches!(content.put(7, piece(&blob, 1)), Err(PieceFault::WrongHash(7))));
    assert!(!content.has(0));
    assert!(content.put(0, piece(&blob, 0)).unwrap());
    assert!(!content.put(0, piece(&blob, 0)).unwrap());
    assert_eq!(*content.progress().borrow(), ContentProgress { prefix: 100, pieces: 1, hashes: 3, has_failed: false });
}

#[test]
fn what_the_upstream_has_begun_stays_as_it_is() {
    let (right, wrong) = (blob(250), vec![9; 250]);
    let content = content(250, hashes(&right));
    assert_eq!(content.append(0, &wrong).unwrap(), 0);
    assert_eq!(content.claim(0), Some(0));
    assert_eq!(content.append(0, &wrong[..30]).unwrap(), 30);
    assert_eq!(bytes(&content), &wrong[..30]);
    // The peer's piece is right, so the upstream's bytes are wrong. They stay: a client may have read them.
    assert!(matches!(content.put(0, piece(&right, 0)), Err(PieceFault::Differs(0))));
    assert_eq!(content.claim(1), Some(100));
    assert_eq!(content.append(100, &right[100..140]).unwrap(), 40);
    assert_eq!(content.claim(0), Some(30));
    assert!(content.put(1, piece(&right, 1)).unwrap());
    assert_eq!(content.claim(1), None);
    assert_eq!(bytes(&content), &wrong[..30]);
}

#[test]
fn a_claimed_piece_is_not_asked_of_peers() {
    let blob = blob(250);
    let content = content(250, hashes(&blob)[..2].to_vec());
    let askable = || content.choose(|may, _| [0, 1, 2].map(may));
    assert_eq!(askable(), [true, true, false]);
    content.claim(1);
    assert_eq!(askable(), [true, false, false]);
    content.learn((1..).zip(hashes(&blob)[1..].iter().copied()));
    assert_eq!(askable(), [true, false, true]);
    content.give_up_claim();
    content.put(0, piece(&blob, 0)).unwrap();
    assert_eq!(askable(), [false, true, true]);
}

proptest! {
    #[test]
    fn the_content_is_the_blob_in_whatever_order_it_comes(
        length in 1_u64..1000,
        order in prop::collection::vec(any::<u32>(), 0..40),
        step in 1_usize..150,
    ) {
        let blob = blob(length);
        let content = content(length, hashes(&blob));
        let count = content.shape().count;
        for number in order {
            let at = number % count;
            if number % 2 == 0 {
                content.put(at, piece(&blob, at as usize)).unwrap();
                prop_assert!(content.has(at));
            } else if let Some(from) = content.claim(at) {
                let from = usize::try_from(from).unwrap();
                content.append(from as u64, &blob[from..blob.len().min(from + step)]).unwrap();
            }
            prop_assert_eq!(&bytes(&content)[..], &blob[..usize::try_from(content.progress().borrow().prefix).unwrap()]);
        }
        for at in 0..count {
            content.put(at, piece(&blob, at as usize)).unwrap();
        }
        prop_assert!(content.is_complete());
        prop_assert_eq!(bytes(&content), blob);
        let (have, seen) = content.have();
        prop_assert_eq!((have.count(), seen), (count, count as usize));
        prop_assert_eq!(content.since(0).len(), count as usize);
    }
}

#[test]
fn bytes_that_come_twice_are_written_once() {
    let blob = blob(250);
    let content = content(250, Vec::new());
    content.claim(0);
    assert_eq!(content.append(0, &blob[..30]).unwrap(), 30);
    // A fetch was given up while its last bytes were being written, so the next fetch begins before these bytes.
    assert_eq!(content.append(10, &blob[10..50]).unwrap(), 40);
    assert_eq!(content.append(20, &blob[20..40]).unwrap(), 20);
    assert_eq!(content.append(60, &blob[60..70]).unwrap(), 0);
    assert_eq!(bytes(&content), &blob[..50]);
    assert_eq!(content.append(0, &blob).unwrap(), 100);
    assert!(content.has(0) && bytes(&content) == blob[..100]);
}

#[test]
fn bytes_are_counted_by_where_they_came_from() {
    let blob = blob(250);
    let content = content(250, hashes(&blob));
    content.put(2, piece(&blob, 2)).unwrap();
    content.put(2, piece(&blob, 2)).unwrap();
    content.claim(0).unwrap();
    content.append(0, &blob[..30]).unwrap();
    // A peer delivers the rest of a piece that the upstream has begun.
    content.put(0, piece(&blob, 0)).unwrap();
    assert_eq!(content.append(30, &blob[30..60]).unwrap(), 0);
    content.claim(1).unwrap();
    content.append(100, &blob[100..]).unwrap();
    assert_eq!(content.sources(), ContentSources { from_peers: 50 + 70, from_upstream: 30 + 100 });
    assert!(content.is_complete());
}
