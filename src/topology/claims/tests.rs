use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn ips(ip: &str) -> ClaimedIps {
    ClaimedIps { ip: Some(self::ip(ip)), ..ClaimedIps::default() }
}

/// Returns where a client is recorded: `10.0.0.1`, `10.0.0.9 (claim)` or `10.0.0.1, outside 8.8.8.8`.
fn recorded(ip_param: IpParam, source: &str, claimed: &ClaimedIps, is_passed_on: bool) -> String {
    let source = ip(source);
    let Addresses { ip, is_claim, outside } = ip_param.addresses(source, claimed, is_passed_on);
    let outside = outside.map(|ip| format!(", outside {ip}")).unwrap_or_default();
    format!("{ip}{}{outside}", if is_claim { " (claim)" } else { "" })
}

#[test]
fn claims_count_from_this_network_only() {
    let claims = |source, claimed| recorded(IpParam::Private, source, &ips(claimed), false);
    for local in ["127.0.0.1", "10.1.2.3", "192.168.1.1", "172.16.0.1", "::1", "fd00::1", "169.254.1.1", "fe80::1"] {
        assert_eq!(claims(local, "192.168.1.15"), "192.168.1.15 (claim)");
        for useless in
            ["0.0.0.0", "224.0.0.1", "169.254.1.9", "ff02::1", "fe80::9", "::", "255.255.255.255", "240.0.0.1"]
        {
            assert_eq!(claims(local, useless), local, "{useless}");
        }
    }
    assert_eq!(claims("10.1.2.3", "10.1.2.3"), "10.1.2.3");
    assert_eq!(claims("10.1.2.3", "127.0.0.1"), "10.1.2.3");
    assert_eq!(claims("127.0.0.1", "127.0.0.7"), "127.0.0.7 (claim)");
    for stranger in ["8.8.8.8", "172.32.0.1", "100.64.0.1", "2600::1", "2001:db8::1"] {
        assert_eq!(claims(stranger, "192.168.1.15"), stranger);
    }
}

#[test]
fn a_public_claim_from_a_private_address_is_the_address_outside() {
    for claimed in ["8.8.8.8", "2600::5", "203.0.113.7"] {
        for source in ["10.1.2.3", "fd00::1", "169.254.1.1", "fe80::1"] {
            assert_eq!(
                recorded(IpParam::Private, source, &ips(claimed), false),
                format!("{source}, outside {claimed}")
            );
            assert_eq!(
                recorded(IpParam::Private, source, &ips(claimed), true),
                format!("{claimed} (claim)"),
                "passed on"
            );
        }
        // No other host could use loopback.
        assert_eq!(recorded(IpParam::Private, "127.0.0.1", &ips(claimed), false), format!("{claimed} (claim)"));
    }
    let always = IpParam::Always;
    assert_eq!(recorded(always, "100.64.0.1", &ips("8.8.8.8"), false), "100.64.0.1, outside 8.8.8.8");
    assert_eq!(recorded(always, "9.9.9.9", &ips("8.8.8.8"), false), "8.8.8.8 (claim)");
}

#[test]
fn claims_count_never_or_always() {
    let claims = |ip_param, source, claimed| recorded(ip_param, source, &ips(claimed), true);
    for source in ["127.0.0.1", "10.1.2.3", "fd00::1", "8.8.8.8", "2001:db8::1"] {
        assert_eq!(claims(IpParam::Never, source, "192.168.1.15"), source);
        assert_eq!(claims(IpParam::Always, source, "203.0.113.5"), "203.0.113.5 (claim)");
        assert_eq!(claims(IpParam::Always, source, "224.0.0.1"), source);
    }
    assert_eq!(claims(IpParam::Always, "8.8.8.8", "127.0.0.1"), "8.8.8.8");
}

#[test]
fn a_second_address_of_the_other_family_does_not_replace_the_first() {
    let claimed = ClaimedIps { ip: None, ipv4: Some([10, 9, 9, 9].into()), ipv6: "fd00::9".parse().ok() };
    assert_eq!(recorded(IpParam::Private, "10.0.0.1", &claimed, false), "10.9.9.9 (claim)");
    assert_eq!(recorded(IpParam::Private, "fd00::1", &claimed, false), "fd00::9 (claim)");
    let claimed = ClaimedIps { ipv4: None, ..claimed };
    assert_eq!(recorded(IpParam::Private, "10.0.0.1", &claimed, false), "10.0.0.1");
}

#[test]
fn a_client_on_a_link_is_where_it_says_in_either_family() {
    let v4 = ClaimedIps { ip: None, ipv4: Some([192, 168, 1, 7].into()), ipv6: None };
    assert_eq!(recorded(IpParam::Private, "fe80::1", &v4, false), "192.168.1.7 (claim)");
    assert_eq!(
        recorded(IpParam::Private, "fe80::1", &ClaimedIps { ipv6: "fe80::2".parse().ok(), ..v4 }, false),
        "192.168.1.7 (claim)"
    );
    let v6 = ClaimedIps { ip: None, ipv4: Some([169, 254, 1, 7].into()), ipv6: "fd00::7".parse().ok() };
    assert_eq!(recorded(IpParam::Private, "169.254.1.7", &v6, false), "fd00::7 (claim)");
    let never = IpParam::Never;
    assert_eq!(recorded(never, "fe80::1", &v4, false), "fe80::1");
}
