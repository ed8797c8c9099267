//! Which pages of Chihaya's there are for operators.

use std::sync::Arc;

use crate::access::Registered;

/// The pages of Chihaya.
#[derive(Clone, Debug, Default)]
pub struct ChihayaPages {
    /// What the API of v1.0 changes. None for v2, which has no API.
    pub registered: Option<Arc<Registered>>,
}
