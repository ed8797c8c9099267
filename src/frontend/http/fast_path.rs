//! The hot path: announces and scrapes, answered on the connection that they came on.
//!
//! It takes the requests that a read brings, writes the replies one after the other into a buffer of the worker's, and
//! sends that: three system calls for a request on a connection that is kept, four for one on a connection of its own. A
//! connection that waits has no buffer, unless it waits for the rest of a head.

mod waiting;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context as Task, Poll, ready};
use std::time::Duration;

use actix_http::Request;
use tokio::task::yield_now;
use tokio::time::timeout;

use self::waiting::{IO_TIMEOUT, Waiting};
use super::answer::{Resource, TrackerRequest, answer, refuse};
use super::framing::ReplyFraming;
use super::head::{self, Head, MAX_HEAD, MAX_LINES, Method, Read};
use super::pages::{self, Pages};
use super::socket::Socket;
use crate::answer::Answer;
use crate::clock;
use crate::frontend::Context;
use crate::frontend::announce::PendingBody;
use crate::frontend::client_address::{ClientAddress, Remote};
use crate::frontend::connections::{GiveWay, Holder, Idle, Open};
use crate::frontend::shutdown::StopReceiver;
use tracker_protocol::Refusal;
use tracker_protocol::route::{self, Route, route};

/// As much as that.
const AT_ONCE: usize = 64 * 1024;

/// How long a connection stays half open when the client may still be sending: the system would reset it, and the client could
/// lose the reply.
const LINGER: Duration = Duration::from_secs(1);

/// Bytes that are discarded meanwhile.
const MAX_DISCARDED: usize = 256 * 1024;

/// What one read takes.
const READ: usize = 16 * 1024;

/// Work that a connection may cause before other connections have their turn. A read, a request, and each [`REPLY_UNIT`] bytes
/// of replies count 1.
const QUANTUM: usize = 16;
/// In bytes.
const REPLY_UNIT: usize = 2048;

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

/// What all connections of a worker share.
pub(in crate::frontend) struct Worker {
    pub(in crate::frontend) context: Arc<Context>,
    pub(in crate::frontend) pages: Pages,
    pub(in crate::frontend) stop: StopReceiver,
}

/// A connection that is to be served.
pub(in crate::frontend) struct Fresh<'a> {
    pub(in crate::frontend) socket: Socket,
    /// Who is at its other end.
    pub(in crate::frontend) source: Remote,
    /// What has been read of it already.
    pub(in crate::frontend) unread: Vec<u8>,
    pub(in crate::frontend) open: Open<'a>,
}

/// Serves a connection until it ends.
pub(in crate::frontend) async fn serve(fresh: Fresh<'_>, worker: &Worker) -> io::Result<()> {
    let mut connection = Connection::new(fresh, worker);
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
                let framing = connection.unless_draining(framing);
                framing.put_bencode(&body, &mut connection.unsent);
                connection.flush().await?;
                if !framing.persistent {
                    break;
                }
            }
            Next::Page { request, framing } => {
                let framing = connection.unless_draining(framing);
                // In a box: few requests come here, and it is large.
                Box::pin(worker.pages.reply(*request, framing, &mut connection.unsent)).await;
                connection.work += connection.unsent.len() / REPLY_UNIT;
                connection.flush().await?;
                if !framing.persistent {
                    break;
                }
            }
            Next::Close => break,
        }
    }
    if connection.may_send {
        // In boxes, as few connections come here: so that the others are small.
        Box::pin(connection.linger()).await?;
    }
    Ok(())
}

/// The client that a connection from this address counts for.
pub(in crate::frontend) fn holder(rule: &ClientAddress, source: Remote) -> Holder {
    if rule.is_proxy(source) { Holder::Proxy } else { Holder::client(source.ip()) }
}

struct Connection<'a> {
    socket: Socket,
    source: Remote,
    holder: Holder,
    worker: &'a Worker,
    open: Open<'a>,
    /// What has been read but not answered.
    unread: Vec<u8>,
    /// Whether there may be a whole request in it.
    is_unread_new: bool,
    /// What the system did not take at once.
    unsent: Vec<u8>,
    /// Work done since other connections had their turn.
    work: usize,
    /// Whether the client may still send bytes that are not going to be read.
    may_send: bool,
    waiting: Waiting,
}

/// What a turn ends with.
enum Next {
    /// The requests are answered.
    Read,
    /// There may be more, but other connections have their turn first.
    Yield,
    /// The next reply has to be waited for.
    Wait { pending: PendingBody, framing: ReplyFraming },
    /// The next request is for actix-web.
    Page { request: Box<Request>, framing: ReplyFraming },
    /// The connection has ended, by the client's wish or by ours.
    Close,
}

impl<'a> Connection<'a> {
    fn new(Fresh { socket, source, unread, open }: Fresh<'a>, worker: &'a Worker) -> Self {
        let holder = holder(&worker.context.client_address, source);
        let is_unread_new = !unread.is_empty();
        let waiting = Waiting::new();
        Self {
            socket,
            source,
            holder,
            worker,
            open,
            unread,
            is_unread_new,
            unsent: Vec::new(),
            work: 0,
            may_send: false,
            waiting,
        }
    }

    /// Reads requests, and answers them.
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

