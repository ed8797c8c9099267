use proptest::prelude::*;

use super::*;

const PIECE: u32 = 3 * MAX_BLOCK;

fn ip(peer: PeerNumber) -> IpAddr {
    [10, 0, 0, u8::try_from(peer % 256).unwrap()].into()
}

/// A torrent of `count` pieces of three blocks, as the picker sees it.
struct PickedTorrent {
    picker: PiecePicker,
    have: PieceSet,
    head: Option<u32>,
    now: Instant,
    from_end: bool,
}

impl PickedTorrent {
    fn new(count: u32) -> Self {
        Self {
            picker: PiecePicker::new(count),
            have: PieceSet::empty(count),
            head: None,
            now: Instant::now(),
            from_end: false,
        }
    }

    fn with_peers(count: u32, peers: &[&[u32]]) -> Self {
        let mut torrent = Self::new(count);
        peers.iter().flat_map(|has| has.iter()).for_each(|piece| torrent.picker.add(*piece));
        torrent
    }

    fn pick(&mut self, peer: PeerNumber, has: &[u32]) -> Vec<BlockRequest> {
        let mut set = PieceSet::empty(self.have.total());
        has.iter().for_each(|piece| assert!(set.insert(*piece)));
        let choice = Choice {
            peer,
            has: &set,
            own: PieceClaimant::new(&PeerId([0; 20])),
            rivals: &[],
            seeds: 0,
            may: &|piece| !self.have.contains(piece),
            head: self.head,
            missing: self.have.total() - self.have.count(),
            now: self.now,
            has_room: true,
            from_end: self.from_end,
        };
        self.picker.pick(&choice, |_| PIECE)
    }

    fn picked(&mut self, peer: PeerNumber, has: &[u32]) -> Option<u32> {
        self.pick(peer, has).first().map(|block| block.piece)
    }

    fn deliver(&mut self, peer: PeerNumber, block: &BlockRequest) -> TakenBlock {
        self.picker.take(ip(peer), block.piece, block.begin, &vec![1; block.length as usize])
    }

    fn passes(&mut self, time: Duration) {
        self.now += time;
    }
}

#[test]
fn the_rarest_piece_comes_first() {
    let mut torrent = PickedTorrent::with_peers(3, &[&[0, 1, 2], &[0, 2], &[0]]);
    assert_eq!(torrent.picked(1, &[0, 1, 2]), Some(1));
    assert_eq!(torrent.picked(1, &[0, 1, 2]), Some(2));
    assert_eq!(torrent.picked(1, &[0, 1, 2]), Some(0));
    // All pieces are under way, and this peer was asked for each of them.
    assert_eq!(torrent.picked(1, &[0, 1, 2]), None);
}

#[test]
fn beside_the_upstream_the_last_pieces_come_first() {
    let mut torrent = PickedTorrent::with_peers(5, &[&[0, 1, 2, 3, 4]]);
    assert_eq!(torrent.picked(0, &[0, 1, 2, 3, 4]), Some(0));
    torrent.from_end = true;
    assert_eq!(torrent.picked(0, &[0, 1, 2, 3, 4]), Some(4));
    assert_eq!(torrent.picked(0, &[0, 1, 2, 3, 4]), Some(3));
}

#[test]
fn the_piece_that_a_client_waits_for_comes_first_and_twice_if_it_is_late() {
    let mut torrent = PickedTorrent::with_peers(9, &[&[3], &[3], &[1]]);
    torrent.head = Some(3);
    assert_eq!(torrent.picked(1, &[1, 3]), Some(3));
    assert_eq!(torrent.picked(2, &[3]), None);
    torrent.passes(PATIENCE);
    assert_eq!(torrent.picked(1, &[3]), None);
    assert_eq!(torrent.picked(2, &[3]), Some(3));
    assert_eq!(torrent.picked(3, &[3]), None);
}

#[test]
fn a_second_peer_is_asked_sooner_as_long_as_all_are_strangers() {
    for is_proven in [false, true] {
        let mut torrent = PickedTorrent::with_peers(9, &[&[3], &[3]]);
        torrent.head = Some(3);
        if is_proven {
            torrent.picker.prove(1);
        }
        assert_eq!(torrent.picked(1, &[3]), Some(3));
        torrent.passes(FIRST_PATIENCE);
        assert_eq!(torrent.picked(2, &[3]), (!is_proven).then_some(3));
    }
}

