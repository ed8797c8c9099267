//! Tests the authorisation with scripted registries.

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::time::{advance, pause, resume};

use super::*;
use crate::digest::Digest;
use crate::upstream::scripted::{Act, ScriptedServer, SeenRequest, client, head_reply, reply};
use crate::upstream::{FetchFault, UpstreamOrigin};

const LOGIN: &str = "Basic dTpw";
const PATH: &str = "/v2/a/b/blobs/sha256:x";

struct RegistrySite {
    server: ScriptedServer,
    origin: UpstreamOrigin,
    authorization: Authorization,
    digest: Digest,
    _folder: tempfile::TempDir,
}

impl RegistrySite {
    async fn new(
        auths: Option<&str>,
        stale: Duration,
        script: impl Fn(&SeenRequest) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        let server = ScriptedServer::https(script).await;
        let origin = server.origin("listed.test");
        Self::of(server, origin, auths, stale)
    }

    fn of(server: ScriptedServer, origin: UpstreamOrigin, auths: Option<&str>, stale: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let auth_file = auths.map(|login| {
            let file = folder.path().join("config.json");
            std::fs::write(&file, format!(r#"{{"auths":{{"{}":{login}}}}}"#, origin.authority())).unwrap();
            file
        });
        let options = AuthorizationOptions { stale, auth_file, ..AuthorizationOptions::default() };
        let authorization = Authorization::new(client(&[&origin]), options).unwrap();
        Self { server, origin, authorization, digest: Digest::of(b"x"), _folder: folder }
    }

    async fn relay(script: impl Fn(&SeenRequest) -> Vec<Act> + Send + Sync + 'static) -> Self {
        Self::new(None, Duration::ZERO, script).await
    }

    fn subject(&self) -> AccessSubject<'_> {
        AccessSubject { origin: &self.origin, repository: "a/b", path: PATH, digest: &self.digest, length: Some(4) }
    }

    async fn admit(&self, authorization: Option<&str>) -> Permission {
        let lines = authorization.map(|value| ("authorization", value.as_bytes()));
        let headers =
            AskHeaders::from_client(lines.into_iter().chain([("accept", &b"a/b"[..]), ("range", b"bytes=1-")]));
        let speaker = self.authorization.speaker(&headers, Ipv4Addr::LOCALHOST.into());
        self.authorization.admit(&speaker, &self.subject(), &headers).await
    }

    async fn get(&self, speaker: &Speaker) -> Result<FetchReply, FetchError> {
        let ask = Ask {
            method: AskMethod::Get,
            origin: &self.origin,
            path_and_query: PATH,
            headers: &AskHeaders::default(),
            redirects: Redirects::Follow,
        };
        self.authorization.send(ask, speaker, "a/b").await
    }
}

fn is_granted(permission: &Permission) -> bool {
    matches!(permission, Permission::Granted)
}

fn challenge_to(realm: &str) -> String {
    format!("WWW-Authenticate: Bearer realm=\"{realm}\",service=\"the registry\",scope=\"repository:x:push\"\r\n")
}

#[tokio::test]
async fn the_clients_credentials_go_with_head_to_the_same_path() {
    let mut site = RegistrySite::relay(|_| head_reply(200, "Content-Length: 4\r\n")).await;
    assert!(is_granted(&site.admit(Some(LOGIN)).await));
    let seen = site.server.seen();
    assert_eq!(seen[0].target(), format!("HEAD {PATH}"));
    assert_eq!(seen[0].header("authorization"), [LOGIN]);
    assert_eq!(seen[0].header("accept"), ["a/b"]);
    assert!(seen[0].header("range").is_empty());
}

#[tokio::test]
async fn an_empty_login_is_anonymous() {
    let mut site = RegistrySite::relay(|_| head_reply(200, "")).await;
    assert!(is_granted(&site.admit(Some("Basic Og==")).await));
    assert!(is_granted(&site.admit(None).await));
    let seen = site.server.seen();
    assert_eq!(seen.len(), 1);
    assert!(seen[0].header("authorization").is_empty());
}

#[tokio::test]
async fn a_no_is_passed_on_with_its_challenge_each_time() {
    for status in [401, 403, 404] {
        let challenge = "WWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 9\r\nContent-Type: a/b\r\nX-Y: z\r\n";
        let mut site = RegistrySite::relay(move |_| head_reply(status, challenge)).await;
        for _ in 0..2 {
            let Permission::Denied(denial) = site.admit(Some(LOGIN)).await else { panic!("{status}") };
            assert_eq!(denial.status, status);
            assert_eq!(denial.headers.len(), 1);
            assert_eq!(denial.headers["www-authenticate"], "Basic realm=\"x\"");
        }
        assert_eq!(site.server.targets().len(), 2);
    }
}

#[tokio::test]
async fn a_redirect_is_a_yes_if_it_leads_to_the_blob() {
    let site = RegistrySite::relay(|_| head_reply(307, "Location: http://127.0.0.1/\r\n")).await;
    assert!(is_granted(&site.admit(Some(LOGIN)).await));
    for (length, granted) in [(4, true), (5, false)] {
        let site = RegistrySite::relay(move |request| match request.target() {
            "HEAD /elsewhere" => head_reply(200, &format!("Content-Length: {length}\r\n")),
            _ => head_reply(302, "Location: /elsewhere\r\n"),
        })
        .await;
        assert_eq!(is_granted(&site.admit(Some(LOGIN)).await), granted);
    }
}

#[tokio::test]
async fn lengths_are_compared_where_both_are_known() {
    // The length in the cache, the header in the upstream's reply, and whether the client may have the blob.
    for (here, told, granted) in [
        (Some(4), "Content-Length: 4\r\n", true),
        (Some(4), "Content-Length: 5\r\n", false),
        (Some(4), "Content-Length: 0\r\n", true),
        (Some(0), "Content-Length: 5\r\n", false),
        (None, "Content-Length: 5\r\n", true),
        (Some(4), "", true),
    ] {
        for redirects in [false, true] {
            let site = RegistrySite::relay(move |request| match request.target() {
                "HEAD /elsewhere" => head_reply(200, told),
                _ if redirects => head_reply(302, "Location: /elsewhere\r\n"),
                _ => head_reply(200, told),
            })
            .await;
            let subject = AccessSubject { length: here, ..site.subject() };
            let headers = AskHeaders::default();
            let permission = site.authorization.admit(&Speaker::Anonymous, &subject, &headers).await;
            assert_eq!(is_granted(&permission), granted, "{here:?}, {told:?}, {redirects}");
        }
    }
}

#[tokio::test]
async fn a_server_that_refuses_head_is_asked_for_the_first_byte() {
    for (refusal, status, headers, granted) in [
        (405, 206, "Content-Range: bytes 0-0/4\r\n", true),
        (501, 206, "Content-Range: bytes 0-0/*\r\n", true),
        (405, 206, "Content-Range: bytes 0-0/5\r\n", false),
        (405, 307, "Location: http://127.0.0.1/\r\n", true),
        (501, 416, "", false),
        (405, 403, "", false),
    ] {
        let mut site = RegistrySite::relay(move |request| {
            if request.target().starts_with("HEAD ") { head_reply(refusal, "") } else { reply(status, headers, "x") }
        })
        .await;
        assert_eq!(is_granted(&site.admit(Some(LOGIN)).await), granted, "{status}");
        let seen = site.server.seen();
        assert_eq!(seen.len(), 2);
        assert_eq!(seen[1].target(), format!("GET {PATH}"));
        assert_eq!(seen[1].header("range"), ["bytes=0-0"]);
        assert_eq!(seen[1].header("authorization"), [LOGIN]);
    }
}

#[tokio::test]
async fn a_redirect_to_a_page_for_people_is_no_yes() {
    let site = RegistrySite::relay(move |request| match request.target() {
        "HEAD /login" => head_reply(200, "Content-Type: Text/HTML; charset=utf-8\r\n"),
        _ => head_reply(302, "Location: /login\r\n"),
    })
    .await;
    let subject = AccessSubject { length: None, ..site.subject() };
    let permission = site.authorization.admit(&Speaker::Anonymous, &subject, &AskHeaders::default()).await;
    assert!(matches!(permission, Permission::Unknown(_)));
}

#[tokio::test]
async fn a_yes_is_kept_for_a_minute_and_for_this_client_only() {
    let mut site = RegistrySite::relay(|request| {
        head_reply(if request.header("authorization") == [LOGIN] { 200 } else { 401 }, "")
    })
    .await;
    for _ in 0..3 {
        assert!(is_granted(&site.admit(Some(LOGIN)).await));
    }
    assert_eq!(site.server.targets().len(), 1);
    assert!(!is_granted(&site.admit(Some("Basic dTpx")).await));
    assert!(!is_granted(&site.admit(None).await));
    site.server.seen();
    pause();
    advance(Duration::from_secs(59)).await;
    assert!(is_granted(&site.admit(Some(LOGIN)).await));
    assert_eq!(site.server.targets().len(), 0);
    advance(Duration::from_secs(1)).await;
    resume();
    assert!(is_granted(&site.admit(Some(LOGIN)).await));
    assert_eq!(site.server.targets().len(), 1);
}

#[tokio::test]
async fn a_yes_for_a_token_that_is_over_is_not_kept() {
    // {"exp":1}
    let token = "Bearer e30.eyJleHAiOjF9.x";
    let mut site = RegistrySite::relay(|_| head_reply(200, "")).await;
    for _ in 0..2 {
        assert!(is_granted(&site.admit(Some(token)).await));
    }
    assert_eq!(site.server.targets().len(), 2);
}

#[tokio::test]
async fn what_an_upstream_has_served_needs_no_question() {
    let mut site = RegistrySite::relay(|_| head_reply(403, "")).await;
    let speaker = Speaker::Client(HeaderValue::from_static(LOGIN));
    site.authorization.granted(&speaker, &site.subject());
    assert!(is_granted(&site.admit(Some(LOGIN)).await));
    assert_eq!(site.server.targets().len(), 0);
}

#[tokio::test]
async fn a_failing_upstream_says_neither_yes_nor_no() {
    for (status, shown) in [(429, 429), (500, 502), (503, 502), (204, 502), (206, 502)] {
        let site = RegistrySite::relay(move |_| head_reply(status, "")).await;
        let Permission::Unknown(error) = site.admit(None).await else { panic!("{status}") };
        assert_eq!((error.fault.clone(), error.status()), (FetchFault::Status(status, None), shown));
    }
    let site = RegistrySite::relay(|_| vec![Act::Close]).await;
    assert!(matches!(site.admit(Some(LOGIN)).await, Permission::Unknown(_)));
}

#[tokio::test]
async fn what_was_public_is_served_for_a_set_time_while_the_upstream_fails() {
    for stale in [0, 300] {
        let fails = Arc::new(AtomicBool::new(false));
        let failing = Arc::clone(&fails);
        let script = move |_: &SeenRequest| head_reply(if failing.load(Ordering::SeqCst) { 503 } else { 200 }, "");
        let site = RegistrySite::new(None, Duration::from_secs(stale), script).await;
        assert!(is_granted(&site.admit(None).await));
        fails.store(true, Ordering::SeqCst);
        pause();
        advance(Duration::from_secs(299)).await;
        resume();
        assert_eq!(is_granted(&site.admit(Some(LOGIN)).await), stale > 0);
        pause();
        advance(Duration::from_secs(1)).await;
        resume();
        assert!(!is_granted(&site.admit(None).await));
    }
}

#[tokio::test]
async fn an_anonymous_client_is_served_what_was_public_after_its_own_yes_has_ended() {
    let fails = Arc::new(AtomicBool::new(false));
    let failing = Arc::clone(&fails);
    let script = move |_: &SeenRequest| head_reply(if failing.load(Ordering::SeqCst) { 503 } else { 200 }, "");
    let site = RegistrySite::new(None, Duration::from_mins(5), script).await;
    let after = |seconds| async move {
        pause();
        advance(Duration::from_secs(seconds)).await;
        resume();
    };
    assert!(is_granted(&site.admit(None).await));
    // Four minutes later the upstream grants the subject again. The five minutes start again at this time.
    after(240).await;
    assert!(is_granted(&site.admit(None).await));
    fails.store(true, Ordering::SeqCst);
    for (seconds, expected) in [(61, true), (230, true), (9, false)] {
        after(seconds).await;
        assert_eq!(is_granted(&site.admit(None).await), expected, "{seconds}");
    }
}

#[tokio::test]
async fn what_is_no_longer_public_is_not_served_while_the_upstream_fails() {
    let count = AtomicUsize::new(0);
    let script = move |_: &SeenRequest| head_reply([200, 401, 503][count.fetch_add(1, Ordering::SeqCst)], "");
    let site = RegistrySite::new(None, Duration::from_mins(5), script).await;
    assert!(is_granted(&site.admit(None).await));
    pause();
    advance(Duration::from_mins(1)).await;
    resume();
    assert!(matches!(site.admit(None).await, Permission::Denied(_)));
    assert!(matches!(site.admit(None).await, Permission::Unknown(_)));
}

/// Makes a registry that wants a token. Its token service is on the same port.
fn registry(request: &SeenRequest) -> Vec<Act> {
    let host = request.header("host")[0];
    let login = request.header("authorization");
    if request.target().starts_with("GET /token") {
        assert_eq!(login, [LOGIN]);
        return reply(200, "", r#"{"token":"t0ken","expires_in":300}"#);
    }
    if request.target().starts_with("POST /token") {
        assert!(login.is_empty());
        return reply(200, "", r#"{"access_token":"t0ken","expires_in":300}"#);
    }
    match (login.first(), request.target().starts_with("HEAD")) {
        (Some(&"Bearer t0ken"), true) => head_reply(200, ""),
        (Some(&"Bearer t0ken"), false) => reply(200, "", "blob"),
        (_, true) => head_reply(401, &challenge_to(&format!("https://{host}/token?a=b"))),
        (_, false) => reply(401, &challenge_to(&format!("https://{host}/token?a=b")), ""),
    }
}

#[tokio::test]
async fn our_own_login_gets_a_token_once_and_uses_it() {
    let mut site = RegistrySite::new(Some(r#"{"auth":"dTpw"}"#), Duration::ZERO, registry).await;
    assert!(is_granted(&site.admit(None).await));
    let token = "GET /token?a=b&service=the+registry&scope=repository%3Aa%2Fb%3Apull";
    let head = format!("HEAD {PATH}");
    assert_eq!(site.server.targets(), [&head, token, &head]);
    let reply = site.get(&Speaker::Own).await.unwrap();
    assert_eq!(reply.body.collect(9, Duration::from_secs(9)).await.unwrap(), "blob");
    assert_eq!(site.server.targets(), [format!("GET {PATH}")]);
    pause();
    advance(Duration::from_secs(290)).await;
    resume();
    assert_eq!(site.get(&Speaker::Own).await.unwrap().status, 200);
    assert_eq!(site.server.targets().len(), 3);
}

#[tokio::test]
async fn many_requests_at_once_get_one_token() {
    let mut site = RegistrySite::new(Some(r#"{"auth":"dTpw"}"#), Duration::ZERO, registry).await;
    let site_ref = &site;
    let (a, b, c, d) = tokio::join!(
        site_ref.get(&Speaker::Own),
        site_ref.get(&Speaker::Own),
        site_ref.get(&Speaker::Own),
        site_ref.get(&Speaker::Own)
    );
    for reply in [a, b, c, d] {
        assert_eq!(reply.unwrap().status, 200);
    }
    let tokens = site.server.targets().iter().filter(|target| target.starts_with("GET /token")).count();
    assert_eq!(tokens, 1);
}

#[tokio::test]
async fn an_identity_token_is_changed_for_a_token() {
    let login = r#"{"auth":"dTo=","identitytoken":"r&fresh"}"#;
    let mut site = RegistrySite::new(Some(login), Duration::ZERO, registry).await;
    assert!(is_granted(&site.admit(None).await));
    let seen = site.server.seen();
    let form = "grant_type=refresh_token&refresh_token=r%26fresh&client_id=torrent-cache&service=the+registry&scope=repository%3Aa%2Fb%3Apull";
    assert!(seen[1].text.ends_with(&format!("\r\n\r\n{form}")), "{}", seen[1].text);
}

#[tokio::test]
async fn a_token_that_is_refused_is_replaced_once() {
    let count = AtomicUsize::new(0);
    let mut site = RegistrySite::new(Some(r#"{"auth":"dTpw"}"#), Duration::ZERO, move |request| {
        let host = request.header("host")[0];
        if request.target().starts_with("GET /token") {
            let number = count.fetch_add(1, Ordering::SeqCst);
            return reply(200, "", &format!(r#"{{"token":"t{number}","expires_in":300}}"#));
        }
        reply(401, &challenge_to(&format!("https://{host}/token")), "")
    })
    .await;
    assert_eq!(site.get(&Speaker::Own).await.unwrap().status, 401);
    assert_eq!(site.server.targets().len(), 3);
    assert_eq!(site.get(&Speaker::Own).await.unwrap().status, 401);
    let seen = site.server.seen();
    let logins: Vec<_> = seen.iter().map(|request| request.header("authorization")[0]).collect();
    assert_eq!(logins, ["Bearer t0", LOGIN, "Bearer t1"]);
}

#[tokio::test]
async fn a_basic_challenge_gets_our_login() {
    let mut site = RegistrySite::new(Some(r#"{"auth":"dTpw"}"#), Duration::ZERO, |request| {
        let is_known = request.header("authorization") == [LOGIN];
        head_reply(if is_known { 200 } else { 401 }, "WWW-Authenticate: Basic realm=\"x\"\r\n")
    })
    .await;
    assert!(is_granted(&site.admit(None).await));
    assert_eq!(site.server.targets().len(), 2);
}

#[tokio::test]
async fn our_login_goes_nowhere_else() {
    let mut elsewhere = ScriptedServer::http(|_| reply(200, "", r#"{"token":"t"}"#)).await;
    for realm in [
        format!("http://cdn.test:{}/token", elsewhere.port()),
        format!("http://listed.test:{}/token", elsewhere.port()),
        format!("https://private.test:{}/token", elsewhere.port()),
        format!("https://u:p@cdn.test:{}/token", elsewhere.port()),
        "file:///etc/passwd".to_owned(),
        "javascript:alert(1)".to_owned(),
        "https://".to_owned(),
        "\\\"\\\\".to_owned(),
    ] {
        let challenge = challenge_to(&realm);
        let mut site = RegistrySite::new(Some(r#"{"auth":"dTpw"}"#), Duration::ZERO, move |request| {
            // The last realm is read as a path of the registry itself, which answers it with 404.
            if request.target().starts_with("HEAD") { head_reply(401, &challenge) } else { reply(404, "", "") }
        })
        .await;
        let permission = site.admit(None).await;
        let Permission::Unknown(error) = permission else { panic!("{realm}: {permission:?}") };
        assert!(matches!(error.fault, FetchFault::Token(_) | FetchFault::NotPublic(_)), "{realm}: {error}");
        assert!(!error.to_string().contains("dTpw"));
        site.server.seen();
    }
    assert!(elsewhere.targets().is_empty());
}

#[tokio::test]
async fn over_http_our_login_goes_to_listed_servers_only() {
    let mut elsewhere = ScriptedServer::http(|_| reply(200, "", r#"{"token":"t0ken"}"#)).await;
    for (realm, is_listed) in
        [(format!("http://cdn.test:{}/token", elsewhere.port()), false), ("/token".to_owned(), true)]
    {
        let challenge = challenge_to(&realm);
        let server = ScriptedServer::http(move |request| match request.header("authorization").first() {
            Some(&"Bearer t0ken") => head_reply(200, ""),
            Some(&LOGIN) => reply(200, "", r#"{"token":"t0ken"}"#),
            _ => head_reply(401, &challenge),
        })
        .await;
        let origin = server.origin("http://listed.test");
        let site = RegistrySite::of(server, origin, Some(r#"{"auth":"dTpw"}"#), Duration::ZERO);
        let permission = site.admit(None).await;
        assert_eq!(is_granted(&permission), is_listed, "{realm}: {permission:?}");
        assert!(is_listed || matches!(permission, Permission::Unknown(FetchError { fault: FetchFault::Token(_), .. })));
    }
    assert!(elsewhere.targets().is_empty());
}

#[tokio::test]
async fn without_a_login_for_it_the_challenge_goes_to_the_client() {
    for (auths, challenge) in [
        ("{}", challenge_to("https://cdn.test/token")),
        (r#"{"auth":"dTpw"}"#, "WWW-Authenticate: Negotiate\r\n".to_owned()),
        (r#"{"auth":"dTpw"}"#, format!("WWW-Authenticate: Bearer realm=\"{}\"\r\n", "x".repeat(9000))),
        (r#"{"auth":"dTpw"}"#, "WWW-Authenticate: Bearer realm=\"\u{e9}\r\n".to_owned()),
        (r#"{"auth":"dTpw"}"#, String::new()),
    ] {
        let site = RegistrySite::new(Some(auths), Duration::ZERO, move |_| head_reply(401, &challenge)).await;
        let permission = site.admit(None).await;
        assert!(matches!(&permission, Permission::Denied(denial) if denial.status == 401), "{auths}: {permission:?}");
    }
}

#[tokio::test]
async fn our_login_speaks_for_clients_of_trusted_networks_that_send_none() {
    let site = RegistrySite::new(Some("{}"), Duration::ZERO, |_| head_reply(200, "")).await;
    let speaker = |ip: IpAddr, headers: &AskHeaders| site.authorization.speaker(headers, ip);
    let none = AskHeaders::default();
    for trusted in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
        assert_eq!(speaker(trusted.parse().unwrap(), &none), Speaker::Own, "{trusted}");
    }
    for other in ["10.0.0.1", "::2", "::ffff:10.0.0.1"] {
        assert_eq!(speaker(other.parse().unwrap(), &none), Speaker::Anonymous, "{other}");
    }
    let login = AskHeaders::from_client([("authorization", LOGIN.as_bytes())]);
    let client = Speaker::Client(HeaderValue::from_static(LOGIN));
    assert_eq!(speaker(Ipv6Addr::LOCALHOST.into(), &login), client);
    let without = RegistrySite::relay(|_| head_reply(200, "")).await;
    assert_eq!(without.authorization.speaker(&none, Ipv4Addr::LOCALHOST.into()), Speaker::Anonymous);
}

#[tokio::test]
async fn credentials_are_not_shown() {
    let site = RegistrySite::new(Some(r#"{"auth":"dTpw"}"#), Duration::ZERO, registry).await;
    assert!(is_granted(&site.admit(None).await));
    let login = AskHeaders::from_client([("authorization", LOGIN.as_bytes())]);
    let speaker = site.authorization.speaker(&login, Ipv4Addr::LOCALHOST.into());
    let shown = format!("{speaker:?} {login:?} {:?}", site.authorization);
    assert!(!shown.contains("dTpw") && !shown.contains("t0ken"), "{shown}");
}
