//! Reads a TLS server's certificate from PEM files, checks it, and replaces it while the server runs. Both programs use
//! this crate.

mod pem;
mod server;

pub use pem::{CERTIFICATE, Certificate, KEY, NotACertificate};
pub use server::TlsServer;
