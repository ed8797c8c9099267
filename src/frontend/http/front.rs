//! The hot path: announces and scrapes, answered on the connection that they came on.
//!
//! It takes the requests that a read brings, writes the replies one after the other into a buffer of the worker's, and
//! sends that: three system calls for a request on a connection that is kept, four for one on a connection of its own. A
//! connection that waits has no buffer. What `Head` does not read goes to actix-web, with the rest of its connection.
//!
//! Replies have no `Date`: nobody may cache them, and no client reads it.

use std::cell::RefCell;
use std::future::{Future as _, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context as Task, Poll, ready};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, timeout};

use super::answer::{Later, Question, answer};
use super::connection::PATIENCE;
use super::head::Head;
use super::socket::Socket;
use crate::frontend::Context;
use crate::frontend::client_address::Source;
use crate::frontend::serve::Stop;

/// How long a client may take until the first byte of its first request.
const FIRST_BYTE: Duration = Duration::from_secs(5);

/// A connection on which nothing is asked is kept for at least so long, and for twice as long at most. Clients announce in
/// minutes; proxies reuse within seconds.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What one read takes. A head that does not fit is one for actix-web.
const READ: usize = 16 * 1024;

/// When so much is to be sent, the rest of the requests has to wait until it is.
const ENOUGH: usize = 64 * 1024;

/// The buffers of a worker. What is in them is used up before another connection has its turn.
struct Buffers {
    read: Box<[u8; READ]>,
    body: Vec<u8>,
    replies: Vec<u8>,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> =
        RefCell::new(Buffers { read: Box::new([0; READ]), body: Vec::new(), replies: Vec::new() });
}

/// A connection for actix-web: the stream, and what has been read of it but not answered.
pub(in crate::frontend) type Handover = (TcpStream, Vec<u8>);

/// Serves a connection, of which `unread` has been read already, until it ends, or until a request comes that is for
/// actix-web.
pub(in crate::frontend) async fn serve(
    socket: Socket,
    source: SocketAddr,
    unread: Vec<u8>,
    context: &Context,
    stop: &Stop,
) -> io::Result<Option<Handover>> {
    let mut connection =
        Connection { socket, source, context, unread, unsent: Vec::new(), waiting: Waiting::default() };
    loop {
        let next = poll_fn(|cx| connection.poll_turn(cx, stop)).await?;
        connection.flush().await?;
        match next {
            Next::Read => {}
            Next::Wait { later, framing } => {
                let body = later.await;
                let framing = framing.unless(context.is_draining());
                framing.put(&body, &mut connection.unsent);
                connection.flush().await?;
                if !framing.persistent {
                    return Ok(None);
                }
            }
            Next::Close => return Ok(None),
            Next::Other => return connection.socket.into_stream().map(|stream| Some((stream, connection.unread))),
        }
    }
}

struct Connection<'a> {
    socket: Socket,
    source: SocketAddr,
    context: &'a Context,
    /// What has been read but not answered: nothing, unless a reply kept others waiting.
    unread: Vec<u8>,
    /// What the system did not take at once.
    unsent: Vec<u8>,
    waiting: Waiting,
}

/// What a turn ends with.
enum Next<'a> {
    /// The requests are answered.
    Read,
    /// The next reply has to be waited for.
    Wait { later: Later<'a>, framing: Framing },
    /// The connection has ended, by the client's wish or by ours.
    Close,
    /// The next request is for actix-web.
    Other,
}

