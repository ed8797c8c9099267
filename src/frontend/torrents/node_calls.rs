//! Torrent files as nodes of etcd's API v2, for programs that keep them in etcd. A node's value is a torrent file in
//! base64. The other calls use the same torrent files.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use url::form_urlencoded;

use super::reply::{begin, with_json};
use crate::frontend::context::Context;
use crate::torrents::{BlobKey, PutMetainfo, SharedBlobs, StoredMetainfo};

/// etcd's number for a key that does not exist.
const KEY_NOT_FOUND: u32 = 100;
/// etcd's number for a key that exists already.
const NODE_EXISTS: u32 = 105;
/// etcd's number for a field with a wrong value.
const INVALID_FIELD: u32 = 209;

pub(super) fn read(context: &Context, blobs: &SharedBlobs, key: &BlobKey) -> HttpResponse {
    match blobs.metainfo(key, |info_hash| context.tracker.has_peers(info_hash)) {
        Some(stored) => respond(blobs, StatusCode::OK, "get", &stored),
        None => refuse(blobs, StatusCode::NOT_FOUND, KEY_NOT_FOUND, "Key not found", &path(key)),
    }
}

pub(super) fn write(context: &Context, blobs: &SharedBlobs, key: &BlobKey, form: &[u8]) -> HttpResponse {
    let put = value(form).and_then(|file| {
        blobs
            .put_metainfo(key, file, |info_hash| context.tracker.has_peers(info_hash))
            .map_err(|error| error.to_string())
    });
    match put {
        Ok(PutMetainfo::New(stored)) => respond(blobs, StatusCode::CREATED, "set", &stored),
        Ok(PutMetainfo::Same(stored)) => respond(blobs, StatusCode::OK, "set", &stored),
        Ok(PutMetainfo::Conflict(_)) => {
            blobs.metrics.refused.conflict.inc();
            refuse(blobs, StatusCode::CONFLICT, NODE_EXISTS, "Key already exists", &path(key))
        }
        Err(cause) => {
            blobs.metrics.refused.request.inc();
            refuse(blobs, StatusCode::BAD_REQUEST, INVALID_FIELD, "Invalid field", &cause)
        }
    }
}

/// Reads the field `value` of a form: a torrent file in base64, perhaps with line ends.
fn value(form: &[u8]) -> Result<Vec<u8>, String> {
    let mut fields = form_urlencoded::parse(form);
    let (_, text) = fields.find(|(name, _)| name == "value").ok_or("the form has no value")?;
    // The parser turns an unescaped plus into a space. Base64 has no spaces, so each space was a plus.
    let text: String =
        text.chars().filter(|c| !matches!(c, '\r' | '\n')).map(|c| if c == ' ' { '+' } else { c }).collect();
    STANDARD.decode(text).map_err(|error| format!("value is not base64: {error}"))
}

fn path(key: &BlobKey) -> String {
    format!("/torrents/{key}")
}

fn respond(blobs: &SharedBlobs, status: StatusCode, action: &str, stored: &StoredMetainfo) -> HttpResponse {
    let StoredMetainfo { key, file, index, .. } = stored;
    let node = json!({
        "key": path(key),
        "value": STANDARD.encode(file),
        "modifiedIndex": index,
        "createdIndex": index,
    });
    let body: Value = json!({ "action": action, "node": node });
    begin(blobs, status)
        .insert_header(("x-etcd-index", index.to_string()))
        .content_type("application/json")
        .body(format!("{body}\n"))
}

fn refuse(blobs: &SharedBlobs, status: StatusCode, code: u32, message: &str, cause: &str) -> HttpResponse {
    let body = json!({ "errorCode": code, "message": message, "cause": cause, "index": 0 });
    with_json(blobs, status, &body)
}
