use super::*;

#[test]
fn go_style_addresses() {
    let tcp = |host: &str, port| Ok(ListenAddr::Tcp { host: host.to_owned(), port });
    assert_eq!(":8080".parse(), Ok(ListenAddr::AnyTcp(8080)));
    assert_eq!("127.0.0.1:8080".parse(), tcp("127.0.0.1", 8080));
    assert_eq!("[::1]:8080".parse(), tcp("::1", 8080));
    assert_eq!("localhost:80".parse(), tcp("localhost", 80));
    assert_eq!("unix:/run/x.sock".parse(), Ok(ListenAddr::Unix("/run/x.sock".into())));
    for wrong in ["", "8080", ":", ":65536", ":http", "::1:80", "[::1]", "[x]:80", "http://x:80", "unix:", "a b:80"] {
        assert_eq!(wrong.parse::<ListenAddr>(), Err(NotAListenAddr::Other), "{wrong}");
    }
    for text in [":8080", "127.0.0.1:8080", "[::1]:8080", "localhost:80", "unix:/run/x.sock"] {
        assert_eq!(text.parse::<ListenAddr>().unwrap().to_string(), text);
    }
}

#[test]
fn addresses_for_proxies() {
    for (text, address) in [
        ("proxy+tcp://127.0.0.1:8081", "127.0.0.1:8081"),
        ("proxy+tcp://:8081", ":8081"),
        ("proxy+tcp://[::1]:8081", "[::1]:8081"),
        ("proxy+unix:/run/x.sock", "unix:/run/x.sock"),
    ] {
        let listen: Listen = text.parse().unwrap();
        assert_eq!((listen.to_string().as_str(), listen.address.to_string().as_str()), (text, address));
        assert_eq!(listen.purpose, Purpose::clients(Transport::Proxied));
        assert_eq!(address.parse::<Listen>().unwrap().purpose, Purpose::clients(Transport::Plain));
    }
    for wrong in [
        "proxy+:80",
        "proxy:80:80",
        "proxy+tcp:127.0.0.1:80",
        "proxy+tcp://",
        "proxy+tcp://unix:/run/x.sock",
        "proxy+tcp://proxy+tcp://:80",
        "proxy+udp://:80",
        "proxy+unix:",
    ] {
        assert_eq!(wrong.parse::<Listen>(), Err(NotAListenAddr::Other), "{wrong}");
    }
}

#[test]
fn addresses_over_tls() {
    for text in ["tls://:8443", "tls://127.0.0.1:8443", "tls://[::1]:8443", "tls://localhost:8443"] {
        let listen: Listen = text.parse().unwrap();
        assert_eq!((listen.to_string().as_str(), listen.purpose), (text, Purpose::clients(Transport::Tls)));
        let listen = listen.for_operators();
        assert_eq!((listen.to_string().as_str(), listen.purpose.audience), (text, Audience::Operators));
    }
    for wrong in ["tls://unix:/run/x.sock", "tls://proxy+tcp://:80", "proxy+tls://:80", "tls+unix:/run/x.sock"] {
        assert_eq!(wrong.parse::<Listen>(), Err(NotAListenAddr::NotOverTls), "{wrong}");
    }
    for wrong in ["tls:8443:1", "tls://", "tls://8443", "tls://tls://:1", "TLS://:8443", "https://:8443"] {
        assert_eq!(wrong.parse::<Listen>(), Err(NotAListenAddr::Other), "{wrong}");
    }
}

#[test]
fn udp_addresses_are_in_go_style_without_paths() {
    for (text, expected) in [
        (":6969", "udp://:6969"),
        ("127.0.0.1:6969", "udp://127.0.0.1:6969"),
        ("[::1]:6969", "udp://[::1]:6969"),
        ("localhost:6969", "udp://localhost:6969"),
    ] {
        assert_eq!(text.parse::<UdpListenAddr>().unwrap().to_string(), expected);
    }
    for wrong in ["", "6969", ":", ":65536", "::1:80", "[x]:80", "udp://:6969", "unix:/run/x.sock", "proxy+"] {
        assert_eq!(wrong.parse::<UdpListenAddr>(), Err(NotAListenAddr::Other), "{wrong}");
    }
}

#[test]
fn addresses_for_datagrams_of_proxies() {
    for text in ["proxy+udp://:6969", "proxy+udp://127.0.0.1:6969", "proxy+udp://[::1]:6969"] {
        let listen: UdpListenAddr = text.parse().unwrap();
        assert_eq!((listen.to_string().as_str(), listen.proxied), (text, true));
    }
    assert!(!":6969".parse::<UdpListenAddr>().unwrap().proxied);
    for wrong in [
        "proxy+:6969",
        "proxy+udp:6969",
        "proxy+udp://",
        "proxy+udp://unix:/run/x.sock",
        "proxy+udp://proxy+udp://:6969",
        "proxy+tcp://:6969",
        "proxy+unix:/run/x.sock",
    ] {
        assert_eq!(wrong.parse::<UdpListenAddr>(), Err(NotAListenAddr::Other), "{wrong}");
    }
}
