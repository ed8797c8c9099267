//! The certificate of a server over TLS: read from PEM files, checked, and replaced while clients are served. Both programs
//! have listeners for TLS, and both read the files again at SIGHUP.

mod pem;
mod server;

pub use pem::{CERTIFICATE, Certificate, KEY, NotACertificate};
pub use server::TlsServer;
