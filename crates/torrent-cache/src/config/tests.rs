//! Tests the settings as operators give them.

use std::collections::HashMap;
use std::ffi::OsString;

use super::*;

fn read_with(args: &[&str], env: &[(&str, &str)]) -> Result<CacheTask, CacheConfigError> {
    let env: HashMap<_, _> = env.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))).collect();
    let args = std::iter::once("torrent-cache").chain(args.iter().copied()).map(OsString::from);
    read(args, |name| env.get(name).cloned())
}

fn serving(args: &[&str], env: &[(&str, &str)]) -> CacheConfig {
    match read_with(args, env) {
        Ok(CacheTask::Serve { config, .. }) => *config,
        other => panic!("{other:?}"),
    }
}

fn error(args: &[&str], env: &[(&str, &str)]) -> String {
    read_with(args, env).unwrap_err().to_string()
}

#[test]
fn the_defaults_are_those_of_the_proof_of_concept() {
    let config = serving(&[], &[]);
    assert_eq!(config.listen, "0.0.0.0:8888".parse().unwrap());
    assert_eq!(config.upstreams.default_origin().to_string(), "registry-1.docker.io");
    assert_eq!(config.swarm.tracker.as_str(), "http://192.168.1.1:6969/announce");
    assert_eq!(config.swarm.etcd, (Host::Ipv4([192, 168, 1, 1].into()), 2378));
    assert_eq!(config.swarm.ports, 6881..=6891);
    assert_eq!(config.storage, PathBuf::from("/storage"));
    assert!(config.tls.is_none() && !config.swarm.is_given && config.authorization.auth_file.is_none());
    let defaults: Vec<_> = settings::all().map(|about| (about.variable, about.default.text())).collect();
    for expected in [
        ("CERTFILE", "/etc/torrent-proxy/ssl/cert.pem"),
        ("PRIVATEKEY", "/etc/torrent-proxy/ssl/key.pem"),
        ("INTERFACE", "0.0.0.0"),
        ("PORT", "8888"),
    ] {
        assert!(defaults.contains(&expected), "{expected:?}");
    }
}

#[test]
fn every_setting_is_given_by_flag_and_by_variable() {
    let folder = tempfile::tempdir().unwrap();
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (cert, key) = (file("cert", &cert.pem()), file("key", &signing_key.serialize_pem()));
    let auth = file("auth", "{\"auths\":{}}");
    for about in settings::all() {
        let example = match about.variable {
            "CERTFILE" | "CA_FILE" => &cert,
            "PRIVATEKEY" => &key,
            "REGISTRY_AUTH_FILE" => &auth,
            _ => about.example,
        };
        // Some settings are valid only together with these settings.
        let mut beside = vec![("INTERFACE", "127.0.0.1")];
        if ["CERTFILE", "PRIVATEKEY"].contains(&about.variable) {
            beside.extend([("CERTFILE", cert.as_str()), ("PRIVATEKEY", key.as_str())]);
        }
        beside.retain(|(name, _)| *name != about.variable);
        let with = [beside.clone(), vec![(about.variable, example)]].concat();
        assert!(matches!(read_with(&[], &with), Ok(CacheTask::Serve { .. })), "{}", about.variable);
        if let Some(flag) = about.flag {
            let flag = format!("--{}={example}", flag.long);
            assert!(matches!(read_with(&[&flag], &beside), Ok(CacheTask::Serve { .. })), "{flag}");
            let wrong = [beside.clone(), vec![(about.variable, "\0")]].concat();
            assert!(read_with(&[&flag], &wrong).is_ok(), "{flag} beats {}", about.variable);
        }
    }
}

#[test]
fn an_upstream_without_tls() {
    let plain = |args: &[&str], env: &[(&str, &str)]| serving(args, env).upstreams.default_origin().to_string();
    let location = ("REGISTRY_LOCATION", "10.0.0.5:5000");
    assert_eq!(plain(&[], &[location]), "10.0.0.5:5000");
    for set in ["1", "true", "yes", "anything"] {
        assert_eq!(plain(&[], &[location, ("REGISTRY_NO_SSL", set)]), "http://10.0.0.5:5000", "{set}");
    }
    for unset in ["", "false", "0"] {
        assert_eq!(plain(&[], &[location, ("REGISTRY_NO_SSL", unset)]), "10.0.0.5:5000", "{unset}");
    }
    assert_eq!(plain(&["--registry-no-ssl"], &[location]), "http://10.0.0.5:5000");
}

