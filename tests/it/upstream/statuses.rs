//! 5.2: failures and HTTP statuses.

use super::case::{Case, SECRET_TARGET, TestedUpstream, body, check, fails};
use super::replies::{around_peers, bencoded, gzip, http, one_peer, with_length};
use crate::fake_tracker::sends;

pub(super) fn refusals() -> Vec<Case> {
    let refusal = "d14:failure reason12:unregistered8:intervali1800ee";
    let echo = [b"d14:failure reason", &bencoded(format!("{SECRET_TARGET} is not here").as_bytes())[..], b"e"].concat();
    let cases: Vec<(&str, &str, Vec<u8>, &str)> = vec![
        ("a refusal", "200 OK", refusal.into(), "refused 200"),
        ("a refusal with peers beside it", "200 OK", around_peers("d14:failure reason2:no", "e"), "refused 200"),
        ("a refusal behind the peers", "200 OK", around_peers("d", "14:failure reason2:noe"), "refused 200"),
        ("retry in an integer", "200 OK", "d14:failure reason2:no8:retry ini5ee".into(), "refused 200"),
        ("retry in a string", "200 OK", "d14:failure reason2:no8:retry in2:15e".into(), "refused 200"),
        ("retry in never", "200 OK", "d14:failure reason2:no8:retry in5:nevere".into(), "refused 200"),
        ("retry in absurd", "200 OK", "d14:failure reason2:no8:retry ini-9999999999999999999ee".into(), "refused 200"),
        ("a reason that echoes", "200 OK", echo, "refused 200"),
        ("a reason of odd bytes", "200 OK", b"d14:failure reason6:\r\n\x1b[\xff\0e".to_vec(), "refused 200"),
        (
            "a very long reason",
            "200 OK",
            format!("d14:failure reason900000:{}e", "n".repeat(900_000)).into(),
            "refused 200",
        ),
        ("400 with a refusal", "400 Bad Request", refusal.into(), "refused 400"),
        ("404 with a refusal", "404 Not Found", refusal.into(), "refused 404"),
        ("500 with a refusal", "500 Internal Server Error", refusal.into(), "refused 500"),
        ("503 with a refusal", "503 Busy\r\nRetry-After: 120", refusal.into(), "refused 503"),
        ("404 with peers", "404 Not Found", one_peer(), "status 404"),
        ("500 with peers", "500 Internal Server Error", one_peer(), "status 500"),
        ("404 plain", "404 Not Found", "no such torrent".into(), "status 404"),
        ("403 HTML", "403 Forbidden", "<html>sEcReTqUeRy</html>".into(), "status 403"),
        ("410 empty", "410 Gone", vec![], "status 410"),
        ("429", "429 Too Many Requests\r\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT", vec![], "status 429"),
        ("429 without an end", "429 x\r\nRetry-After: 99999999999999999999", vec![], "status 429"),
        ("502 HTML", "502 Bad Gateway", "<html>".into(), "status 502"),
        ("503 empty", "503 Service Unavailable\r\nRetry-After: -1", vec![], "status 503"),
        ("401", "401 Unauthorized\r\nWWW-Authenticate: Basic", vec![], "status 401"),
        ("206", "206 Partial Content", one_peer(), "status 206"),
        ("300", "300 Multiple Choices", vec![], "status 300"),
        ("404 nested too deep", "404 x", "l".repeat(100_000).into(), "status 404"),
    ];
    let mut cases: Vec<_> = cases
        .into_iter()
        .map(|(name, head, body, expected)| {
            Case::new(name, TestedUpstream::Answers(sends(with_length(head, body))), expected)
        })
        .collect();
    cases.extend([
        fails("404 without a length", http("404 Not Found", refusal), "refused 404"),
        fails("404 that ends early", http("404 Not Found\r\nContent-Length: 999", "<html>"), "status 404"),
        fails("500 in broken chunks", http("500 x\r\nTransfer-Encoding: chunked", "<html>"), "status 500"),
        fails("404 in gzip", with_length("404 x\r\nContent-Encoding: gzip", gzip(refusal.as_bytes())), "refused 404"),
        fails("404 in broken gzip", with_length("404 x\r\nContent-Encoding: gzip", "<html>"), "status 404"),
        fails("204", http("204 No Content", ""), "status 204"),
        fails("304", http("304 Not Modified", ""), "status 304"),
        fails("404 too large", http("404 x\r\nContent-Length: 9999999999", "<html>"), "status 404"),
        body("a failure reason of the wrong type", around_peers("d14:failure reasonle", "e")),
        fails(
            "a refusal in gzip",
            with_length("200 OK\r\nContent-Encoding: gzip", gzip(refusal.as_bytes())),
            "refused 200",
        ),
    ]);
    cases
}

#[test]
fn s5_2_refusals_and_statuses() {
    check(refusals());
}
