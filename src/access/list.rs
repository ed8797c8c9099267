//! A rule of a list: only what is on it is admitted, or only what is not.

/// A rule of a list.
#[derive(Debug)]
pub enum ListRule<S> {
    /// Only what is in the list is admitted.
    Allow(S),
    /// What is in the list is refused.
    Deny(S),
}

impl<S> ListRule<S> {
    /// Whether something is admitted, if `is_listed` finds it in the list or not.
    pub(super) fn admits(&self, is_listed: impl FnOnce(&S) -> bool) -> bool {
        match self {
            Self::Allow(list) => is_listed(list),
            Self::Deny(list) => !is_listed(list),
        }
    }

    pub(super) fn map<T>(self, convert: impl FnOnce(S) -> T) -> ListRule<T> {
        match self {
            Self::Allow(list) => ListRule::Allow(convert(list)),
            Self::Deny(list) => ListRule::Deny(convert(list)),
        }
    }
}
