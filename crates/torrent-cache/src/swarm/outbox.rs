//! What is to be sent to a peer, and the task that sends it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::content::SharedContent;
use super::counters::SwarmCounters;
use crate::peer_wire::{BlockRequest, PIECE_HEAD_LENGTH, PeerMessage};

/// The most blocks that are read and sent at once. A message waits behind at most this many blocks.
const BATCH: usize = 4;
/// The most requests of a peer that may wait. Our extension handshake tells the peer this number (`reqq`).
pub(super) const MAX_QUEUE: usize = 250;
/// The most bytes of messages that may wait for a peer that does not read. When more bytes wait, the connection ends.
const MAX_WAITING: usize = 4 << 20;
/// The connection ends when the peer has not taken all bytes of a write in this time.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// What waits to be sent to one peer: messages, and after them the blocks that the peer requested.
#[derive(Debug, Default)]
pub(super) struct PeerOutbox {
    waiting: RefCell<WaitingOutput>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct WaitingOutput {
    messages: BytesMut,
    blocks: VecDeque<BlockRequest>,
    is_closed: bool,
}

impl PeerOutbox {
    /// Puts a message into the queue.
    pub(super) fn send(&self, message: &PeerMessage) {
        let mut waiting = self.waiting.borrow_mut();
        message.encode(&mut waiting.messages);
        waiting.is_closed |= waiting.messages.len() > MAX_WAITING;
        self.changed.notify_one();
    }

    /// Puts a block of a complete piece into the queue. Returns `false` if too many blocks wait.
    pub(super) fn upload(&self, block: BlockRequest) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.blocks.len() >= MAX_QUEUE {
            return false;
        }
        waiting.blocks.push_back(block);
        self.changed.notify_one();
        true
    }

    /// Removes a block from the queue, because the peer does not want it any more.
    pub(super) fn cancel(&self, block: &BlockRequest) {
        self.waiting.borrow_mut().blocks.retain(|waiting| waiting != block);
    }

    /// Makes [`Self::run`] return, which ends the connection.
    pub(super) fn close(&self) {
        self.waiting.borrow_mut().is_closed = true;
        self.changed.notify_one();
    }

    /// Sends what waits, until the connection ends. Must be called once.
    pub(super) async fn run(
        &self,
        mut stream: impl AsyncWrite + Unpin,
        content: &Arc<SharedContent>,
        counters: &SwarmCounters,
    ) -> io::Result<()> {
        loop {
            let (messages, blocks) = {
                let mut waiting = self.waiting.borrow_mut();
                if waiting.is_closed {
                    return Ok(());
                }
                let count = waiting.blocks.len().min(BATCH);
                (waiting.messages.split(), waiting.blocks.drain(..count).collect::<Vec<_>>())
            };
            if messages.is_empty() && blocks.is_empty() {
                self.changed.notified().await;
                continue;
            }
            write(&mut stream, &messages).await?;
            if !blocks.is_empty() {
                let sent: u64 = blocks.iter().map(|block| u64::from(block.length)).sum();
                let content = Arc::clone(content);
                let read = spawn_blocking(move || read_blocks(&content, &blocks));
                write(&mut stream, &read.await.map_err(io::Error::other)??).await?;
                counters.sent(sent);
            }
        }
    }
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    timeout(WRITE_TIMEOUT, stream.write_all(bytes)).await?
}

/// Reads these blocks, and returns the messages that carry them. Waits for the disk.
fn read_blocks(content: &SharedContent, blocks: &[BlockRequest]) -> io::Result<Vec<u8>> {
    let mut out = vec![0; blocks.iter().map(|block| PIECE_HEAD_LENGTH + block.length as usize).sum()];
    let mut rest = &mut out[..];
    for block in blocks {
        let message = rest.split_off_mut(..PIECE_HEAD_LENGTH + block.length as usize).unwrap_or_default();
        let Some((head, data)) = message.split_first_chunk_mut::<PIECE_HEAD_LENGTH>() else { break };
        *head = block.piece_head();
        content.read(content.shape().start(block.piece) + u64::from(block.begin), data)?;
    }
    Ok(out)
}
