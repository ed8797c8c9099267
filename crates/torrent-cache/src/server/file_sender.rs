//! Sends parts of files to a client without a copy in this process (sendfile(2)).
//!
//! The body of a reply hands a part of a file over to the [`FileSender`], and stays pending until the part is sent.
//! While a body is pending, actix-http writes its buffer and flushes the connection. The flush sends the part.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use rustix::fs::sendfile;
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::flight::FilePart;

/// Passes parts of files from the bodies of a connection to the connection's socket. One body uses it at a time.
#[derive(Clone, Default)]
pub(super) struct FileSender(Rc<RefCell<HandedOver>>);

#[derive(Default)]
enum HandedOver {
    #[default]
    Nothing,
    /// The body waits until the rest of this part is sent.
    Part { part: FilePart, sent: u64, body: Waker },
    /// This many bytes were sent; an error if not even one byte was sent.
    Done(io::Result<u64>),
}

impl FileSender {
    /// Sends the part to the client. Returns how many bytes were sent, at least one. This is less than the whole part
    /// if the file ended early or an error stopped the reading.
    ///
    /// # Errors
    ///
    /// The first byte cannot be read, or the file system does not support sendfile.
    pub(super) async fn send(&self, part: FilePart) -> io::Result<u64> {
        let _withdrawn = Withdrawal(self);
        self.0.replace(HandedOver::Part { part, sent: 0, body: Waker::noop().clone() });
        poll_fn(|cx| match &mut *self.0.borrow_mut() {
            HandedOver::Part { body, .. } => {
                body.clone_from(cx.waker());
                Poll::Pending
            }
            HandedOver::Done(sent) => Poll::Ready(std::mem::replace(sent, Ok(0))),
            HandedOver::Nothing => Poll::Ready(Ok(0)),
        })
        .await
    }

    /// Returns whether a part waits to be sent.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(*self.0.borrow(), HandedOver::Part { .. })
    }

    /// Sends as much of the part as the socket takes at once. Returns only errors of the connection. The body gets
    /// errors of the file.
    pub(super) fn poll_send(&self, socket: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut handed_over = self.0.borrow_mut();
        let HandedOver::Part { part, sent, body } = &mut *handed_over else { return Poll::Ready(Ok(())) };
        let read = match ready!(poll_sendfile(socket, part, cx)) {
            Ok(read) => read,
            Err(error) if is_of_the_connection(&error) => return Poll::Ready(Err(error)),
            Err(error) if *sent == 0 => {
                body.wake_by_ref();
                *handed_over = HandedOver::Done(Err(error));
                return Poll::Ready(Ok(()));
            }
            Err(_) => 0,
        };
        *sent += read;
        part.from += read;
        part.length = part.length.saturating_sub(read);
        if part.length == 0 || read == 0 {
            body.wake_by_ref();
            let sent = *sent;
            *handed_over =
                HandedOver::Done(if sent == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(sent) });
        }
        Poll::Ready(Ok(()))
    }
}

/// Takes a part back when its body no longer waits for it.
struct Withdrawal<'a>(&'a FileSender);

impl Drop for Withdrawal<'_> {
    fn drop(&mut self) {
        self.0.0.replace(HandedOver::Nothing);
    }
}

/// Calls sendfile once, as soon as the socket has room. Returns how many bytes were sent; 0 at the end of the file.
fn poll_sendfile(socket: &TcpStream, part: &FilePart, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
    let count = usize::try_from(part.length).unwrap_or(usize::MAX);
    loop {
        ready!(socket.poll_write_ready(cx))?;
        let mut from = part.from;
        let give = || Ok(sendfile(socket, &part.file, Some(&mut from), count)? as u64);
        match socket.try_io(Interest::WRITABLE, give) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            sent => return Poll::Ready(sent),
        }
    }
}

/// Whether an error says that the client has gone. All other errors come from the file or its file system.
fn is_of_the_connection(error: &io::Error) -> bool {
    let of_the_connection = [Errno::PIPE, Errno::CONNRESET, Errno::NOTCONN, Errno::TIMEDOUT, Errno::CONNABORTED];
    Errno::from_io_error(error).is_some_and(|error| of_the_connection.contains(&error))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write as _;
    use std::sync::Arc;

    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    use super::*;

    async fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (listener.accept().await.unwrap().0, client)
    }

    fn file(bytes: &[u8]) -> Arc<File> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Arc::new(file)
    }

    /// Flushes the connection again and again, as actix-http does while a body is pending.
    async fn flush(sender: &FileSender, socket: &TcpStream) -> io::Result<()> {
        loop {
            poll_fn(|cx| sender.poll_send(socket, cx)).await?;
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_part_of_a_file_arrives() {
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
        let (socket, mut client) = connection().await;
        let sender = FileSender::default();
        let part = FilePart { file: file(&bytes), from: 1000, length: 2_500_000 };
        let mut got = vec![0; 2_500_000];
        let sent = tokio::select! {
            (sent, read) = async { tokio::join!(sender.send(part), client.read_exact(&mut got)) } => {
                read.unwrap();
                sent
            }
            end = flush(&sender, &socket) => panic!("{end:?}"),
        };
        assert_eq!(sent.unwrap(), 2_500_000);
        assert!(got == bytes[1000..2_501_000]);
        assert!(!sender.is_waiting());
    }

    #[tokio::test]
    async fn a_file_that_ends_early_is_told() {
        let (socket, _client) = connection().await;
        let sender = FileSender::default();
        let file = file(b"four");
        let both = async {
            let part = |from| FilePart { file: Arc::clone(&file), from, length: 10 };
            let first = sender.send(part(0)).await;
            (first, sender.send(part(4)).await)
        };
        let (first, second) = tokio::select! {
            sent = both => sent,
            end = flush(&sender, &socket) => panic!("{end:?}"),
        };
        assert_eq!(first.unwrap(), 4);
        assert_eq!(second.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_does_not_end_the_connection() {
        let (socket, _client) = connection().await;
        let sender = FileSender::default();
        // A folder has no bytes.
        let part = FilePart { file: Arc::new(File::open("/").unwrap()), from: 0, length: 10 };
        let sent = tokio::select! {
            sent = sender.send(part) => sent,
            end = flush(&sender, &socket) => panic!("{end:?}"),
        };
        sent.unwrap_err();
    }

    #[tokio::test]
    async fn what_a_body_no_longer_waits_for_is_not_sent() {
        let sender = FileSender::default();
        let part = FilePart { file: file(b"four"), from: 0, length: 4 };
        let mut send = Box::pin(sender.send(part));
        assert!(futures::poll!(&mut send).is_pending());
        assert!(sender.is_waiting());
        drop(send);
        assert!(!sender.is_waiting());
    }

    #[tokio::test]
    async fn a_client_that_has_gone_is_an_error_of_the_connection() {
        let (socket, client) = connection().await;
        drop(client);
        let sender = FileSender::default();
        let bytes = vec![1; 1 << 20];
        let part = || FilePart { file: file(&bytes), from: 0, length: 1 << 20 };
        let send = async { while let Ok(_sent) = sender.send(part()).await {} };
        let end = tokio::select! {
            () = send => panic!("the file can be read"),
            end = flush(&sender, &socket) => end,
        };
        assert!(is_of_the_connection(&end.unwrap_err()));
    }
}
