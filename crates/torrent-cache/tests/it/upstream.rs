//! A registry in this process that answers as its script says.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use torrent_cache::digest::Digest;

/// The headers of a reply.
pub(crate) type HeaderLines = Vec<(&'static str, String)>;

/// A request that the registry received.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Returns the first byte that a `Range` asks for.
    pub(crate) fn offset(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// What the registry does about a request.
pub(crate) enum RegistryAct {
    /// Sends a whole reply.
    Reply(u16, HeaderLines, Vec<u8>),
    /// Sends these bytes, and closes the connection.
    Raw(Vec<u8>),
    /// Sends the first bytes, waits until the gate opens, sends the other bytes, and closes the connection.
    Gated(Vec<u8>, ReplyGate, Vec<u8>),
}

/// A gate at which the registry waits, until a test sends to the other end of its channel or drops that end.
pub(crate) struct ReplyGate(Receiver<()>);

pub(crate) fn gate() -> (Sender<()>, ReplyGate) {
    let (key, receiver) = channel();
    (key, ReplyGate(receiver))
}

type RegistryScript = Box<dyn FnMut(&Asked) -> RegistryAct + Send>;

/// A scripted server in this process.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    script: Arc<Mutex<RegistryScript>>,
}

impl Scripted {
    pub(crate) fn new(script: impl FnMut(&Asked) -> RegistryAct + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let script: Arc<Mutex<RegistryScript>> = Arc::new(Mutex::new(Box::new(script)));
        let (log, acts) = (Arc::clone(&asked), Arc::clone(&script));
        thread::spawn(move || {
            for socket in listener.incoming() {
                let (log, acts) = (Arc::clone(&log), Arc::clone(&acts));
                thread::spawn(move || serve(socket.unwrap(), &log, &acts));
            }
        });
        Self { address, asked, script }
    }

    /// Returns the origin, which is a value for `UPSTREAMS`.
    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Replaces the script from now on.
    pub(crate) fn now(&self, script: impl FnMut(&Asked) -> RegistryAct + Send + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    /// Returns the method and target of all requests since the last call.
    pub(crate) fn take(&self) -> Vec<String> {
        self.take_all().iter().map(|asked| format!("{} {}", asked.method, asked.target)).collect()
    }

    pub(crate) fn take_all(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

fn serve(socket: TcpStream, log: &Mutex<Vec<Asked>>, script: &Mutex<RegistryScript>) {
    let mut reader = BufReader::new(socket.try_clone().unwrap());
    let mut writer = socket;
    while let Some(asked) = read(&mut reader) {
        log.lock().unwrap().push(asked.clone());
        let act = script.lock().unwrap()(&asked);
        // Writing may fail, because a client may have gone.
        let written = match act {
            RegistryAct::Reply(status, headers, body) => {
                let mut bytes = head(status, &headers, body.len());
                if asked.method != "HEAD" && status != 304 {
                    bytes.extend(body);
                }
                writer.write_all(&bytes)
            }
            RegistryAct::Raw(bytes) => {
                let _ = writer.write_all(&bytes);
                return;
            }
            RegistryAct::Gated(first, gate, then) => {
                let _ = writer.write_all(&first);
                let _ = gate.0.recv();
                let _ = writer.write_all(&then);
                return;
            }
        };
        if written.is_err() {
            return;
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut line = String::new();
    if reader.read_line(&mut line).unwrap_or(0) == 0 {
        return None;
    }
    let mut words = line.split(' ').map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_owned(), value.to_owned()));
    }
    Some(Asked { method, target, headers })
}

/// Makes the head of a reply whose body has this length.
pub(crate) fn head(status: u16, headers: &[(&'static str, String)], length: usize) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n");
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    (head + "\r\n").into_bytes()
}

/// What a registry holds.
#[derive(Clone, Default)]
pub(crate) struct Content {
    files: HashMap<String, (HeaderLines, Vec<u8>)>,
}

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

impl Content {
    pub(crate) fn with_blob(mut self, repository: &str, blob: &[u8]) -> Self {
        let path = blob_path(repository, blob);
        self.files.insert(path, (Vec::new(), blob.to_vec()));
        self
    }

    pub(crate) fn with_manifest(mut self, repository: &str, tag: &str, manifest: &[u8]) -> Self {
        let digest = Digest::of(manifest).to_string();
        let headers = vec![("content-type", MANIFEST.to_owned()), ("docker-content-digest", digest.clone())];
        for reference in [tag, &digest] {
            let path = format!("/v2/{repository}/manifests/{reference}");
            self.files.insert(path, (headers.clone(), manifest.to_vec()));
        }
        self
    }

    pub(crate) fn with_file(mut self, path: &str, content: &[u8]) -> Self {
        self.files.insert(path.to_owned(), (Vec::new(), content.to_vec()));
        self
    }

    /// Answers a request as a registry does.
    pub(crate) fn act(&self, asked: &Asked) -> RegistryAct {
        match self.files.get(&asked.target) {
            _ if asked.target == "/v2/" => RegistryAct::Reply(
                200,
                vec![("docker-distribution-api-version", "registry/2.0".to_owned())],
                b"{}".to_vec(),
            ),
            None => RegistryAct::Reply(404, Vec::new(), b"{\"errors\":[]}".to_vec()),
            Some((headers, content)) => match asked.offset() {
                Some(offset) => {
                    let mut headers = headers.clone();
                    let range = format!("bytes {offset}-{}/{}", content.len() - 1, content.len());
                    headers.push(("content-range", range));
                    RegistryAct::Reply(206, headers, content[offset..].to_vec())
                }
                None => RegistryAct::Reply(200, headers.clone(), content.clone()),
            },
        }
    }

    pub(crate) fn serve(self) -> Scripted {
        Scripted::new(move |asked| self.act(asked))
    }
}

pub(crate) fn blob_path(repository: &str, blob: &[u8]) -> String {
    format!("/v2/{repository}/blobs/{}", Digest::of(blob))
}

/// Makes bytes without repetitions, so that no part of a blob equals another part.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(length).collect()
}
