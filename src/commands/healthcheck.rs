//! `retracker healthcheck`: asks a running instance whether it is healthy. A container's HEALTHCHECK runs this command,
//! so the image needs no curl.

use super::instance::{self, PageRequest};
use crate::frontend::listen::Listen;

/// Succeeds if a healthy instance serves at each address of `listen`. The error is a sentence for the operator.
pub(super) fn check(listen: &Listen) -> Result<(), String> {
    // A health page is shorter than this.
    let request = PageRequest { target: "/health".to_owned(), longest: 4096 };
    instance::replies(listen, &request)?.iter().try_for_each(|reply| judge(listen, reply))
}

fn judge(listen: &Listen, reply: &str) -> Result<(), String> {
    match instance::status(reply) {
        Some("200") => Ok(()),
        Some("503") => Err(format!("the instance on {listen} is stopping")),
        _ => Err(format!("unhealthy answer on {listen}: {}", reply.lines().next().unwrap_or("no answer"))),
    }
}
