//! `retracker dns`: the records that it prints, and whether the check programs of name servers accept them.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::dsl::retracker;

const V4: &[&str] = &["--name", "retracker.lan", "--address", "192.168.1.5"];
const V6: &[&str] = &["--name", "Retracker.LAN.", "--address", "fd00::5", "--udp-port", "6969"];
const BOTH: &[&str] = &[
    "--name",
    "retracker.lan",
    "--address",
    "192.168.1.5",
    "--address",
    "fd00::5",
    "--http-port",
    "8080",
    "--udp-port",
    "6969",
];
/// The arguments of a provider. One of the tracker's addresses is in a network of clients.
const PROVIDER: &[&str] = &[
    "--name",
    "tracker.noc.example.net",
    "--domain",
    "dsl.example.net",
    "--address",
    "203.0.113.5,2001:db8:0:1::5,2001:db8:0:1::5",
    "--address",
    "203.0.113.6",
    "--clients",
    "198.51.100.0/24",
    "--clients",
    "2001:db8::/32,192.0.2.7",
    "--udp-port",
    "6969",
];

/// Returns the output of `retracker dns`.
fn records(arguments: &[&str]) -> String {
    let exit = retracker(&[&["dns"], arguments].concat()).run();
    assert_eq!((exit.code, exit.stderr.len()), (Some(0), 0), "{exit:?}");
    exit.stdout
}

// --- What it prints -------------------------------------------------------------------------------------------

#[test]
fn records_of_an_ipv4_address() {
    insta::assert_snapshot!(records(V4));
}

#[test]
fn records_of_an_ipv6_address() {
    insta::assert_snapshot!(records(V6));
}

#[test]
fn records_of_addresses_of_both_families() {
    insta::assert_snapshot!(records(BOTH));
}

#[test]
fn records_of_a_provider_with_networks_of_clients() {
    insta::assert_snapshot!(records(PROVIDER));
}

#[test]
fn wrong_arguments_are_named_with_what_is_expected() {
    let (name, address) = (["--name", "retracker.lan"], ["--address", "192.168.1.5"]);
    for (arguments, expected) in [
        (&["--name", "re tracker.lan"][..], "--name is \"re tracker.lan\", expected a host name"),
        (&["--name", "192.168.1.5"], "--name is \"192.168.1.5\", expected a host name"),
        (
            &["--name", "retracker"],
            "--name is \"retracker\", expected a host name with a domain, such as retracker.lan",
        ),
        (&["--name", ""], "--name is \"\", expected a host name"),
        (&["--address", "retracker.lan"], "--address is \"retracker.lan\", expected addresses of the tracker"),
        (&["--address", "192.168.1.5", "--address", "::"], "--address is \"192.168.1.5,::\", expected addresses"),
        (&["--http-port", "0"], "--http-port is \"0\", expected a port, 1 to 65535"),
        (&["--udp-port", "0"], "--udp-port is \"0\", expected a port, 1 to 65535"),
        (&["--udp-port", "-1"], "--udp-port is \"-1\", expected a port, 1 to 65535"),
        (&["--http-port", "65536"], "--http-port is \"65536\", expected a port, 1 to 65535"),
        (&["--domain", "*.lan"], "--domain is \"*.lan\", expected a domain"),
        (
            &["--clients", "10.0.0.0/12"],
            "--clients is \"10.0.0.0/12\", expected networks with a prefix of 8, 16, 24 or 32",
        ),
    ] {
        let others = [name, address].concat();
        let others = others.chunks(2).filter(|flag| !arguments.contains(&flag[0])).flatten().copied();
        let all: Vec<_> = ["dns"].into_iter().chain(others).chain(arguments.iter().copied()).collect();
        let exit = retracker(&all).run();
        assert_eq!((exit.code, exit.stdout.as_str(), exit.stderr.len()), (Some(2), "", 1), "{exit:?}");
        assert!(exit.stderr[0].contains(expected), "{all:?}: {}", exit.stderr[0]);
    }
    for (arguments, missing) in [(name, "--address"), (address, "--name")] {
        let exit = retracker(&[&["dns"][..], &arguments].concat()).run();
        assert!(exit.code == Some(2) && exit.stderr.len() == 1 && exit.stderr[0].contains(missing), "{exit:?}");
    }
}

// --- What name servers say ------------------------------------------------------------------------------------

#[test]
fn name_servers_accept_the_records() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [V4, V6, BOTH, PROVIDER] {
        let records = records(arguments);
        let [dnsmasq, unbound, bind] = records.split("\n\n").collect::<Vec<_>>()[..] else { panic!("{records}") };
        let path = folder.path().join("retracker.conf");
        fs::write(&path, dnsmasq).unwrap();
        accepts("dnsmasq", &["--test", "-C"], &path);
        fs::write(&path, format!("{unbound}\n")).unwrap();
        accepts("unbound-checkconf", &[], &path);
        for (zone, records) in zone_files(bind) {
            fs::write(&path, records).unwrap();
            // With `-k fail`, names outside of the zone are errors.
            accepts("named-checkzone", &["-i", "local", "-k", "fail", &zone], &path);
        }
    }
}

/// Returns the name and the text of each zone file in the block for BIND. Adds the records that every zone must have.
fn zone_files(block: &str) -> Vec<(String, String)> {
    let parts = block.split("; --- BIND: the zone file ").skip(1);
    let file = |part: &str| {
        let (heading, records) = part.split_once(" ---\n").unwrap();
        let zone = match heading.split_once(' ').unwrap() {
            ("of", zone) => zone,
            // The reverse record of an address goes into the zone of its network.
            (_, reverse) => reverse.split_once('.').unwrap().1,
        };
        let (soa, ns) = ("$TTL 3600\n@ IN SOA ns admin 1 7200 900 1209600 300\n", "@ IN NS ns\nns IN A 192.0.2.53\n");
        (zone.to_owned(), [soa, ns, records, "\n"].concat())
    };
    parts.map(file).collect()
}

/// Runs a program that checks a file, if the program is installed. The program must print neither errors nor warnings.
fn accepts(program: &str, arguments: &[&str], path: &Path) {
    match Command::new(program).args(arguments).arg(path).output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            let text = fs::read_to_string(path).unwrap();
            assert!(output.status.success() && !said.contains("ignor") && !said.contains("warning"), "{said}\n{text}");
        }
        Err(error) => eprintln!("skipped: {program} cannot be run ({error})"),
    }
}
