//! The one shape in which every layer answers the layer above it: at once, or once upstream trackers have answered.

/// A value that is there, or what gives it later.
#[derive(Debug)]
pub enum Answer<T, P> {
    /// The value is there.
    Ready(T),
    /// The value is still to come. `P` is what the layer above waits with.
    Pending(P),
}
