//! The answer to a client when a limit is reached.

/// One of the limits is reached. The client may ask again after some seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;
