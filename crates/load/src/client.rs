//! Sends one request on its own connection, and reads the metrics page.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Sends a request that asks the tracker to close the connection. Returns the whole reply.
pub fn exchange(tracker: SocketAddr, request: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(tracker)?;
    stream.set_read_timeout(Some(READ_TIMEOUT))?;
    stream.write_all(request)?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply)?;
    Ok(reply)
}

/// Sends a GET. Returns the reply with its head.
pub fn get(tracker: SocketAddr, path: &str) -> io::Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {tracker}\r\nConnection: close\r\n\r\n");
    Ok(String::from_utf8_lossy(&exchange(tracker, request.as_bytes())?).into_owned())
}

/// The metrics page of a tracker.
pub struct MetricsPage(String);

impl MetricsPage {
    pub fn of(tracker: SocketAddr) -> Result<Self, String> {
        get(tracker, "/metrics").map(Self).map_err(|error| format!("no metrics: {error}"))
    }

    /// Returns the sum of those series of a metric that have all of these labels.
    pub fn sum(&self, name: &str, labels: &[&str]) -> u64 {
        let values = self.0.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let found = series.split('{').next() == Some(name) && labels.iter().all(|label| series.contains(label));
            if found { value.parse::<f64>().ok() } else { None }
        });
        values.sum::<f64>() as u64
    }
}
