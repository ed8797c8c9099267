use super::*;
use crate::AnnounceReply;
use crate::announce::{self, PeerFormat};
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

fn addresses(reply: &UpstreamReply) -> Vec<SocketAddr> {
    let v4 = reply.peers.v4.iter().map(|peer| peer.endpoint.into());
    v4.chain(reply.peers.v6.iter().map(|peer| peer.endpoint.into())).collect()
}

fn peers(body: &[u8]) -> Vec<String> {
    addresses(&parse_reply(body).unwrap()).iter().map(SocketAddr::to_string).collect()
}

#[test]
fn compact_lists_of_both_families() {
    assert_eq!(
        peers(b"d5:peers6:\x0a\x00\x00\x01\x1a\xe16:peers618:\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe1e"),
        ["10.0.0.1:6881", "[fd00::1]:6881"]
    );
}

#[test]
fn dictionaries_in_every_dress() {
    assert_eq!(
        peers(
            b"d5:peersl\
                d2:ip8:10.0.0.17:peer id20:aaaaaaaaaaaaaaaaaaaa4:porti1ee\
                d4:porti2e2:ip8:10.0.0.22:id20:bbbbbbbbbbbbbbbbbbbbe\
                d2:ip15:::ffff:10.0.0.34:porti3ee\
                d2:ip7:fd00::44:porti4ee\
                d2:ip11:example.com4:porti5ee\
                d2:ip8:10.0.0.64:porti0ee\
                d2:ip8:10.0.0.74:porti65536ee\
                d2:ip8:10.0.0.84:port2:80e\
                d2:ipi1e4:porti9ee\
                i7e0:lleee\
                e"
        ),
        ["10.0.0.1:1", "10.0.0.2:2", "10.0.0.3:3", "10.0.0.8:80", "[fd00::4]:4"]
    );
}

#[test]
fn entries_that_are_no_peers_are_counted() {
    let dropped = |body: &[u8]| parse_reply(body).unwrap().dropped;
    let unusable = |unusable| DroppedPeers { unusable, ..DroppedPeers::default() };
    assert_eq!(dropped(b"d5:peers12:\x0a\x00\x00\x01\x1a\xe1\x0a\x00\x00\x02\0\0e"), unusable(1));
    assert_eq!(
        dropped(b"d6:peers636:\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe1\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0e"),
        unusable(1)
    );
    assert_eq!(dropped(b"d5:peersld2:ip8:10.0.0.14:porti1eed2:ip11:example.com4:porti5eei7eee"), unusable(2));
    let list = [b"d5:peers12012:", &vec![1; 6 * (MAX_PEERS + 2)][..], b"e"].concat();
    assert_eq!(dropped(&list), DroppedPeers { excess: 2, ..DroppedPeers::default() });
}

#[test]
fn wrong_types_cost_only_themselves() {
    assert_eq!(
        peers(b"d8:completel1:xe8:intervali-5e5:peers6:\x0a\x00\x00\x01\x1a\xe16:peers6i7ee"),
        ["10.0.0.1:6881"]
    );
    assert_eq!(peers(b"de"), [""; 0]);
    assert_eq!(peers(b"d5:peerslee\r\n"), [""; 0]);
    assert_eq!(peers(b"d5:peersd1:ai1eee"), [""; 0]);
    assert_eq!(parse_reply(b"d8:intervali-5ee").unwrap().interval, None);
    assert_eq!(parse_reply(b"d8:intervali99999999999999ee").unwrap().interval, Some(u32::MAX));
}

#[test]
fn a_refusal_is_one_even_with_peers_beside_it() {
    let refused = |body: &[u8]| match parse_reply(body) {
        Err(UpstreamReplyError::Refused { retry, .. }) => retry,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(b"d14:failure reason2:no5:peers6:\x0a\0\0\x01\x1a\xe1e"), Retry::Unsaid);
    assert_eq!(refused(b"d14:failure reason2:no8:retry ini5ee"), Retry::Minutes(5));
    assert_eq!(refused(b"d14:failure reason2:no8:retry in2:15e"), Retry::Minutes(15));
    assert_eq!(refused(b"d8:retry in5:never14:failure reason2:noe"), Retry::Never);
    assert_eq!(refused(b"d8:retry inle14:failure reason2:noe"), Retry::Unsaid);
    assert_eq!(refused(b"d14:failure reason2:no8:intervali60ee"), Retry::Seconds(60));
    assert_eq!(refused(b"d14:failure reason2:no8:intervali60e12:min intervali3600ee"), Retry::Seconds(3600));
    assert_eq!(refused(b"d14:failure reason2:no8:intervali60e8:retry ini5ee"), Retry::Minutes(5));
    assert_eq!(refused(b"d14:failure reason2:no8:intervali-1ee"), Retry::Unsaid);
    assert_eq!(refused(b"d14:failure reason0:e"), Retry::Unsaid, "without peers there is nothing to take");
}

#[test]
fn the_first_whole_dictionary_counts_whatever_stands_around_it() {
    let list = b"d8:intervali9e5:peers6:\x0a\x00\x00\x01\x1a\xe1e";
    for before in [&b""[..], b"\xef\xbb\xbf", b"\r\n\r\n", b" \t", b"\n\xef\xbb\xbf \n"] {
        for behind in [&b""[..], b"6:peers60:", b"<!-- 3 ms -->", b"\0", b"\r\n", b"e", list] {
            assert_eq!(peers(&[before, list, behind].concat()), ["10.0.0.1:6881"]);
        }
    }
    assert!(parse_reply(list.strip_suffix(b"e").unwrap()).is_err(), "it is not whole");
}

