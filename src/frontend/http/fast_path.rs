//! The fast path: announces and scrapes, answered on the connection on which they arrived.
//!
//! A connection is served in turns. A turn answers the requests that one read returns, and sends the replies from a
//! buffer of the worker. A request takes three system calls on a persistent connection, and four on a connection of its
//! own. A waiting connection has a buffer only for an incomplete head.

mod body;
mod sending;
mod waiting;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context as Task, Poll, ready};
use std::time::Duration;

use actix_http::{HttpMessage as _, Request};
use tokio::task::yield_now;
use tokio::time::timeout;

pub(in crate::frontend) use self::waiting::GRACE;
use self::waiting::Waiting;
use super::answer::{Resource, TrackerRequest, answer};
use super::framing::ReplyFraming;
use super::head::{self, Head, Method, Read};
use super::pages::{self, Pages};
use super::refusals::{self, Refused};
use super::socket::Socket;
use crate::answer::Answer;
use crate::frontend::announce::PendingBody;
use crate::frontend::client_address::{ClientAddress, Remote};
use crate::frontend::connections::{Holder, Idle, MustClose, OpenConnection};
use crate::frontend::context::Context;
use crate::frontend::listen::Audience;
use crate::frontend::shutdown::StopReceiver;
use crate::frontend::torrents::request::{self as torrents, RequestLine, Upload, UploadedBody};
use tracker_protocol::route::{self, Route};

/// How long a connection stays half open if the client may still be sending. Closing at once would reset the
/// connection, and the client could lose the reply.
const LINGER: Duration = Duration::from_secs(1);

/// The most bytes that one read returns.
const READ: usize = 16 * 1024;

/// The units of work that a connection may do before others have their turn. A unit is one read, one request, or
/// [`REPLY_UNIT`] bytes of replies.
const QUANTUM: usize = 16;
/// Bytes of replies that count as one unit of work.
const REPLY_UNIT: usize = 2048;

/// The buffers of a worker. They are used up before another connection has its turn.
struct Buffers {
    read: Box<[u8; READ]>,
    body: Vec<u8>,
    replies: Vec<u8>,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> =
        RefCell::new(Buffers { read: Box::new([0; READ]), body: Vec::new(), replies: Vec::new() });
}

/// What all connections of a worker share.
pub(in crate::frontend) struct Worker {
    pub(in crate::frontend) context: Arc<Context>,
    pub(in crate::frontend) pages: Pages,
    pub(in crate::frontend) stop: StopReceiver,
}

/// An accepted connection, before it is served.
pub(in crate::frontend) struct NewConnection<'a> {
    pub(in crate::frontend) socket: Socket,
    /// The other end of the socket.
    pub(in crate::frontend) source: Remote,
    /// Bytes that have been read already.
    pub(in crate::frontend) unread: Vec<u8>,
    pub(in crate::frontend) open: OpenConnection<'a>,
    /// The audience that the listener serves.
    pub(in crate::frontend) audience: Audience,
}

/// Serves a connection until it ends.
pub(in crate::frontend) async fn serve(fresh: NewConnection<'_>, worker: &Worker) -> io::Result<()> {
    let mut connection = HttpConnection::new(fresh, worker);
    loop {
        let next = poll_fn(|cx| connection.poll_turn(cx)).await?;
        connection.flush().await?;
        match next {
            Next::Read => {}
            Next::Yield => {
                connection.work = 0;
                yield_now().await;
            }
            Next::Wait { pending, framing } => {
                connection.busy()?;
                let body = pending.await;
                let framing = connection.close_if_draining(framing);
                framing.put_bencode(&body, &mut connection.unsent);
                connection.flush().await?;
                if !framing.persistent {
                    break;
                }
            }
            Next::Page { request, framing, upload } => {
                if let Some(upload) = upload {
                    let body = Box::pin(connection.read_body(upload)).await?;
                    request.extensions_mut().insert(UploadedBody(body));
                    // The call may be a long poll, during which the connection must not be closed.
                    connection.busy()?;
                }
                let framing = connection.close_if_draining(framing);
                // The future is large, and few requests get here.
                Box::pin(worker.pages.reply(connection.audience, *request, framing, &mut connection.unsent)).await;
                connection.work += connection.unsent.len() / REPLY_UNIT;
                connection.flush().await?;
                if !framing.persistent {
                    break;
                }
            }
            Next::Close => break,
        }
    }
    // Boxes keep the future of `serve` small. Few connections get here, so this costs little time.
    if connection.may_send {
        Box::pin(connection.linger()).await?;
    } else if connection.socket.is_tls() {
        let _late = Box::pin(timeout(LINGER, connection.socket.finish())).await;
    }
    Ok(())
}