#[test]
fn a_proven_peer_takes_over_the_piece_that_a_client_waits_for() {
    let mut torrent = PickedTorrent::with_peers(9, &[&[3], &[3], &[3], &[3, 4]]);
    torrent.head = Some(3);
    for peer in 1..=3 {
        torrent.passes(PATIENCE);
        assert_eq!(torrent.pick(peer, &[3]).len(), 3);
    }
    let wrong = BlockRequest { piece: 3, begin: 0, length: MAX_BLOCK };
    assert_eq!(torrent.deliver(1, &wrong), TakenBlock::Kept);
    // Three peers were asked, which is the most, so only a proven peer may be asked as well.
    assert_eq!((torrent.picked(4, &[3]), torrent.picker.taken_over()), (None, None));
    torrent.picker.prove(4);
    let requests = torrent.pick(4, &[3]);
    assert_eq!((requests.len(), torrent.picker.taken_over(), torrent.picker.taken_over()), (3, Some(3), None));
    // The proven peer gets `PATIENCE`, too. Then another peer may be asked as well, but may not take the piece over.
    torrent.picker.prove(5);
    assert_eq!(torrent.picked(5, &[3]), None);
    torrent.passes(PATIENCE);
    assert_eq!((torrent.picked(5, &[3]), torrent.picker.taken_over()), (Some(3), None));
    let taken: Vec<_> = requests.iter().map(|block| torrent.deliver(4, block)).collect();
    let [.., TakenBlock::Completes { givers, asked, .. }] = &taken[..] else { panic!("{taken:?}") };
    assert_eq!((&givers[..], &asked[..]), (&[ip(4)][..], &[4, 5][..]));
}

#[test]
fn a_proven_peer_takes_over_a_piece_that_was_wrong() {
    let mut torrent = PickedTorrent::with_peers(9, &[&[3], &[3]]);
    torrent.head = Some(3);
    torrent.picker.suspect(3);
    assert_eq!(torrent.picked(1, &[3]), Some(3));
    torrent.passes(PATIENCE);
    assert_eq!(torrent.picked(2, &[3]), None);
    torrent.picker.prove(2);
    assert_eq!((torrent.picked(2, &[3]), torrent.picker.taken_over()), (Some(3), Some(3)));
    // A peer that has left is not proven any more.
    torrent.picker.leave(2, &PieceSet::empty(9));
    assert_eq!(torrent.picked(1, &[3]), Some(3));
    torrent.passes(PATIENCE);
    assert_eq!(torrent.picked(2, &[3]), None);
}

#[test]
fn two_peers_share_a_piece_only_if_all_missing_ones_are_under_way() {
    let mut torrent = PickedTorrent::with_peers(3, &[&[0, 1], &[0, 1]]);
    torrent.have.insert(2);
    assert_eq!(torrent.picked(1, &[0]), Some(0));
    assert_eq!(torrent.picked(2, &[0]), None);
    assert_eq!(torrent.picked(1, &[1]), Some(1));
    let first = torrent.pick(2, &[0]);
    assert_eq!(first.iter().map(|block| block.begin / MAX_BLOCK).collect::<Vec<_>>(), [2, 1, 0]);
    // Pieces 1 and 2 are missing and not under way, so no second peer is asked for piece 0.
    let mut forming = PickedTorrent::with_peers(3, &[&[0, 1]]);
    assert_eq!(forming.picked(1, &[0]), Some(0));
    assert_eq!(forming.picked(2, &[0]), None);
}

#[test]
fn what_a_peer_leaves_undone_another_does() {
    let mut torrent = PickedTorrent::with_peers(1, &[&[0], &[0]]);
    let blocks = torrent.pick(1, &[0]);
    assert_eq!(torrent.deliver(1, &blocks[1]), TakenBlock::Kept);
    assert!(torrent.picker.is_under_way(0));
    torrent.picker.release(1);
    assert!(!torrent.picker.is_under_way(0));
    assert_eq!(torrent.pick(2, &[0]), [blocks[0], blocks[2]]);
    torrent.deliver(2, &blocks[0]);
    let TakenBlock::Completes { bytes, givers, asked } = torrent.deliver(2, &blocks[2]) else { panic!("not complete") };
    assert_eq!((bytes.len(), givers, asked), (PIECE as usize, vec![ip(1), ip(2)], vec![2]));
    assert_eq!(torrent.deliver(2, &blocks[2]), TakenBlock::Unwanted);
    torrent.picker.forget(0);
    assert_eq!(torrent.picker.count(), 0);
}

