//! An HTTP/1.1 client that tells whether a reply was complete.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// A reply. If the reply was cut off, `body` is `Err` with the bytes that came.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Result<Vec<u8>, Vec<u8>>,
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// Returns the text of a complete body.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone().expect("complete")).unwrap()
    }

    /// Returns the code and the sentence of an error in the registries' form.
    pub(crate) fn error(&self) -> (String, String) {
        let json: serde_json::Value = serde_json::from_str(&self.text()).expect("JSON");
        let error = &json["errors"][0];
        (error["code"].as_str().unwrap().to_owned(), error["message"].as_str().unwrap().to_owned())
    }
}

/// A connection that carries one request after the other.
pub(crate) struct Connection<S: Read + Write> {
    stream: BufReader<S>,
}

/// A reply whose body has not been read.
pub(crate) struct Beginning {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
}

impl Connection<TcpStream> {
    pub(crate) fn open(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).unwrap())
    }
}

impl<S: Read + Write> Connection<S> {
    pub(crate) fn over(stream: S) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    /// Sends a request without a body.
    pub(crate) fn send(&mut self, method: &str, target: &str, headers: &[(&str, &str)]) {
        let mut head = format!("{method} {target} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| *name == "host") {
            head += "host: localhost\r\n";
        }
        for (name, value) in headers {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        head += "\r\n";
        self.raw(head.as_bytes());
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// Returns whether the server closes the connection without sending anything more.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.stream.read(&mut [0]).is_ok_and(|read| read == 0)
    }

    /// Reads the head of a reply.
    pub(crate) fn head(&mut self) -> Beginning {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1).unwrap_or_else(|| panic!("no reply: {line:?}")).parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.push((name.to_owned(), value.to_owned()));
        }
        Beginning { status, headers }
    }

    /// Reads `count` bytes of a body.
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Reads the rest of a body with `length` bytes, of which `read` bytes were read before. If the body is cut off,
    /// returns `Err` with the bytes that came.
    pub(crate) fn rest(&mut self, length: usize, read: usize) -> Result<Vec<u8>, Vec<u8>> {
        let mut body = Vec::new();
        let _ = (&mut self.stream).take((length - read) as u64).read_to_end(&mut body);
        if body.len() == length - read { Ok(body) } else { Err(body) }
    }

    /// Reads a reply.
    pub(crate) fn reply(&mut self, is_head: bool) -> Got {
        let Beginning { status, headers } = self.head();
        let header = |name: &str| headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone());
        let body = if is_head || status == 304 || status == 204 {
            Ok(Vec::new())
        } else if header("transfer-encoding").is_some() {
            self.chunked()
        } else {
            let length = header("content-length").expect("a length").parse().unwrap();
            self.rest(length, 0)
        };
        Got { status, headers, body }
    }

    fn chunked(&mut self) -> Result<Vec<u8>, Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).unwrap_or(0) == 0 {
                return Err(body);
            }
            let length = usize::from_str_radix(line.trim(), 16).unwrap();
            let mut chunk = vec![0; length + 2];
            if self.stream.read_exact(&mut chunk).is_err() {
                return Err(body);
            }
            body.extend_from_slice(&chunk[..length]);
            if length == 0 {
                return Ok(body);
            }
        }
    }

    pub(crate) fn request(&mut self, method: &str, target: &str, headers: &[(&str, &str)]) -> Got {
        self.send(method, target, headers);
        self.reply(method == "HEAD")
    }
}

/// Sends one request on a connection of its own, and reads the reply.
pub(crate) fn request(address: SocketAddr, method: &str, target: &str, headers: &[(&str, &str)]) -> Got {
    Connection::open(address).request(method, target, headers)
}

pub(crate) fn get(address: SocketAddr, target: &str) -> Got {
    request(address, "GET", target, &[])
}
