//! The type in which every layer answers the layer above it: immediately, or after upstream trackers have answered.

/// A value, or what produces it later.
#[derive(Debug)]
pub enum Answer<T, P> {
    /// The value is there.
    Ready(T),
    /// The value comes later. The layer above waits for the value with this `P`.
    Pending(P),
}
