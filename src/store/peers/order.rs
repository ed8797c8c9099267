//! Keeps a list in the order of [`PeerState`] while entries come, go and change.

use super::Peers;
use crate::store::entry::{Entry, PeerState, end_of};
use tracker_protocol::Ip;

impl<A: Ip> Peers<A> {
    pub(in crate::store) fn push(&mut self, entry: Entry<A>) {
        if self.entries.len() == self.entries.capacity() {
            // Growth by an eighth instead of doubling saves memory.
            self.entries.reserve_exact((self.entries.len() / 8).max(1));
        }
        let mut at = self.entries.len();
        self.entries.push(entry);
        if let Some(index) = &mut self.index {
            index.note(&self.entries, at);
        }
        // One swap for each state that the entry passes on its way from the end.
        for state in PeerState::ALL.into_iter().rev().skip(1).filter(|&state| entry.kind() <= state) {
            let last = at.checked_sub(1).and_then(|last| self.entries.get(last));
            if last.is_none_or(|last| last.kind() <= entry.kind()) {
                break;
            }
            at = self.swapped(at, self.end_before(at, state));
        }
        if let Some(index) = &mut self.index {
            index.grow(entry.kind());
        }
        self.make_index();
    }

    pub(in crate::store) fn remove_at(&mut self, mut at: usize) -> Option<Entry<A>> {
        let removed = *self.entries.get(at)?;
        // Moves the entry to the end of its state, then of each later state. The list stays in order.
        for kind in PeerState::ALL.into_iter().filter(|&kind| kind >= removed.kind()) {
            if at + 1 == self.entries.len() {
                break;
            }
            at = self.swapped(at, self.end_behind(at, kind) - 1);
        }
        if let Some(index) = &mut self.index {
            index.forget(&self.entries, at);
            index.lessen(removed.kind());
        }
        self.entries.pop();
        Some(removed)
    }

    /// Moves an entry to the place of another state, with one swap for each state on the way. Returns the new position.
    /// The caller must give the entry the new state.
    pub(super) fn move_to(&mut self, mut at: usize, old: PeerState, new: PeerState) -> usize {
        for state in PeerState::ALL.into_iter().filter(|&state| old <= state && state < new) {
            at = self.swapped(at, self.end_behind(at, state) - 1);
        }
        for state in PeerState::ALL.into_iter().rev().filter(|&state| new <= state && state < old) {
            at = self.swapped(at, self.end_before(at, state));
        }
        if let Some(index) = &mut self.index {
            index.lessen(old);
            index.grow(new);
        }
        at
    }

    /// Returns the position after the last peer of a state, which is behind `at`: the entry at `at` is being moved.
    fn end_behind(&self, at: usize, state: PeerState) -> usize {
        match &self.index {
            None => at + 1 + end_of(self.entries.get(at + 1..).unwrap_or_default(), state),
            Some(index) => index.end_of(state),
        }
    }

    /// Returns the position after the last peer of a state, which is before `at`: the entry at `at` is being moved.
    fn end_before(&self, at: usize, state: PeerState) -> usize {
        match &self.index {
            None => end_of(self.entries.get(..at).unwrap_or_default(), state),
            Some(index) => index.end_of(state),
        }
    }

    /// Swaps two entries. Returns the new position of the entry at `at`.
    fn swapped(&mut self, at: usize, other: usize) -> usize {
        if at != other {
            if let Some(index) = &mut self.index {
                index.swap(&self.entries, at, other);
            }
            self.entries.swap(at, other);
        }
        other
    }
}
