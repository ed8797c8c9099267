//! What each layer returns to the layer above: an answer that is ready, or a handle for an answer that has to wait for
//! upstream trackers.

/// A value, or a handle for a value that comes later.
#[derive(Debug)]
pub enum Answer<T, P> {
    /// The value is ready.
    Ready(T),
    /// The value comes later. The layer above waits for it with this handle.
    Pending(P),
}