    /// Answers one request after the other, as far as that goes. Tells how many bytes they were.
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
                        _ => Some(self.refuse_junk(replies)),
                    };
                    (next, length)
                }
                Read::TooLong(head) => (Some(self.refuse_long(&head, body, replies)), rest.len()),
                Read::Junk => (Some(self.refuse_junk(replies)), rest.len()),
            };
            used += length;
            self.waiting.answered();
            self.work += 1 + (replies.len() - before) / REPLY_UNIT;
            if let Some(next) = next {
                return (next, used);
            }
        }
    }

    /// Answers a request. None if that is done and there may be another. `is_last` is whether nothing has been read behind
    /// it.
    fn answer_one(
        &mut self,
        head: &Head<'_>,
        is_last: bool,
        body: &mut Vec<u8>,
        replies: &mut Vec<u8>,
    ) -> Option<Next> {
        let framing = ReplyFraming::new(head).unless(is_last && self.worker.context.is_draining());
        self.may_send = head.body || !is_last;
        let resource = match (route(head.path), head.method) {
            (Route::Announce | Route::Scrape, Method::Other(_)) => return self.refuse_method(framing, body, replies),
            (Route::Announce, _) => Resource::Announce,
            (Route::Scrape, _) => Resource::Scrape,
            (Route::Root, Method::Get | Method::Head) if route::names_torrent(head.query) => Resource::Announce,
            (Route::Other, Method::Get | Method::Head) if route::names_torrent(head.query) => Resource::StrayAnnounce,
            _ => {
                let Some(request) = pages::request(head) else { return Some(self.refuse_junk(replies)) };
                return Some(Next::Page { request: Box::new(request), framing });
            }
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

    fn refuse(&self, refusal: &Refusal, body: &mut Vec<u8>) {
        log::debug!("request from {} refused: {refusal}", self.source.ip());
        refuse(&self.worker.context, refusal, body);
    }

    fn refuse_method(&self, framing: ReplyFraming, body: &mut Vec<u8>, replies: &mut Vec<u8>) -> Option<Next> {
        body.clear();
        self.refuse(&Refusal::Method, body);
        framing.put(
            "405 Method Not Allowed",
            "content-type: text/plain\r\nx-content-type-options: nosniff\r\nallow: GET, HEAD\r\n",
            body,
            replies,
        );
        (!framing.persistent).then_some(Next::Close)
    }

    fn refuse_long(&mut self, head: &Head<'_>, body: &mut Vec<u8>, replies: &mut Vec<u8>) -> Next {
        self.may_send = true;
        let framing = ReplyFraming::new(head).unless(true);
        if route(head.path) == Route::Other {
            let text = format!("A request here has {MAX_HEAD} bytes and {MAX_LINES} header lines at most.\n");
            framing.put_plain("431 Request Header Fields Too Large", "", text.as_bytes(), replies);
        } else {
            body.clear();
            self.refuse(&Refusal::TooLong { bytes: MAX_HEAD, lines: MAX_LINES }, body);
            framing.put_bencode(body, replies);
        }
        Next::Close
    }

    fn refuse_junk(&mut self, replies: &mut Vec<u8>) -> Next {
        self.may_send = true;
        ReplyFraming::last().put_plain("400 Bad Request", "", b"That is no request.\n", replies);
        Next::Close
    }

    /// The connection ends once the process has been told to stop and all that has been read is answered.
    fn unless_draining(&self, framing: ReplyFraming) -> ReplyFraming {
        framing.unless(self.unread.is_empty() && self.worker.context.is_draining())
    }

    /// Ready once the client need not be waited for any longer.
    fn poll_over(&mut self, cx: &mut Task<'_>) -> Poll<()> {
        self.work = 0;
        let is_asking = !self.unread.is_empty();
        self.open.keeps(self.unread.len());
        let since = self.waiting.since(is_asking);
        let idle = if is_asking { Idle::Asking } else { Idle::Asked };
        if self.open.idle(self.holder, idle, since, cx).is_err() {
            return Poll::Ready(());
        }
        self.waiting.poll_over(is_asking, cx, self.worker.context.is_draining(), &self.worker.stop)
    }

    fn busy(&mut self) -> io::Result<()> {
        self.open.busy(self.holder).map_err(|GiveWay| io::ErrorKind::ConnectionRefused.into())
    }

    /// Sends what could not be sent at once, as long as the client takes it.
    async fn flush(&mut self) -> io::Result<()> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        let unsent = std::mem::take(&mut self.unsent);
        let sent = self.socket.send(&unsent)?;
        match unsent.get(sent..).unwrap_or_default() {
            [] => Ok(()),
            rest => Box::pin(self.send_slowly(rest)).await,
        }
    }

    async fn send_slowly(&mut self, bytes: &[u8]) -> io::Result<()> {
        for part in bytes.chunks(AT_ONCE) {
            let sending = timeout(IO_TIMEOUT, self.socket.send_all(part));
            let sent = self.open.unless_it_gives_way(self.holder, Idle::Sending, sending).await?;
            sent??;
        }
        Ok(())
    }

    /// Closes this side of the connection and discards what the client still sends, see [`LINGER`].
    async fn linger(&mut self) -> io::Result<()> {
        self.socket.finish()?;
        let mut discarded = 0;
        let since = clock::coarse();
        let discard = poll_fn(|cx| {
            BUFFERS.with_borrow_mut(|Buffers { read, .. }| {
                while discarded < MAX_DISCARDED {
                    match self.socket.poll_read(cx, &mut **read) {
                        Poll::Ready(Ok(count)) if count > 0 => discarded += count,
                        Poll::Ready(_) => return Poll::Ready(()),
                        Poll::Pending => {
                            let open = self.open.idle(self.holder, Idle::Finished, Some(since), cx);
                            return if open.is_err() { Poll::Ready(()) } else { Poll::Pending };
                        }
                    }
                }
                Poll::Ready(())
            })
        });
        let _late = timeout(LINGER, discard).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
