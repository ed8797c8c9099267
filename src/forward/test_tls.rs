//! A TLS server for tests. Only tests trust its certificate.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

/// A self-signed certificate of `tracker.test`, valid for a hundred years.
const CERTIFICATE: &str = "\
    3082019a30820141a00302010202145ebfde7923dfca48a1fc1cdc82f5c4c7c38f3176300a06082a8648ce3d0403023017311530\
    1306035504030c0c747261636b65722e746573743020170d3236313132303133333733305a180f32313236313032373133333733\
    305a30173115301306035504030c0c747261636b65722e746573743059301306072a8648ce3d020106082a8648ce3d0301070342\
    0004254fb3f78a368c032cee106d611c37ab5eee5b7c9e041592496587fb672596478f56ab4a0093cf8523af098d9cc8e54bb053\
    67d0e271f1014f7772cb0e68edcba3693067301d0603551d0e0416041490166496a6e2cb78dc9a2934f3b5aca4cc4fe07b301f06\
    03551d2304183016801490166496a6e2cb78dc9a2934f3b5aca4cc4fe07b30170603551d110410300e820c747261636b65722e74\
    657374300c0603551d130101ff04023000300a06082a8648ce3d040302034700304402204f45256c853bee529610617a3f78f8b7\
    cf7afccc8c7b10eecea753b980cc48dc02206736b94bd0886ea83dc3e2a626429baf2dc9fa58aa9d384e3317fa777397ce1a";

/// The key of the certificate. Only these tests trust the certificate.
const KEY: &str = "\
    308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420acd01414e691ce614ac0ff2690ebbbe3\
    2cadac45055b4d43d6a95c77b249150aa14403420004254fb3f78a368c032cee106d611c37ab5eee5b7c9e041592496587fb6725\
    96478f56ab4a0093cf8523af098d9cc8e54bb05367d0e271f1014f7772cb0e68edcb";

fn from_hex(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().map(|digit| digit.to_digit(16).unwrap()).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap()).collect()
}

fn certificate() -> CertificateDer<'static> {
    from_hex(CERTIFICATE).into()
}

pub(super) fn with_test_root(mut roots: RootCertStore) -> RootCertStore {
    roots.add(certificate()).unwrap();
    roots
}

/// Returns a TLS server with the name `tracker.test`.
pub(super) fn acceptor() -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate()], PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(from_hex(KEY))));
    TlsAcceptor::from(Arc::new(config.unwrap()))
}
