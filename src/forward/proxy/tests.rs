use super::*;

fn proxies(variables: &[(&str, &str)]) -> UpstreamProxies {
    let value = |name: &str| variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| value.into());
    UpstreamProxies::from_env(&value)
}

fn used(proxies: &UpstreamProxies, url: &str) -> String {
    match proxies.proxy_for(&Url::parse(url).unwrap()) {
        Ok(None) => "direct".to_owned(),
        Ok(Some(proxy)) => proxy.to_string(),
        Err(error) => error,
    }
}

#[test]
fn each_scheme_has_its_variable_and_all_proxy_is_for_both() {
    let all = proxies(&[("ALL_PROXY", "socks5h://me:secret@10.0.0.1"), ("https_proxy", "10.0.0.2:3128/")]);
    assert_eq!(used(&all, "http://t.example/"), "socks5://10.0.0.1:1080 (ALL_PROXY)");
    assert_eq!(used(&all, "https://t.example/"), "http://10.0.0.2:3128 (https_proxy)");
    let both = proxies(&[("http_proxy", ""), ("HTTP_PROXY", "HTTP://[::1]:80"), ("HTTPS_PROXY", "https://x")]);
    assert_eq!(used(&both, "http://t.example/"), "http://[::1] (HTTP_PROXY)");
    assert!(used(&both, "https://t.example/").contains("HTTPS_PROXY"));
    let wrong = proxies(&[("http_proxy", "http://:secret@"), ("https_proxy", "socks4://me:secret@x")]);
    for url in ["http://t.example/", "https://t.example/"] {
        let error = used(&wrong, url);
        assert!(error.starts_with("it needs the proxy of ") && !error.contains("secret"), "{error}");
    }
    assert_eq!(used(&proxies(&[]), "http://t.example/"), "direct");
    assert!(!format!("{all:?}").contains("secret"));
}

#[test]
fn hosts_in_no_proxy_are_asked_directly() {
    let direct = |list: &str, url: &str| used(&proxies(&[("http_proxy", "p:1"), ("NO_PROXY", list)]), url) == "direct";
    for (list, url) in [
        ("*", "http://t.example/"),
        ("example", "http://t.example/"),
        (" a.b, .Example ,", "http://t.example/"),
        ("*.example", "http://t.example/"),
        ("t.example", "http://T.example./"),
        ("t.example:80", "http://t.example/"),
        ("a b t.example", "http://t.example/"),
        ("10.0.0.1", "http://10.0.0.1:81/"),
        ("10.0.0.0/8", "http://10.0.0.1/"),
        ("10.0.0.1:81", "http://10.0.0.1:81/"),
        ("fd00::/8", "http://[fd00::1]/"),
        ("[fd00::1]:81", "http://[fd00::1]:81/"),
        ("::1", "http://[::1]/"),
        ("127.0.0.0/8", "http://[::ffff:127.0.0.1]/"),
    ] {
        assert!(direct(list, url), "{list} for {url}");
    }
    for (list, url) in [
        ("", "http://t.example/"),
        ("xample", "http://t.example/"),
        ("t.example:81", "http://t.example/"),
        ("10.0.0.2", "http://10.0.0.1/"),
        ("10.0.0.1:81", "http://10.0.0.1/"),
        ("10.0.0.0/8", "http://t.example/"),
    ] {
        assert!(!direct(list, url), "{list} for {url}");
    }
}