impl<'a> Connection<'a> {
    /// Reads requests, and answers them.
    fn poll_turn(&mut self, cx: &mut Task<'_>, stop: &Stop) -> Poll<io::Result<Next<'a>>> {
        BUFFERS.with_borrow_mut(|Buffers { read, body, replies }| {
            replies.clear();
            let unread = std::mem::take(&mut self.unread);
            let requests = if unread.is_empty() {
                let Poll::Ready(count) = self.socket.poll_read(cx, &mut **read) else {
                    ready!(self.waiting.poll_over(cx, self.context, stop));
                    return Poll::Ready(Ok(Next::Close));
                };
                self.waiting.is_used = true;
                read.get(..count?).unwrap_or_default()
            } else {
                &unread
            };
            if requests.is_empty() {
                return Poll::Ready(Ok(Next::Close));
            }
            let (next, used) = self.answer(requests, body, replies);
            let sent = if replies.is_empty() { 0 } else { self.socket.send(replies)? };
            self.unread.extend_from_slice(requests.get(used..).unwrap_or_default());
            self.unsent.extend_from_slice(replies.get(sent..).unwrap_or_default());
            Poll::Ready(Ok(next))
        })
    }

    /// Answers one request after the other, as far as that goes. Tells how many bytes they were.
    fn answer(&self, requests: &[u8], body: &mut Vec<u8>, replies: &mut Vec<u8>) -> (Next<'a>, usize) {
        let mut used = 0;
        while let Some(rest) = requests.get(used..).filter(|rest| !rest.is_empty() && replies.len() < ENOUGH) {
            let Some((head, length)) = Head::parse(rest) else { return (Next::Other, used) };
            used += length;
            let framing = Framing::new(&head).unless(self.context.is_draining());
            let question = Question {
                resource: head.resource,
                query: head.query,
                headers: &head,
                source: Source::new(Some(self.source)),
            };
            body.clear();
            if let Some(later) = answer(self.context, &question, body) {
                return (Next::Wait { later, framing }, used);
            }
            framing.put(body, replies);
            if !framing.persistent {
                return (Next::Close, used);
            }
        }
        (Next::Read, used)
    }

    /// Sends what could not be sent at once, as long as the client takes it.
    async fn flush(&mut self) -> io::Result<()> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        let unsent = std::mem::take(&mut self.unsent);
        timeout(PATIENCE, self.socket.send_all(&unsent)).await?
    }
}

/// What a reply has around its body.
#[derive(Clone, Copy, Debug)]
struct Framing {
    bodiless: bool,
    persistent: bool,
    old: bool,
}

impl Framing {
    fn new(head: &Head<'_>) -> Self {
        Self { bodiless: head.bodiless, persistent: head.persistent, old: head.old }
    }

    fn unless(self, draining: bool) -> Self {
        Self { persistent: self.persistent && !draining, ..self }
    }

    fn put(self, body: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: ");
        out.extend_from_slice(itoa::Buffer::new().format(body.len()).as_bytes());
        out.extend_from_slice(match (self.persistent, self.old) {
            (false, _) => b"\r\nConnection: close\r\n\r\n",
            (true, true) => b"\r\nConnection: keep-alive\r\n\r\n",
            (true, false) => b"\r\n\r\n",
        });
        if !self.bodiless {
            out.extend_from_slice(body);
        }
    }
}

/// What ends a connection on which nothing is asked: time, or the end of the process.
///
/// A wait costs two looks at flags. The alarms are set with the first one and stay set: one that goes off while the
/// connection is in use is set anew.
#[derive(Default)]
struct Waiting {
    /// Since the alarm was set.
    is_used: bool,
    alarms: Option<Alarms>,
}

struct Alarms {
    idle: Pin<Box<Sleep>>,
    stop: Pin<Box<dyn Future<Output = ()>>>,
}

impl Waiting {
    /// Ready once nobody need wait any longer.
    fn poll_over(&mut self, cx: &mut Task<'_>, context: &Context, stop: &Stop) -> Poll<()> {
        if context.is_draining() {
            return Poll::Ready(());
        }
        let alarms = match &mut self.alarms {
            Some(alarms) if !alarms.idle.is_elapsed() => return Poll::Pending,
            Some(alarms) => {
                if !std::mem::take(&mut self.is_used) {
                    return Poll::Ready(());
                }
                alarms.idle.as_mut().reset(Instant::now() + KEEP_ALIVE);
                alarms
            }
            None => {
                let patience = if std::mem::take(&mut self.is_used) { KEEP_ALIVE } else { FIRST_BYTE };
                self.alarms.insert(Alarms::set(patience, stop))
            }
        };
        // Only so that they wake this task.
        let _ = alarms.stop.as_mut().poll(cx);
        alarms.idle.as_mut().poll(cx)
    }
}

impl Alarms {
    fn set(patience: Duration, stop: &Stop) -> Self {
        let mut stop = stop.clone();
        let stop = async move {
            let _ = stop.wait_for(|stop| *stop).await;
        };
        Self { idle: Box::pin(tokio::time::sleep(patience)), stop: Box::pin(stop) }
    }
}

#[cfg(test)]
mod tests;