/// The client that a connection from this address counts for.
pub(in crate::frontend) fn holder(rule: &ClientAddress, source: Remote) -> Holder {
    if rule.is_proxy(source) { Holder::Proxy } else { Holder::client(source.ip()) }
}

struct HttpConnection<'a> {
    socket: Socket,
    source: Remote,
    holder: Holder,
    worker: &'a Worker,
    open: OpenConnection<'a>,
    audience: Audience,
    /// Bytes that have been read but not answered.
    unread: Vec<u8>,
    /// Whether `unread` may hold a whole request.
    is_unread_new: bool,
    /// Bytes of replies that the system did not take at once.
    unsent: Vec<u8>,
    /// Units of work since other connections had their turn.
    work: usize,
    /// Whether the client may still send bytes that will not be read.
    may_send: bool,
    waiting: Waiting<'a>,
}

/// How a turn ends.
enum Next {
    /// All requests that were read are answered.
    Read,
    /// There may be more requests, but other connections have their turn first.
    Yield,
    /// The next reply is not ready yet.
    Wait { pending: PendingBody, framing: ReplyFraming },
    /// The next request is for actix-web. If the request is about shared blobs, `upload` has the length of its body.
    Page { request: Box<Request>, framing: ReplyFraming, upload: Option<Upload> },
    /// The connection ends.
    Close,
}

impl<'a> HttpConnection<'a> {
    fn new(NewConnection { socket, source, unread, open, audience }: NewConnection<'a>, worker: &'a Worker) -> Self {
        let holder = holder(&worker.context.client_address, source);
        let is_unread_new = !unread.is_empty();
        Self {
            waiting: Waiting::new(&open.limits().timeouts),
            socket,
            source,
            holder,
            worker,
            open,
            audience,
            unread,
            is_unread_new,
            unsent: Vec::new(),
            work: 0,
            may_send: false,
        }
    }

    fn poll_turn(&mut self, cx: &mut Task<'_>) -> Poll<io::Result<Next>> {
        BUFFERS.with_borrow_mut(|Buffers { read, body, replies }| {
            replies.clear();
            let mut unread = std::mem::take(&mut self.unread);
            let mut fresh = &[][..];
            if !std::mem::take(&mut self.is_unread_new) {
                let Poll::Ready(count) = self.socket.poll_read(cx, &mut **read) else {
                    self.unread = unread;
                    ready!(self.poll_over(cx));
                    self.may_send = false;
                    return Poll::Ready(Ok(Next::Close));
                };
                fresh = read.get(..count?).unwrap_or_default();
                if fresh.is_empty() {
                    self.may_send = false;
                    return Poll::Ready(Ok(Next::Close));
                }
                if !unread.is_empty() {
                    unread.extend_from_slice(fresh);
                    fresh = &[];
                }
            }
            let requests = if unread.is_empty() { fresh } else { &unread };
            let (next, used) = self.answer(requests, body, replies);
            let sent = if replies.is_empty() { 0 } else { self.socket.send(replies)? };
            self.unsent.extend_from_slice(replies.get(sent..).unwrap_or_default());
            if unread.is_empty() {
                self.unread = fresh.get(used..).unwrap_or_default().to_vec();
            } else {
                unread.drain(..used);
                self.unread = unread;
            }
            self.is_unread_new = !matches!(next, Next::Read) && !self.unread.is_empty();
            Poll::Ready(Ok(next))
        })
    }

    /// Answers requests one after the other. Returns how the turn ends, and how many bytes of `requests` were used.
    fn answer(&mut self, requests: &[u8], body: &mut Vec<u8>, replies: &mut Vec<u8>) -> (Next, usize) {
        let mut used = 0;
        self.work += 1;
        loop {
            let rest = requests.get(used..).unwrap_or_default();
            let empty = head::skip_empty_lines(rest);
            used += empty;
            let rest = rest.get(empty..).unwrap_or_default();
            if self.work > QUANTUM {
                return (Next::Yield, used);
            }
            if rest.is_empty() {
                return (Next::Read, used);
            }
            let before = replies.len();
            let (next, length) = match Head::read(rest) {
                Read::Part => return (Next::Read, used),
                Read::Whole(head, length) => (self.answer_one(&head, rest.len() == length, body, replies), length),
                Read::Folded(length) => {
                    let unfolded = head::unfold(rest.get(..length).unwrap_or_default());
                    let next = match Head::read(&unfolded) {
                        Read::Whole(head, _) => self.answer_one(&head, rest.len() == length, body, replies),
                        _ => Some(self.not_http(replies)),
                    };
                    (next, length)
                }
                Read::TooLong(head) => {
                    self.may_send = true;
                    self.refused(body, replies).too_long(&head);
                    (Some(Next::Close), rest.len())
                }
                Read::Junk => (Some(self.not_http(replies)), rest.len()),
            };
            used += length;
            self.waiting.answered();
            self.work += 1 + (replies.len() - before) / REPLY_UNIT;
            if let Some(next) = next {
                return (next, used);
            }
        }
    }

