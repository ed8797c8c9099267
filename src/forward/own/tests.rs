use super::*;

const INTERNET: ReplyOrigin = ReplyOrigin::UNKNOWN;
const NETWORK: ReplyOrigin = ReplyOrigin { is_public: false, ip: Some(IpAddr::V4(Ipv4Addr::new(10, 20, 30, 41))) };
const LOOPBACK: ReplyOrigin = ReplyOrigin { is_public: false, ip: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)) };

fn listeners(addresses: &[&str]) -> Listeners {
    let listeners = Listeners::default();
    listeners.set(addresses.iter().map(|address| address.parse().unwrap()).collect());
    listeners
}

#[test]
fn redirects_lead_neither_to_this_host_nor_to_a_link() {
    let listeners = listeners(&["127.0.0.1:8080"]);
    let may = |origin, address: &str| listeners.allows_redirect(origin, address.parse().unwrap());
    for never in [
        "169.254.169.254:80",
        "[fe80::1]:80",
        "[::ffff:169.254.169.254]:80",
        "[64:ff9b::a9fe:a9fe]:80",
        "[2002:a9fe:a9fe::1]:80",
        "[fd00:ec2::254]:80",
        "100.100.100.200:80",
        "127.0.0.1:8080",
        "[::ffff:127.0.0.1]:8080",
    ] {
        assert_eq!([INTERNET, NETWORK, LOOPBACK].map(|origin| may(origin, never)), [false; 3], "{never}");
    }
    for loopback in ["127.0.0.1:80", "127.9.9.9:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
        assert_eq!(
            [INTERNET, NETWORK, LOOPBACK].map(|origin| may(origin, loopback)),
            [false, false, true],
            "{loopback}"
        );
    }
    for nowhere in ["0.0.0.0:80", "[::]:80", "[64:ff9b::7f00:1]:80", "[64:ff9b:1::7f00:1]:80", "[2002:7f00:1::]:80"] {
        assert_eq!([INTERNET, NETWORK, LOOPBACK].map(|origin| may(origin, nowhere)), [false; 3], "{nowhere}");
    }
    assert_eq!([INTERNET, NETWORK, LOOPBACK].map(|origin| may(origin, "10.20.30.40:80")), [false, true, true]);
    assert_eq!([INTERNET, NETWORK, LOOPBACK].map(|origin| may(origin, "1.1.1.1:80")), [true; 3]);
    // If this host has an address other than loopback, only upstreams at that address or on loopback may redirect
    // there.
    if let Some(own) = address_towards("192.88.99.1:9".parse().unwrap()).filter(|ip| !ip.is_loopback()) {
        let address = SocketAddr::new(own, 80).to_string();
        let itself = ReplyOrigin { is_public: false, ip: Some(own) };
        assert_eq!([NETWORK, itself, LOOPBACK].map(|origin| may(origin, &address)), [false, true, true], "{own}");
        assert!(!may(itself, "127.0.0.1:80"));
    }
}

#[test]
fn peers_that_an_upstream_cannot_know_are_dropped() {
    let listeners = listeners(&["0.0.0.0:8080"]);
    let kept = |origin, addresses: &[&str]| {
        let mut peers = PeerLists::default();
        for address in addresses {
            let address: SocketAddr = address.parse().unwrap();
            peers.push(address.ip(), NonZeroU16::new(address.port()).unwrap(), None);
        }
        listeners.drop_implausible(&mut peers, origin);
        let v4 = peers.v4.iter().map(|peer| SocketAddr::from(peer.endpoint).to_string());
        v4.chain(peers.v6.iter().map(|peer| SocketAddr::from(peer.endpoint).to_string())).collect::<Vec<_>>()
    };
    let never = [
        "127.0.0.1:6379",
        "127.9.9.9:1",
        "0.0.0.0:1",
        "169.254.1.1:1",
        "127.0.0.1:8080",
        "[::1]:1",
        "[fe80::1]:1",
        "[64:ff9b::7f00:1]:1",
    ];
    assert_eq!(kept(LOOPBACK, &never), [""; 0]);
    let private = ["192.168.1.1:80", "10.1.1.1:1", "100.64.1.1:1", "[fd00::1]:1"];
    assert_eq!(kept(NETWORK, &private), private);
    assert_eq!(kept(INTERNET, &private), [""; 0]);
    assert_eq!(kept(INTERNET, &["64.0.0.1:8080", "[2a00::1]:1"]), ["64.0.0.1:8080", "[2a00::1]:1"]);
    let many: Vec<_> = (0..100).map(|n| format!("64.0.0.{n}:8080")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    assert_eq!(kept(INTERNET, &many), many[..MAX_COMPARISONS]);
}

#[test]
fn redirects_lead_from_outside_to_outside_only() {
    let private = [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "198.18.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
        "64:ff9b::192.168.0.1",
        "2002:a00:1::1",
        "fc00::1",
        "fdff::1",
        "fe80::1",
        "ff02::1",
    ];
    let public = [
        "1.1.1.1",
        "100.63.0.1",
        "100.128.0.1",
        "172.32.0.1",
        "192.169.0.1",
        "::ffff:1.1.1.1",
        "2606:4700::1111",
        "64:ff9b::1.1.1.1",
    ];
    let may = |ip: &&str| Listeners::default().allows_redirect(INTERNET, (ip.parse::<IpAddr>().unwrap(), 80).into());
    assert_eq!(private.iter().filter(|ip| may(ip)).count(), 0);
    assert!(public.iter().all(may));
}
