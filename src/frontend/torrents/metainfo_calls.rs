//! The calls about torrent files.

use std::net::IpAddr;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{ETAG, HeaderMap, IF_NONE_MATCH};
use serde_json::json;

use super::reply::{bad_body, begin, busy, empty, problem, with_json};
use crate::frontend::context::Context;
use crate::torrents::{BlobKey, MAX_ASKED, PutMetainfo, SharedBlobs};

pub(super) fn read(context: &Context, blobs: &SharedBlobs, key: &BlobKey, headers: &HeaderMap) -> HttpResponse {
    let Some(stored) = blobs.metainfo(key, |info_hash| context.tracker.has_peers(info_hash)) else {
        return problem(blobs, StatusCode::NOT_FOUND, "there is no torrent file of this blob");
    };
    let tag = format!("\"{}\"", stored.digest);
    if matches_tag(headers, &tag) {
        return begin(blobs, StatusCode::NOT_MODIFIED).insert_header((ETAG, tag)).finish();
    }
    begin(blobs, StatusCode::OK)
        .insert_header((ETAG, tag))
        .content_type("application/x-bittorrent")
        .body(stored.file.clone())
}

/// Whether `If-None-Match` has this tag (RFC 9110, section 13.1.2).
fn matches_tag(headers: &HeaderMap, tag: &str) -> bool {
    let values = headers.get_all(IF_NONE_MATCH).filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|given| given == "*" || given.strip_prefix("W/").unwrap_or(given) == tag)
}

pub(super) fn write(context: &Context, blobs: &SharedBlobs, key: &BlobKey, file: Vec<u8>) -> HttpResponse {
    let (status, stored) = match blobs.put_metainfo(key, file, |info_hash| context.tracker.has_peers(info_hash)) {
        Err(error) => return bad_body(blobs, format_args!("the body is no torrent file of one file: {error}")),
        Ok(PutMetainfo::New(stored)) => (StatusCode::CREATED, stored),
        Ok(PutMetainfo::Same(stored)) => (StatusCode::OK, stored),
        Ok(PutMetainfo::Conflict(stored)) => {
            blobs.metrics.refused.conflict.inc();
            let hash = stored.info_hash;
            return problem(
                blobs,
                StatusCode::CONFLICT,
                format_args!("the blob has another torrent file, with the info-hash {hash}"),
            );
        }
    };
    with_json(blobs, status, &json!({ "info_hash": stored.info_hash.to_string() }))
}

pub(super) fn remove(blobs: &SharedBlobs, key: &BlobKey) -> HttpResponse {
    blobs.remove_metainfo(key);
    empty(blobs)
}

pub(super) fn complain(blobs: &SharedBlobs, key: &BlobKey, ip: IpAddr) -> HttpResponse {
    blobs.complain(key, ip);
    empty(blobs)
}

pub(super) fn list_missing(context: &Context, blobs: &SharedBlobs, ip: IpAddr, body: &[u8]) -> HttpResponse {
    let keys = match serde_json::from_slice::<Vec<String>>(body) {
        Ok(keys) if keys.len() <= MAX_ASKED => keys,
        Ok(keys) => {
            let found = keys.len();
            return bad_body(blobs, format_args!("the list has {found} keys, expected at most {MAX_ASKED}"));
        }
        Err(error) => return bad_body(blobs, format_args!("the body is no JSON list of keys: {error}")),
    };
    let keys: Result<Vec<_>, _> = keys.iter().map(|key| BlobKey::parse(key.as_bytes())).collect();
    let Ok(keys) = keys else { return bad_body(blobs, "a key in the list is wrong, see docs/torrent-cache.md") };
    match blobs.missing(keys, ip, |info_hash| context.tracker.has_peers(info_hash)) {
        Ok(missing) => {
            let missing: Vec<_> = missing.iter().map(BlobKey::as_str).collect();
            with_json(blobs, StatusCode::OK, &json!(missing))
        }
        Err(_) => busy(blobs),
    }
}