    /// Answers a request. `None` if the turn can go on with another request. `is_last`: no bytes after this request
    /// have been read.
    fn answer_one(
        &mut self,
        head: &Head<'_>,
        is_last: bool,
        body: &mut Vec<u8>,
        replies: &mut Vec<u8>,
    ) -> Option<Next> {
        let is_ending = is_last && self.worker.context.is_draining();
        let framing = ReplyFraming::new(head).close_if(is_ending || !self.open.limits().keep_alive);
        self.may_send = head.body || !is_last;
        let resource = match (self.worker.context.route(head.path), head.method) {
            // Only listeners for clients answer announces.
            _ if self.audience != Audience::Clients => return Some(self.page(head, framing, replies)),
            (Route::Announce | Route::Scrape, Method::Other(_)) => {
                self.refused(body, replies).method(framing);
                return (!framing.persistent).then_some(Next::Close);
            }
            (Route::Announce, _) => Resource::Announce,
            (Route::Scrape, _) => Resource::Scrape,
            (Route::Root, Method::Get | Method::Head) if route::names_torrent(head.query) => Resource::Announce,
            (Route::Other, Method::Get | Method::Head) if self.worker.context.is_stray(head.query) => {
                Resource::StrayAnnounce
            }
            _ => return Some(self.page(head, framing, replies)),
        };
        let request = TrackerRequest {
            resource,
            query: head.query,
            headers: head,
            source: self.source,
            is_head: head.method == Method::Head,
        };
        body.clear();
        if let Answer::Pending(pending) = answer(&self.worker.context, &request, body) {
            return Some(Next::Wait { pending, framing });
        }
        framing.put_bencode(body, replies);
        (!framing.persistent).then_some(Next::Close)
    }

    fn page(&mut self, head: &Head<'_>, framing: ReplyFraming, replies: &mut Vec<u8>) -> Next {
        let Some(request) = pages::request(head, self.socket.is_tls()) else { return self.not_http(replies) };
        let line = RequestLine { method: head.method.name(), path: head.path, query: head.query };
        let shared = torrents::read(&self.worker.context, self.audience, self.source, line, head);
        let upload = shared.map(|(shared, upload)| {
            request.extensions_mut().insert(shared);
            upload
        });
        Next::Page { request: Box::new(request), framing, upload }
    }

    fn refused<'b>(&'b self, body: &'b mut Vec<u8>, replies: &'b mut Vec<u8>) -> Refused<'b> {
        body.clear();
        Refused { context: &self.worker.context, source: self.source, body, replies }
    }

    fn not_http(&mut self, replies: &mut Vec<u8>) -> Next {
        self.may_send = true;
        refusals::not_http(replies);
        Next::Close
    }

    /// Ends the connection after this reply if the process is stopping and nothing after the request has been read.
    fn close_if_draining(&self, framing: ReplyFraming) -> ReplyFraming {
        framing.close_if(self.unread.is_empty() && self.worker.context.is_draining())
    }

    /// Ready when the connection must end: the client took too long, or another connection needs the place.
    fn poll_over(&mut self, cx: &mut Task<'_>) -> Poll<()> {
        self.work = 0;
        let is_asking = !self.unread.is_empty();
        self.open.buffers(self.unread.len());
        if self.open.idle(self.holder, Idle::Waiting, self.waiting.since(), cx).is_err() {
            return Poll::Ready(());
        }
        self.waiting.poll_over(is_asking, cx, self.worker.context.is_draining(), &self.worker.stop)
    }

    fn busy(&mut self) -> io::Result<()> {
        self.open.busy(self.holder).map_err(|MustClose| io::ErrorKind::ConnectionRefused.into())
    }
}

#[cfg(test)]
mod tests;