#[test]
fn a_piece_that_several_peers_made_wrong_is_asked_of_one() {
    let mut torrent = PickedTorrent::with_peers(1, &[&[0], &[0]]);
    torrent.picker.suspect(0);
    let blocks = torrent.pick(1, &[0]);
    assert_eq!(torrent.pick(2, &[0]), []);
    torrent.deliver(1, &blocks[0]);
    torrent.picker.release(1);
    assert_eq!(torrent.picker.count(), 0);
    assert_eq!(torrent.pick(2, &[0]), blocks);
}

#[test]
fn blocks_that_do_not_fit_are_not_taken() {
    let mut torrent = PickedTorrent::with_peers(2, &[&[0]]);
    let blocks = torrent.pick(1, &[0]);
    for (piece, begin, length) in
        [(1, 0, MAX_BLOCK), (0, 1, MAX_BLOCK), (0, 0, 5), (0, PIECE, MAX_BLOCK), (0, u32::MAX, 0)]
    {
        let taken = torrent.picker.take(ip(1), piece, begin, &vec![0; length as usize]);
        assert_eq!(taken, TakenBlock::Unwanted, "{piece} {begin} {length}");
    }
    assert_eq!(torrent.deliver(1, &blocks[0]), TakenBlock::Kept);
}

proptest! {
    #[test]
    fn every_piece_that_a_peer_has_arrives(count in 1_u32..20, leaves in prop::collection::vec(any::<bool>(), 60)) {
        let has: Vec<_> = (0..count).collect();
        let mut torrent = PickedTorrent::with_peers(count, &[&has, &has]);
        let mut leaves = leaves.into_iter();
        for peer in (0..).take(500) {
            let blocks = torrent.pick(peer, &has);
            if blocks.is_empty() {
                break;
            }
            let is_leaving = leaves.next().unwrap_or_default();
            for block in blocks.iter().skip(usize::from(is_leaving)) {
                if let TakenBlock::Completes { .. } = torrent.deliver(peer, block) {
                    torrent.have.insert(block.piece);
                    torrent.picker.forget(block.piece);
                }
            }
            torrent.picker.release(peer);
        }
        prop_assert!(torrent.have.is_complete());
        prop_assert_eq!(torrent.picker.count(), 0);
    }
}

#[test]
fn nothing_of_a_host_that_sent_wrong_bytes_is_kept() {
    let mut torrent = PickedTorrent::with_peers(1, &[&[0], &[0]]);
    let blocks = torrent.pick(1, &[0]);
    torrent.deliver(1, &blocks[0]);
    torrent.picker.discard(ip(2));
    torrent.picker.release(1);
    assert_eq!(torrent.pick(2, &[0]), blocks[1..]);
    torrent.deliver(2, &blocks[1]);
    torrent.picker.discard(ip(1));
    assert_eq!(torrent.pick(3, &[0]), blocks);
}

#[test]
fn each_piece_belongs_to_one_of_the_hosts_that_lack_it() {
    let hosts: Vec<_> = (1..=6).map(|number| PieceClaimant::new(&PeerId([number; 20]))).collect();
    let (nothing, all) = (PieceSet::empty(600), PieceSet::full(600));
    let mut picker = PiecePicker::new(600);
    all.iter().for_each(|piece| picker.add(piece));
    let mut counts = [0; 6];
    for piece in 0..600 {
        let owners = (0..6).filter(|own| {
            let rivals: Vec<_> =
                hosts.iter().filter(|host| **host != hosts[*own]).map(|host| (*host, &nothing)).collect();
            let choice = Choice {
                peer: 1,
                has: &all,
                own: hosts[*own],
                rivals: &rivals,
                seeds: 1,
                may: &|_| true,
                head: None,
                missing: 600,
                now: Instant::now(),
                has_room: true,
                from_end: false,
            };
            picker.rank(&choice, piece).0 == 0
        });
        let owners: Vec<_> = owners.collect();
        assert_eq!(owners.len(), 1, "{piece}: {owners:?}");
        counts[owners[0]] += 1;
    }
    assert!(counts.iter().all(|count| (60..140).contains(count)), "{counts:?}");
}
