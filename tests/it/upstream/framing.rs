//! 5.2, 5.3, 5.5: framings and encodings of replies, and replies that cannot be read.

use std::time::Duration;

use super::case::{Case, SECRET_TARGET, TestedUpstream, body, check, fails, succeeds};
use super::replies::{around_peers, chunk, chunked, gzip, http, ok, one_peer, stored, with_length, with_peers, zlib};
use crate::fake_tracker::{drips, sends_and_stays};

pub(super) fn every_framing() -> Vec<Case> {
    let reply = one_peer();
    let bytes: Vec<u8> = reply.iter().flat_map(|byte| chunk(&[*byte])).collect();
    let interim = |head: &str| http(head, ok(one_peer()));
    let unix = String::from_utf8(ok("")).unwrap().replace("Content-Length: 0", "Content-Length: 33").replace('\r', "");
    vec![
        succeeds("HTTP/1.1 without a length", http("200 OK\r\nContent-Type: text/plain", &reply)),
        succeeds("HTTP/1.0 without a length", [b"HTTP/1.0 200 OK\r\n\r\n".to_vec(), reply.clone()].concat()),
        succeeds(
            "HTTP/1.0 with a length",
            [b"HTTP/1.0 200 OK\r\nContent-Length: 33\r\n\r\n".to_vec(), reply.clone()].concat(),
        ),
        succeeds("no length, trailing line end", http("200 OK", [&reply[..], b"\r\n"].concat())),
        succeeds("no reason phrase", with_length("200", &reply)),
        succeeds("a long reason phrase", with_length(&format!("200 {}", "OK ".repeat(100)), &reply)),
        succeeds("line ends of Unix", [unix.into_bytes(), reply.clone()].concat()),
        succeeds("an empty line first", [b"\r\n".to_vec(), ok(&reply)].concat()),
        succeeds("content type of HTML", http("200 OK\r\nContent-Type: text/html; charset=utf-8", &reply)),
        succeeds("headers beyond ASCII", with_length("200 OK\r\nServer: \u{e9}\u{fffd}\t", &reply)),
        succeeds("two hundred headers", with_length(&format!("200 OK{}", "\r\nX: y".repeat(200)), &reply))
            .fails("too_large error|junk error"),
        Case::new("a length, and the connection stays", TestedUpstream::Answers(sends_and_stays(ok(&reply))), "ok 200"),
        Case::new(
            "keep-alive promised",
            TestedUpstream::Answers(sends_and_stays(with_length("200 OK\r\nConnection: keep-alive", &reply))),
            "ok 200",
        ),
        Case::new(
            "the end of chunks, and the connection stays",
            TestedUpstream::Answers(sends_and_stays(chunked([&chunk(&reply)[..], b"0\r\n\r\n"].concat()))),
            "ok 200",
        ),
        Case::new(
            "an upgrade offered",
            TestedUpstream::Answers(sends_and_stays(with_length(
                "200 OK\r\nUpgrade: h2,h2c\r\nConnection: Upgrade",
                &reply,
            ))),
            "ok 200",
        ),
        Case::new(
            "keep-alive of HTTP/1.0",
            TestedUpstream::Answers(sends_and_stays(
                [b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 33\r\n\r\n", &reply[..]].concat(),
            )),
            "ok 200",
        ),
        succeeds("two equal lengths", http("200 OK\r\nContent-Length: 33\r\nContent-Length: 33", &reply)),
        succeeds("a length twice in one header", http("200 OK\r\nContent-Length: 33, 33", &reply)),
        succeeds("chunked with HTTP/1.0", {
            let head = b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            [head, chunk(&reply), b"0\r\n\r\n".to_vec()].concat()
        })
        .fails("ok 200|junk 200|junk error"),
        succeeds("chunked", chunked([&chunk(&reply)[..], b"0\r\n\r\n"].concat())),
        succeeds("chunked byte by byte", chunked([&bytes[..], b"0\r\n\r\n"].concat())),
        // The last chunk is missing, but the dictionary is complete.
        succeeds("chunked without the end", chunked(chunk(&reply))),
        succeeds("chunked with extensions and trailers", {
            let head = format!("{:X};name=\"value\"\r\n", reply.len());
            chunked([head.as_bytes(), &reply, b"\r\n0\r\nTrailer: x\r\n\r\n"].concat())
        }),
        succeeds("chunked and with a wrong length", {
            let body = [&chunk(&reply)[..], b"0\r\n\r\n"].concat();
            http("200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked", body)
        }),
        succeeds("100 Continue first", interim("100 Continue")),
        succeeds(
            "100, 102 and 103 first",
            http("100 Continue", http("102 Processing", interim("103 Early Hints\r\nLink: x"))),
        ),
        Case::new(
            "in pieces",
            TestedUpstream::Answers(drips(
                with_length("200 OK\r\nContent-Encoding: gzip", gzip(&reply)),
                Duration::from_millis(1),
            )),
            "ok 200",
        ),
        Case::new(
            "a second response behind the first",
            TestedUpstream::Answers(sends_and_stays([ok(&reply), ok(with_peers(&["10.6.6.6:6"]))].concat())),
            "ok 200",
        ),
    ]
}

pub(super) fn every_encoding() -> Vec<Case> {
    let reply = one_peer();
    vec![
        succeeds("gzip", with_length("200 OK\r\nContent-Encoding: gzip", gzip(&reply))),
        succeeds("gzip without a length", http("200 OK\r\nContent-Encoding: gzip", gzip(&reply))),
        succeeds("gzip in chunks", {
            let bytes: Vec<u8> = gzip(&reply).iter().flat_map(|byte| chunk(&[*byte])).collect();
            let head = "200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked";
            http(head, [&bytes[..], b"0\r\n\r\n"].concat())
        }),
        succeeds("gzip under its old name", with_length("200 OK\r\nContent-Encoding: x-gzip", gzip(&reply))),
        succeeds("gzip with a line end behind it", {
            http("200 OK\r\nContent-Encoding: gzip", [gzip(&reply), b"\r\n".to_vec()].concat())
        }),
        succeeds("gzip without a Content-Encoding", with_length("200 OK", gzip(&reply))),
        succeeds("deflate without its head", with_length("200 OK\r\nContent-Encoding: deflate", stored(&reply))),
        succeeds("gzip in two members", {
            let (a, b) = reply.split_at(10);
            with_length("200 OK\r\nContent-Encoding: gzip", [gzip(a), gzip(b)].concat())
        }),
        succeeds("gzip in upper case", with_length("200 OK\r\nContent-Encoding: GZIP", gzip(&reply))),
        succeeds("deflate, which was not accepted", with_length("200 OK\r\nContent-Encoding: deflate", zlib(&reply))),
        succeeds("identity", with_length("200 OK\r\nContent-Encoding: identity", &reply)),
    ]
}

#[test]
fn s5_3_replies_in_every_framing_and_encoding() {
    check(every_framing());
    check(every_encoding());
}

/// Replies that are not HTTP, and HTTP replies whose body is not a bencoded dictionary.
pub(super) fn junk() -> Vec<Case> {
    let reply = one_peer();
    let nested = |open: &str, depth: usize| {
        let ends = "e".repeat(depth);
        around_peers(&format!("d1:a{}{ends}", open.repeat(depth)), "e")
    };
    vec![
        fails("plain text", ok("Service is down for maintenance"), "junk 200"),
        fails("HTML", ok("<!DOCTYPE html><html><body>passkey sEcReTqUeRy</body></html>"), "junk 200"),
        fails("the secret target as text", ok(SECRET_TARGET), "junk 200"),
        fails("JSON", ok("{\"peers\": []}"), "junk 200"),
        fails("an empty body", ok(""), "junk 200"),
        fails("an empty body without a length", http("200 OK", ""), "junk 200"),
        fails("an empty body in chunks", chunked("0\r\n\r\n"), "junk 200"),
        fails("a string", ok("5:peers"), "junk 200"),
        fails("a list", ok("le"), "junk 200"),
        fails("a key that is not a string", ok("di1ei2ee"), "junk 200"),
        fails("a length beyond 64 bits", ok("d5:peers99999999999999999999:e"), "truncated 200|junk 200"),
        fails("a negative length", ok("d5:peers-1:e"), "junk 200"),
        fails("lists nested too deep", ok(nested("l", 17)), "junk 200"),
        fails("dictionaries nested too deep", ok(nested("d1:a", 17)), "junk 200"),
        fails("a bomb of lists", ok("l".repeat(1024 * 1024)), "junk 200"),
        fails("a bomb of dictionaries", ok("d1:a".repeat(256 * 1024)), "junk 200"),
        fails(
            "a bomb of lists in a dictionary of peers",
            ok(format!("d5:peersld1:a{}", "l".repeat(900_000))),
            "junk 200",
        ),
        fails("no HTTP but bencode", reply.clone(), "junk error"),
        fails("no HTTP but SSH", b"SSH-2.0-OpenSSH_10.0\r\n".to_vec(), "junk error"),
        fails("no HTTP but bytes", (0..=255).cycle().take(10_000).collect::<Vec<_>>(), "junk error"),
        fails("no HTTP but TLS", b"\x15\x03\x01\0\x02\x02\x46".to_vec(), "junk error"),
        fails("no HTTP but zeros", vec![0; 100_000], "junk error|too_large error"),
        fails("a status that is a word", http("abc OK", &reply), "junk error"),
        fails("a status of two digits", http("20 OK", &reply), "junk error"),
        fails("a status of four digits", http("2000 OK", &reply), "junk error"),
        fails("a status of zeros", http("000 OK", &reply), "junk error"),
        fails("a status beyond all classes", with_length("999 What", &reply), "status 999|junk error"),
        fails("another protocol", b"ICY 200 OK\r\n\r\nde".to_vec(), "junk error"),
        fails("another version", b"HTTP/3.0 200 OK\r\n\r\nde".to_vec(), "junk error"),
        fails(
            "HTTP/2",
            b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64\0\x04\0\x10\0\0\0\x06\0\x10\x14\0".to_vec(),
            "junk error",
        ),
        fails("a header without a colon", http("200 OK\r\nsEcReTpAtH", &reply), "junk error"),
        fails("a header with a zero", http("200 OK\r\nA: \0", &reply), "junk error"),
        fails("switched protocols", http("101 Switching Protocols\r\nUpgrade: x", &reply), "junk error|status 101"),
        fails("nothing but interim replies", http("100 Continue", ""), "truncated error"),
    ]
}

/// Replies that are cut off, or that contradict their own framing.
pub(super) fn broken() -> Vec<Case> {
    let reply = one_peer();
    let short = &reply[..reply.len() - 1];
    let cut = [format!("{:x}\r\n", reply.len()).as_bytes(), short].concat();
    vec![
        fails("ends early without a length", http("200 OK", short), "truncated 200"),
        fails("ends early with HTTP/1.0", [b"HTTP/1.0 200 OK\r\n\r\n", short].concat(), "truncated 200"),
        fails("ends before its length", http("200 OK\r\nContent-Length: 34", &reply), "truncated 200"),
        fails("a length smaller than the body", http("200 OK\r\nContent-Length: 32", &reply), "truncated 200"),
        fails("ends within a chunk", chunked(&cut), "truncated 200"),
        fails("ends within the head", b"HTTP/1.1 200 OK\r\nContent-".to_vec(), "truncated error"),
        fails("ends within the status line", b"HTTP/1".to_vec(), "truncated error|junk error"),
        fails(
            "two different lengths",
            http("200 OK\r\nContent-Length: 33\r\nContent-Length: 32", &reply),
            "junk error",
        ),
        fails("a length that is a word", http("200 OK\r\nContent-Length: many", &reply), "junk error"),
        fails("a length that is negative", http("200 OK\r\nContent-Length: -33", &reply), "junk error"),
        fails("a length beyond the bound", http("200 OK\r\nContent-Length: 9999999999", &reply), "too_large 200"),
        fails(
            "a length beyond 64 bits",
            http("200 OK\r\nContent-Length: 99999999999999999999", &reply),
            "too_large 200|junk error",
        ),
        fails("chunks without sizes", chunked(&reply), "junk 200"),
        fails("a chunk of negative size", chunked([b"-1\r\n", &reply[..]].concat()), "junk 200"),
        fails(
            "a chunk beyond 64 bits",
            chunked([b"fffffffffffffffff\r\n", &reply[..]].concat()),
            "junk 200|too_large 200",
        ),
        fails(
            "a chunk of nearly 64 bits",
            chunked([b"ffffffffffffffff\r\n", short].concat()),
            "truncated 200|junk 200|too_large 200",
        ),
        fails("a chunk longer than its size", chunked([b"3\r\n", &reply[..], b"\r\n0\r\n\r\n"].concat()), "junk 200"),
        fails(
            "chunks of an unknown coding",
            http("200 OK\r\nTransfer-Encoding: x, y", &reply),
            "junk error|junk 200|ok 200",
        ),
        fails("gzip that is not gzip", with_length("200 OK\r\nContent-Encoding: gzip", &reply), "junk 200"),
        fails(
            "gzip that ends early",
            http("200 OK\r\nContent-Encoding: gzip", &gzip(&reply)[..30]),
            "junk 200|truncated 200",
        ),
        fails(
            "gzip with a wrong sum",
            {
                let mut gzip = gzip(&reply);
                let end = gzip.len();
                gzip[end - 8] ^= 1;
                with_length("200 OK\r\nContent-Encoding: gzip", gzip)
            },
            "junk 200",
        ),
        fails("gzip of HTML", with_length("200 OK\r\nContent-Encoding: gzip", gzip(b"<html>")), "junk 200"),
        fails("brotli", with_length("200 OK\r\nContent-Encoding: br", b"\x0b\x02\x80de\x03"), "junk 200"),
    ]
}

#[test]
fn s5_2_unreadable_replies() {
    check(junk());
    check(broken());
}

#[test]
fn s5_5_sixteen_levels_are_read() {
    // The outer dictionary counts as one of the 16 levels.
    let reply = around_peers(&format!("d1:a{}{}", "l".repeat(15), "e".repeat(15)), "e");
    check(vec![body("sixteen levels", reply)]);
}
