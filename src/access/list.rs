//! Rules with a list. Such a rule admits only the listed entries, or everything except the listed entries.

/// A rule with a list.
#[derive(Debug)]
pub enum ListRule<S> {
    /// Only what is in the list is admitted.
    Allow(S),
    /// What is in the list is refused.
    Deny(S),
}

impl<S> ListRule<S> {
    /// Returns whether a thing is admitted. `is_listed` says whether the list has this thing.
    pub(super) fn admits(&self, is_listed: impl FnOnce(&S) -> bool) -> bool {
        match self {
            Self::Allow(list) => is_listed(list),
            Self::Deny(list) => !is_listed(list),
        }
    }

    /// Does the same as [`Self::admits`], but `is_listed` may return `None` for "not known". The result is `None` then.
    pub(super) fn admits_if_known(&self, is_listed: impl FnOnce(&S) -> Option<bool>) -> Option<bool> {
        match self {
            Self::Allow(list) => is_listed(list),
            Self::Deny(list) => is_listed(list).map(|is_listed| !is_listed),
        }
    }

    pub(super) fn map<T>(self, convert: impl FnOnce(S) -> T) -> ListRule<T> {
        match self {
            Self::Allow(list) => ListRule::Allow(convert(list)),
            Self::Deny(list) => ListRule::Deny(convert(list)),
        }
    }
}
