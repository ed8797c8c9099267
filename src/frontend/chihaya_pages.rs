//! The options of Chihaya's pages for operators.

use std::sync::Arc;

use crate::access::Registered;

/// The pages of Chihaya.
#[derive(Clone, Debug, Default)]
pub struct ChihayaPages {
    /// The torrents and clients that the API of v1.0 adds and removes. `None` for v2, which has no API.
    pub registered: Option<Arc<Registered>>,
}
