//! `/dashboard`: a page for operators that loads nothing from other servers.

use crate::dsl::{Reply, Server, TestConnection, retracker};

fn text(reply: Reply) -> String {
    assert_eq!(reply.status, 200, "{}", reply.text());
    String::from_utf8(reply.body).unwrap()
}

#[test]
fn the_page_loads_only_its_own_files() {
    let server = Server::start(&["-p"]);
    let page = text(server.get("/dashboard"));
    let mut files = 0;
    for part in page.split(['"', '\'']) {
        assert!(!part.contains("://"), "{part}");
        if part.starts_with("/dashboard/") || part == "/favicon.ico" {
            let reply = server.get(part);
            let policy = reply.header("content-security-policy").unwrap().to_owned();
            assert!(part == "/favicon.ico" || policy.contains("script-src 'self'"), "{policy}");
            assert!(!policy.contains("unsafe-eval") && !policy.contains("script-src 'unsafe"), "{policy}");
            assert_eq!(reply.status, 200, "{part}");
            files += 1;
        }
    }
    assert_eq!(files, 7, "{page}");
    assert!(text(server.get("/dashboard/uplot-license")).contains("MIT License"));
    // There must be only one policy, because a browser applies all policies of a reply together.
    let reply = server.raw("GET /dashboard HTTP/1.1\r\nConnection: close\r\n\r\n");
    let head = String::from_utf8_lossy(&reply).to_ascii_lowercase();
    assert_eq!(head.matches("content-security-policy:").count(), 1, "{head}");
}

#[test]
fn the_script_makes_no_markup_of_texts() {
    let server = Server::start(&["-p"]);
    for script in ["/dashboard/page.js", "/dashboard/torrent.js", "/copy.js"] {
        let script = text(server.get(script));
        for way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("] {
            assert!(!script.contains(way), "{way}");
        }
    }
}

#[test]
fn it_is_the_operators() {
    let server = retracker(&["--admin-listen", "127.0.0.1:0"]).start();
    assert_eq!(server.get("/dashboard").status, 404);
    let mut operator = TestConnection::to(&server.admin_addresses()[0]);
    assert!(text(operator.get("/")).contains("href=\"/dashboard\""));
    assert_eq!(operator.get("/dashboard").status, 200);
    assert_eq!(Server::start(&[]).get("/dashboard").status, 404, "the operator's pages are switched off");
}
