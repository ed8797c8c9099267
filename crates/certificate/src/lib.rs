//! Reads a TLS server's certificate from PEM files, checks it, and replaces it while the server runs. Both programs
//! have listeners for TLS. Both read the files again at SIGHUP.

mod pem;
mod server;

pub use pem::{CERTIFICATE, Certificate, KEY, NotACertificate};
pub use server::TlsServer;
