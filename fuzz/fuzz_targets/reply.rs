//! Any bytes from an upstream tracker are accepted or refused, with the same result however they are segmented. The
//! first eight input bytes are the cuts.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use retracker::forward::{AnnouncedIp, ForwarderOptions, Torrents, UpstreamProxies, probe};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::{LocalSet, yield_now};

/// Longer than any exchange with a tracker that closes, so that the result does not depend on the load of the machine.
const TIMEOUT: Duration = Duration::from_secs(60);

thread_local! {
    static RUNTIME: Runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
}

/// The outcome of an exchange with a tracker that sends these pieces.
fn outcome(pieces: &[&[u8]]) -> String {
    RUNTIME.with(|runtime| LocalSet::new().block_on(runtime, exchange(pieces)))
}

async fn exchange(pieces: &[&[u8]]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let options = ForwarderOptions {
        name: "odd".to_owned(),
        uri: format!("http://{address}/announce").parse().expect("a uri"),
        ip: AnnouncedIp::AsSeen,
        host: None,
        timeout: Some(TIMEOUT),
        numwant: None,
        rate: None,
        ca: None,
        torrents: Torrents::All,
    };
    let tracker = async {
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            answer(stream, pieces).await;
        }
    };
    let proxies = UpstreamProxies::default();
    let outcome = tokio::select! {
        outcome = probe(&options, &proxies, TIMEOUT) => outcome,
        () = tracker => unreachable!("it does not end"),
    };
    match outcome {
        Ok(probed) => format!("again in {:?}", probed.interval),
        Err(error) => format!("{} {:?}", error.label(), error.status()),
    }
}

/// Reads a request, sends the pieces, usually each after the one before was read, and closes.
async fn answer(mut stream: TcpStream, pieces: &[&[u8]]) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") && stream.read_buf(&mut request).await.is_ok_and(|read| read > 0) {}
    let _ = stream.set_nodelay(true);
    for piece in pieces {
        // The client may have closed.
        if stream.write_all(piece).await.is_err() {
            return;
        }
        yield_now().await;
        yield_now().await;
    }
    let _ = stream.shutdown().await;
    // Closing with unread bytes resets the connection, which can destroy sent bytes.
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
}

/// A redirect would leave this machine.
fn redirects(reply: &[u8]) -> bool {
    reply.windows(8).any(|name| name.eq_ignore_ascii_case(b"location"))
}

fuzz_target!(|input: &[u8]| {
    let Some((cuts, reply)) = input.split_first_chunk::<8>() else { return };
    if redirects(reply) {
        return;
    }
    let mut ends: Vec<usize> = cuts.iter().map(|&cut| usize::from(cut) % (reply.len() + 1)).collect();
    ends.extend([0, reply.len()]);
    ends.sort_unstable();
    let pieces: Vec<&[u8]> = ends.windows(2).map(|ends| &reply[ends[0]..ends[1]]).collect();
    assert_eq!(outcome(&pieces), outcome(&[reply]));
});
