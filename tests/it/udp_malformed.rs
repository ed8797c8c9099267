//! Bad datagrams (section 6). They cause no crash, and the server keeps nothing of them. The reply to a datagram without
//! a valid id is at most as large as the datagram.

use std::time::Duration;

use crate::dsl::{Server, eventually, id};
use crate::udp::server;
use crate::udp_client::{TRANSACTION, UdpAnnounce, UdpClient, connect_packet, scrape_packet, udp_announce};

#[test]
fn s6_6_packets_cut_at_every_length() {
    let server = server(&[]);
    let client = UdpClient::of(&server);
    let silent = |packet: &[u8]| {
        let answers = client.answers(packet);
        assert!(answers.is_empty(), "{}: {answers:?}", packet.escape_ascii());
    };
    let connect = connect_packet(TRANSACTION);
    (0..connect.len()).for_each(|length| silent(&connect[..length]));
    let announce = udp_announce("t", "a").packet(client.id);
    (0..announce.len()).for_each(|length| silent(&announce[..length]));
    // A scrape without a complete hash is refused. The client gets the error, because its id is valid.
    let scrape = scrape_packet(client.id, &[id("t")]);
    (0..16).for_each(|length| silent(&scrape[..length]));
    (16..scrape.len())
        .for_each(|length| assert!(client.refused(&scrape[..length]).starts_with("info_hash is missing")));
    // Options may be cut off at any byte.
    let options = [&b"\x02\x09/announce\x01\x02\xff"[..], &[b'x'; 255]].concat();
    for length in 0..options.len() {
        let announce = UdpAnnounce { options: options[..length].to_vec(), ..udp_announce("t", "a") };
        assert_eq!(client.answers(&announce.packet(client.id)).len(), 1, "{length} bytes of options");
    }
    // 60,000 bytes of options are read.
    let announce = UdpAnnounce { options: vec![1; 60_000], ..udp_announce("t", "a") };
    assert_eq!(client.answers(&announce.packet(client.id)).len(), 1);
}

#[test]
fn s6_6_unknown_actions() {
    let server = server(&[]);
    let client = UdpClient::of(&server);
    for action in [0_u32, 3, 4, 0x0100_0000, u32::MAX] {
        let packet = [&client.id[..], &action.to_be_bytes(), &TRANSACTION, &[0; 100]].concat();
        assert!(client.answers(&packet).is_empty(), "{action}");
    }
}

#[test]
fn s6_6_hundreds_of_thousands_of_random_datagrams() {
    const COUNT: u32 = 300_000;
    let server = server(&["-p"]);
    let client = UdpClient::of(&server);
    let mut random = Random(1);
    let seen = |reason: &str| {
        let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
        let name = format!("retracker_udp_errors_total{{reason=\"{reason}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&name)?.parse::<u32>().ok()).unwrap()
    };
    for n in 0..COUNT {
        client.send(&random.packet());
        if n % 100 == 0 {
            // The test waits for the answers after every hundredth packet, so that few packets are lost. A reply to a
            // request without a valid id is at most as large as the request.
            for answer in client.answers(&random.packet()) {
                assert!(answer.len() <= 33, "{}", answer.escape_ascii());
            }
        }
    }
    let read = seen("malformed") + seen("unknown_id");
    assert!(read > COUNT / 10, "{read} of {COUNT} were read");
    while !client.answers(b"").is_empty() {}
    client.announce(&udp_announce("t", "a"));
    #[cfg(target_os = "linux")]
    idles(&server, &client);
    let exit = server.stop();
    assert_eq!((exit.code, exit.stderr.iter().any(|line| line.contains("panicked"))), (Some(0), false));
}

#[test]
fn s6_6_no_answer_is_larger_than_what_an_unknown_client_sent() {
    let server = server(&[]);
    let client = UdpClient::of(&server);
    let mut random = Random(2);
    for _ in 0..20_000 {
        let packet = random.packet();
        let answers = client.answers(&packet);
        let bytes: usize = answers.iter().map(Vec::len).sum();
        assert!(answers.len() <= 1 && bytes <= packet.len(), "{}: {answers:?}", packet.escape_ascii());
    }
}

/// Waits until the server uses no processor time.
#[cfg(target_os = "linux")]
fn idles(server: &Server, client: &UdpClient) {
    client.socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    eventually("the server idles", || {
        let before = server.processor_ticks();
        assert!(client.socket.recv(&mut [0; 2048]).is_err(), "the server sent a datagram without a request");
        (server.processor_ticks() - before <= 1).then_some(())
    });
}

/// Random numbers, the same in every run (xorshift).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Returns a packet of random bytes. Half of the packets have the head of a request, but none has an issued id.
    pub(crate) fn packet(&mut self) -> Vec<u8> {
        let length = usize::try_from(self.next() % 140).unwrap();
        let mut packet: Vec<u8> = std::iter::repeat_with(|| self.next().to_be_bytes()[3]).take(length).collect();
        if length >= 12 {
            match self.next() % 8 {
                0 => packet[..12].copy_from_slice(&connect_packet(TRANSACTION)[..12]),
                1 => packet[8..12].copy_from_slice(&[0, 0, 0, 0]),
                2 => packet[8..12].copy_from_slice(&[0, 0, 0, 1]),
                3 => packet[8..12].copy_from_slice(&[0, 0, 0, 2]),
                _ => {}
            }
        }
        packet
    }
}
