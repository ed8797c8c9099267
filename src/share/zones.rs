//! Translates the zones of another instance, because each instance numbers its zones itself.

use std::hash::Hasher as _;
use std::num::NonZeroU8;

use siphasher::sip::SipHasher24;
use thiserror::Error;

use crate::topology::{Topology, ZoneId};

/// Returns a number that identifies a list of zones. Two instances with the same names in the same order have the same
/// fingerprint, whatever their versions.
pub fn fingerprint<'a>(names: impl IntoIterator<Item = &'a str>) -> u64 {
    // The hash must stay the same in later versions.
    let mut hasher = SipHasher24::new();
    for name in names {
        hasher.write(name.as_bytes());
        // No name contains this byte, because names are UTF-8.
        hasher.write(&[0xff]);
    }
    hasher.finish()
}

/// For each zone of another instance, our zone of the same name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ZoneMap(Vec<Option<ZoneId>>);

/// A record names a zone that this instance does not have. The record must be dropped. If its peer were recorded without
/// a zone, the wrong clients would get the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("this instance has no zone of that name")]
pub struct UnknownZone;

impl ZoneMap {
    /// Makes the map for an instance that has zones with these names.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>, topology: &Topology) -> Self {
        let own = |name| topology.zones().find(|(_, own)| *own == name).map(|(zone, _)| zone);
        Self(names.into_iter().take(ZoneId::MOST).map(own).collect())
    }

    /// Returns our zone for the zone of a record. A peer that is in no zone there is in no zone here.
    pub fn own(&self, zone: Option<NonZeroU8>) -> Result<Option<ZoneId>, UnknownZone> {
        let Some(zone) = zone else { return Ok(None) };
        let own = self.0.get(usize::from(zone.get()) - 1).copied().flatten();
        own.map(Some).ok_or(UnknownZone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{ExternalAddress, Zone};

    fn topology(names: &[&str]) -> Topology {
        let zone =
            |name: &&str| Zone { name: (*name).to_owned(), networks: Vec::new(), external: ExternalAddress::default() };
        Topology::new(&names.iter().map(zone).collect::<Vec<_>>(), ExternalAddress::default())
    }

    #[test]
    fn zones_are_found_by_their_names() {
        let topology = topology(&["berlin", "oslo"]);
        let map = ZoneMap::new(["oslo", "rome", "berlin"], &topology);
        let own = |n| map.own(NonZeroU8::new(n));
        assert_eq!(own(0), Ok(None));
        assert_eq!(own(1), Ok(ZoneId::nth(1)));
        assert_eq!(own(2), Err(UnknownZone));
        assert_eq!(own(3), Ok(ZoneId::nth(0)));
        assert_eq!(own(4), Err(UnknownZone), "the other instance has three zones");
        assert_eq!(own(255), Err(UnknownZone));
    }

    #[test]
    fn a_fingerprint_is_that_of_the_names_and_their_order() {
        let lists: [&[&str]; 7] = [
            &[],
            &[""],
            &["berlin"],
            &["berlin", "oslo"],
            &["oslo", "berlin"],
            &["berlinoslo"],
            &["berlin", "", "oslo"],
        ];
        let mut fingerprints = lists.map(|list| fingerprint(list.iter().copied()));
        // Instances of different versions must agree.
        assert_eq!(fingerprints[3], 0xb501_67d1_7870_e4c7);
        fingerprints.sort_unstable();
        assert!(fingerprints.windows(2).all(|pair| pair[0] != pair[1]), "{fingerprints:?}");
    }
}
