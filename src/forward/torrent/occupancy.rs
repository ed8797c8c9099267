//! Who holds an endpoint, or a host's port, in a torrent.

use std::hash::Hash;

use hashbrown::hash_map::Entry;
use smallvec::SmallVec;

use super::Map;

/// A place that one client has at a time as a rule, and which others had before.
#[derive(Debug)]
pub(super) struct Occupancy<T> {
    pub(super) current: T,
    /// The latest of those that were replaced.
    replaced: Option<Box<SmallVec<[T; 4]>>>,
    /// Whether several have it at once, as one that was replaced has come back: clients behind a NAT with one port, or two
    /// programs under one id. From then on none replaces another.
    is_shared: bool,
}

impl<T: Copy + PartialEq> Occupancy<T> {
    /// Those that are remembered as replaced.
    const REMEMBERED: usize = 8;

    pub(super) fn new(current: T) -> Self {
        Self { current, replaced: None, is_shared: false }
    }

    /// Another one has the place. Returns whom it replaces.
    pub(super) fn take(&mut self, newcomer: T) -> Option<T> {
        if self.current == newcomer {
            return None;
        }
        let replaced = self.replaced.get_or_insert_default();
        self.is_shared |= replaced.contains(&newcomer);
        if !replaced.contains(&self.current) {
            if replaced.len() == Self::REMEMBERED {
                replaced.remove(0);
            }
            replaced.push(self.current);
        }
        let old = std::mem::replace(&mut self.current, newcomer);
        (!self.is_shared).then_some(old)
    }

    /// Whoever may have it.
    pub(super) fn all(&self) -> impl Iterator<Item = T> + '_ {
        let others = self.replaced.iter().flat_map(|replaced| replaced.iter().copied());
        std::iter::once(self.current).chain(others.filter(|&other| self.is_shared && other != self.current))
    }
}

/// A newcomer has a place. Returns whom it replaces.
pub(super) fn take<K: Eq + Hash, T: Copy + PartialEq>(
    places: &mut Map<K, Occupancy<T>>,
    at: K,
    newcomer: T,
) -> Option<T> {
    match places.entry(at) {
        Entry::Occupied(place) => place.into_mut().take(newcomer),
        Entry::Vacant(new) => {
            new.insert(Occupancy::new(newcomer));
            None
        }
    }
}

/// One that had a place has left, if it has it still. Another one has it that shares it and is here; if there is none, the place
/// is forgotten.
pub(super) fn leave<K: Eq + Hash, T: Copy + PartialEq>(
    places: &mut Map<K, Occupancy<T>>,
    at: K,
    leaver: T,
    is_here: impl Fn(T) -> bool,
) {
    let Entry::Occupied(mut entry) = places.entry(at) else { return };
    let place = entry.get_mut();
    if place.current == leaver {
        let next = place.all().find(|&other| other != leaver && is_here(other));
        match next {
            Some(other) => place.current = other,
            None => drop(entry.remove()),
        }
    }
}
