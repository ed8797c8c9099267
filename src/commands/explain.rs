//! `retracker explain`: asks a running instance what a client gets of a torrent, and why.

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};

use super::instance::{self, PageRequest};
use crate::config::{ExplainOptions, JwtText};

/// The longest reply that is read, in bytes. Every explanation is shorter.
const LONGEST: u64 = 1024 * 1024;

/// Asks for the explanation, and returns it as text. The error is a sentence for the operator.
pub(super) fn ask(options: &ExplainOptions) -> Result<String, String> {
    let ExplainOptions { listen, info_hash, at, client, token } = options;
    let mut target = format!("/explain?torrent={info_hash}&as={at}");
    let mut add = |name, value: &[u8]| target.extend([name, &*percent_encode(value, NON_ALPHANUMERIC).to_string()]);
    client.iter().for_each(|client| add("&client=", client.as_bytes()));
    token.iter().for_each(|JwtText(token)| add("&token=", token));
    let request = PageRequest { target, longest: LONGEST };
    let mut last = "the instance listens nowhere".to_owned();
    for listen in listen {
        match instance::replies(listen, &request) {
            Err(error) => last = error,
            Ok(replies) => {
                let reply = replies.first().map_or("", String::as_str);
                let body = reply.split_once("\r\n\r\n").map_or("", |(_, body)| body);
                match instance::status(reply) {
                    Some("200") => return Ok(body.to_owned()),
                    Some("404") => {
                        last = format!("the instance on {listen} serves no operator's pages: start it with -p");
                    }
                    _ => last = format!("unexpected answer on {listen}: {}", reply.lines().next().unwrap_or("none")),
                }
            }
        }
    }
    Err(last)
}
