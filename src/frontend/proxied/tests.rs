use super::*;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

const HEADER: &[u8] = b"PROXY TCP4 203.0.113.5 10.0.0.1 6881 80\r\n";

#[tokio::test]
async fn the_header_is_read_and_the_rest_is_kept() {
    for piece in [1, 7, HEADER.len() - 1, 1000] {
        let sent = [HEADER, b"GET / HTTP/1.1\r\n"].concat();
        let (mut proxy, mut stream) = tokio::io::duplex(4096);
        let writer = async {
            for piece in sent.chunks(piece) {
                proxy.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            drop(proxy);
        };
        let reader = async {
            let Opening { source, mut rest } = open(&mut stream).await.unwrap();
            assert_eq!(source, Some("203.0.113.5:6881".parse().unwrap()));
            stream.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, b"GET / HTTP/1.1\r\n", "in pieces of {piece}");
        };
        tokio::join!(writer, reader);
    }
}

#[tokio::test]
async fn anything_but_a_header_is_an_error() {
    for (sent, kind) in [
        (&b"GET / HTTP/1.1\r\n"[..], io::ErrorKind::InvalidData),
        (&[b'\r'; 1000], io::ErrorKind::InvalidData),
        (&HEADER[..20], io::ErrorKind::UnexpectedEof),
        (b"", io::ErrorKind::UnexpectedEof),
    ] {
        assert_eq!(open(&mut &sent[..]).await.unwrap_err().kind(), kind, "{}", sent.escape_ascii());
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_trickle_of_bytes_times_out() {
    let (mut proxy, mut stream) = tokio::io::duplex(4096);
    let start = Instant::now();
    let drip = async {
        for byte in [b"PROXY UNKNOWN ", &[b'x'; 80][..]].concat() {
            proxy.write_all(&[byte]).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        opening = open(&mut stream) => assert_eq!(opening.unwrap_err().kind(), io::ErrorKind::TimedOut),
        () = drip => panic!("the header did not time out"),
    }
    assert_eq!(start.elapsed(), HEADER_TIMEOUT);
}