#[test]
fn wrong_values_are_named_with_what_is_expected() {
    for (args, env, expected) in [
        (&["-p", "x"][..], &[][..], "-p/--port is \"x\", expected a port from 0 to 65535"),
        (&[], &[("PORT", "65536")], "PORT is \"65536\", expected a port from 0 to 65535"),
        (
            &[],
            &[("INTERFACE", "eth0")],
            "INTERFACE is \"eth0\", expected an IP address such as 0.0.0.0, 127.0.0.1 or ::",
        ),
        (&[], &[("STORAGE_QUOTA", "101%")], "STORAGE_QUOTA is \"101%\", expected a number of bytes such as 20G"),
        (&[], &[("UPSTREAMS", "a/b")], "UPSTREAMS is \"a/b\", expected hosts with optional ports"),
        (&[], &[("TRACKER", "192.168.1.1")], "TRACKER is \"192.168.1.1\", expected a URL"),
        (&[], &[("TORRENT_LAST_PORT", "6880")], "TORRENT_LAST_PORT is 6880 and TORRENT_FIRST_PORT is 6881"),
        (&[], &[("CERTFILE", "/nowhere/cert.pem")], "CERTFILE: /nowhere/cert.pem: it cannot be read"),
        (&[], &[("CA_FILE", "/nowhere/ca.pem")], "CA_FILE: ca: /nowhere/ca.pem cannot be read"),
        (&[], &[("REGISTRY_AUTH_FILE", "/nowhere/c.json")], "REGISTRY_AUTH_FILE: /nowhere/c.json: it cannot be read"),
        (&["--bogus"], &[], "unexpected argument '--bogus' found; torrent-cache -h lists what there is"),
    ] {
        let error = error(args, env);
        assert!(error.starts_with(expected), "{error:?} begins with {expected:?}");
    }
    let error = error(&[], &[("UPSTREAMS", "user:secret@quay.io")]);
    assert!(error.contains("REGISTRY_AUTH_FILE"), "{error}");
}

#[test]
fn own_logins_need_networks_if_others_can_connect() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    std::fs::write(&file, "{\"auths\":{}}").unwrap();
    let auth = ("REGISTRY_AUTH_FILE", file.to_str().unwrap());
    assert!(error(&[], &[auth]).contains("CLIENT_NETWORKS"));
    assert!(error(&[], &[auth, ("INTERFACE", "::")]).contains("CLIENT_NETWORKS"));
    let local = serving(&[], &[auth, ("INTERFACE", "127.0.0.1")]);
    assert_eq!(local.authorization.client_networks, AuthorizationOptions::default().client_networks);
    let named = serving(&["--client-networks", "10.0.0.0/8"], &[auth]);
    assert_eq!(named.authorization.client_networks, ["10.0.0.0/8".parse().unwrap()]);
    std::fs::write(&file, "secret").unwrap();
    let error = error(&[], &[auth]);
    assert!(error.contains("it is no JSON object") && !error.contains("secret"), "{error}");
}

#[test]
fn secrets_for_sharing_are_variables_and_are_not_shown() {
    let secret = "0123456789abcdef";
    let config = serving(&[], &[("TORRENTS_TOKEN", secret), ("CLUSTER_SECRET", secret)]);
    assert!(config.swarm.token.is_some() && config.swarm.secret.is_some());
    assert!(!format!("{:?}", config.swarm).contains(secret));
    let config = serving(&["--peer-networks", "10.0.0.0/8"], &[]);
    assert_eq!(config.swarm.peer_networks, ["10.0.0.0/8".parse().unwrap()]);
    assert!(config.swarm.token.is_none() && config.swarm.secret.is_none());
    for (variable, wrong) in [("TORRENTS_TOKEN", "0123456789abcde f"), ("CLUSTER_SECRET", "too-short")] {
        let error = error(&[], &[(variable, wrong)]);
        assert!(error.starts_with(&format!("{variable} is ")), "{error}");
        assert!(!error.contains(wrong), "{error}");
    }
}

#[test]
fn commands_and_help() {
    assert!(matches!(read_with(&["healthcheck"], &[]), Ok(CacheTask::Healthcheck(Ok(_)))));
    assert!(matches!(read_with(&["healthcheck"], &[("PORT", "x")]), Ok(CacheTask::Healthcheck(Err(_)))));
    assert!(matches!(read_with(&["check"], &[]), Ok(CacheTask::Check(_))));
    let Ok(CacheTask::Print(help)) = read_with(&["--help"], &[]) else { panic!() };
    for about in settings::all() {
        assert!(about.flag.is_none() || help.contains(&format!("[env: {}]", about.variable)), "{}", about.variable);
    }
}