#[test]
fn an_empty_failure_reason_beside_peers_is_none() {
    assert_eq!(peers(b"d14:failure reason0:5:peers6:\x0a\x00\x00\x01\x1a\xe1e"), ["10.0.0.1:6881"]);
}

#[test]
fn counts_that_cannot_be_are_capped() {
    for (count, complete) in [("4294967295", MAX_COUNT), ("-1", 0), ("9223372036854775807", MAX_COUNT), ("7", 7)] {
        let reply = parse_reply(format!("d8:completei{count}e10:incompletei{count}ee").as_bytes()).unwrap();
        assert_eq!((reply.complete, reply.incomplete), (complete, complete), "{count}");
    }
}

#[test]
fn upstreams_get_numbers_that_they_accept() {
    use crate::{AnnounceRequest, InfoHash};
    let query = |left, counter| {
        let request = AnnounceRequest {
            left,
            uploaded: counter,
            downloaded: counter,
            ..announce::parse(b"info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=bbbbbbbbbbbbbbbbbbbb&port=1").unwrap().0
        };
        assert_eq!(request.info_hash, InfoHash(*b"aaaaaaaaaaaaaaaaaaaa"));
        let mut query = String::new();
        put_query(&mut query, &request, 1, None, None);
        query.split('&').skip(3).take(3).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(query(Some(0), 5), "uploaded=5 downloaded=5 left=0", "a seed is one");
    assert_eq!(query(Some(7), u64::MAX), "uploaded=9223372036854775807 downloaded=9223372036854775807 left=7");
    for unknown in [None, Some(MAX_COUNTER), Some(u64::MAX)] {
        assert_eq!(query(unknown, 0), "uploaded=0 downloaded=0 left=16384", "{unknown:?}");
    }
}

#[test]
fn junk_is_junk() {
    for body in [&b""[..], b"<html>", b"5:peers", b"le", b"i1e", b"d5:peers60:", b"d5:peersle", b"\xef\xbb\xbf", b"  "]
    {
        assert!(parse_reply(body).is_err(), "{}", body.escape_ascii());
    }
}

proptest! {
    #[test]
    fn reads_what_we_write(
        v4 in proptest::collection::vec((any::<Ipv4Addr>(), any::<NonZeroU16>(), any::<[u8; 20]>()), 0..20),
        v6 in proptest::collection::vec((any::<[u16; 7]>(), any::<NonZeroU16>(), any::<[u8; 20]>()), 0..20),
        counts in any::<[u32; 5]>(),
    ) {
        let mut lists = PeerLists::default();
        for (ip, port, id) in v4 {
            lists.push(ip.into(), port, Some(PeerId(id)));
        }
        for ([b, c, d, e, f, g, h], port, id) in v6 {
            lists.push(Ipv6Addr::new(0x2001, b, c, d, e, f, g, h).into(), port, Some(PeerId(id)));
        }
        let [interval, min_interval, complete, incomplete, downloaded] = counts;
        let reply = AnnounceReply {
            interval, min_interval, complete, incomplete, downloaded,
            external_ip: Some(Ipv4Addr::LOCALHOST.into()), warning: Some("careful".into()), peers: lists,
        };
        for format in [PeerFormat::Compact, PeerFormat::Dictionaries { ids: true }] {
            let mut body = Vec::new();
            announce::encode(&reply, format, &mut body);
            let read = parse_reply(&body).unwrap();
            prop_assert_eq!(read.interval, Some(interval));
            prop_assert_eq!(read.min_interval, Some(min_interval));
            prop_assert_eq!((read.complete, read.incomplete), (complete.min(MAX_COUNT), incomplete.min(MAX_COUNT)));
            prop_assert_eq!(read.warning.as_deref(), Some(&b"careful"[..]));
            prop_assert_eq!(read.external_ip, reply.external_ip);
            if format == PeerFormat::Compact {
                let endpoints: Vec<_> = reply.peers.v4.iter().map(|peer| peer.endpoint).collect();
                prop_assert_eq!(read.peers.v4.iter().map(|peer| peer.endpoint).collect::<Vec<_>>(), endpoints);
            } else {
                prop_assert_eq!(&read.peers, &reply.peers);
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(body in any::<Vec<u8>>()) {
        let _ = parse_reply(&body);
    }

    #[test]
    fn our_queries_are_read_as_they_were_meant(
        info_hash in any::<[u8; 20]>(), peer_id in any::<[u8; 20]>(), key in any::<[u8; 8]>(),
        port in any::<u16>(), left in 0..announce::UNKNOWN_LEFT, ip in any::<Ipv4Addr>(), numwant in any::<u32>(),
    ) {
        use crate::*;
        let request = AnnounceRequest {
            info_hash: InfoHash(info_hash), peer_id: PeerId(peer_id), port: NonZeroU16::new(port),
            uploaded: 1, downloaded: 2, left: Some(left), event: Some(Event::Completed),
            numwant: NumWant::AtMost(numwant), key: Some(Key::from_slice(&key)),
            ids: false,
            claimed: ClaimedIps { ip: Some(ip.into()), ipv4: Some(ip), ipv6: None },
        };
        let mut query = String::new();
        put_query(&mut query, &request, numwant, Some(ip.into()), Some(&key));
        prop_assert_eq!(announce::parse(query.as_bytes()), Ok((request, PeerFormat::Compact)));
    }
}
