//! Records the occupant of a key. The occupant of an endpoint is the peer id that announces from it. The occupant of a
//! peer id at an address is the port on which that peer listens.

use std::hash::Hash;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use smallvec::SmallVec;

/// The occupants of all keys of one kind in a torrent.
#[derive(Debug)]
pub(super) struct Occupancies<K, T>(HashMap<K, Occupancy<T>, foldhash::fast::RandomState>);

/// The occupants of one key: usually one, which the next occupant replaces.
#[derive(Debug)]
struct Occupancy<T> {
    current: T,
    /// The occupants that were replaced most recently.
    replaced: Option<Box<SmallVec<[T; 4]>>>,
    /// Whether several occupants share the key: clients behind a NAT with one port, or two programs with one peer id.
    /// Set when a replaced occupant comes back. From then on, no occupant replaces another.
    is_shared: bool,
}

impl<T: Copy + PartialEq> Occupancy<T> {
    /// How many replaced occupants are remembered.
    const REMEMBERED: usize = 8;

    fn new(current: T) -> Self {
        Self { current, replaced: None, is_shared: false }
    }

    fn occupy(&mut self, newcomer: T) -> Option<T> {
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

    fn all(&self) -> impl Iterator<Item = T> + '_ {
        let others = self.replaced.iter().flat_map(|replaced| replaced.iter().copied());
        std::iter::once(self.current).chain(others.filter(|&other| self.is_shared && other != self.current))
    }
}

impl<K: Eq + Hash, T: Copy + PartialEq> Occupancies<K, T> {
    pub(super) fn new() -> Self {
        Self(HashMap::default())
    }

    /// Returns the occupant that announced last.
    pub(super) fn current(&self, key: &K) -> Option<T> {
        self.0.get(key).map(|occupancy| occupancy.current)
    }

    /// Returns the occupant of a key. `None` if the key is free or shared.
    pub(super) fn sole(&self, key: &K) -> Option<T> {
        self.0.get(key).filter(|occupancy| !occupancy.is_shared).map(|occupancy| occupancy.current)
    }

    /// Returns all occupants that a key may have now: several if the key is shared.
    pub(super) fn all(&self, key: &K) -> impl Iterator<Item = T> + '_ {
        self.0.get(key).into_iter().flat_map(Occupancy::all)
    }

    /// Makes `newcomer` the current occupant. Returns the occupant that it replaces; `None` if the key was free or is
    /// shared.
    pub(super) fn occupy(&mut self, key: K, newcomer: T) -> Option<T> {
        match self.0.entry(key) {
            Entry::Occupied(occupied) => occupied.into_mut().occupy(newcomer),
            Entry::Vacant(vacant) => {
                vacant.insert(Occupancy::new(newcomer));
                None
            }
        }
    }

    /// Removes `leaver` if it is the current occupant. If the key is shared, another occupant that `is_here` becomes
    /// the current occupant. If there is no such occupant, the key is removed.
    pub(super) fn vacate(&mut self, key: K, leaver: T, is_here: impl Fn(T) -> bool) {
        let Entry::Occupied(mut occupied) = self.0.entry(key) else { return };
        let occupancy = occupied.get_mut();
        if occupancy.current == leaver {
            let next = occupancy.all().find(|&other| other != leaver && is_here(other));
            match next {
                Some(other) => occupancy.current = other,
                None => drop(occupied.remove()),
            }
        }
    }
}
