//! Any bytes on a connection get the same answer however they are segmented. The first eight input bytes are the cuts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use retracker::frontend::http::rehearsal;

/// The answer without dates.
fn answered(pieces: &[&[u8]]) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let replies = runtime.block_on(rehearsal::replies(&rehearsal::context(), pieces)).expect("sockets");
    let lines = replies.split_inclusive(|&byte| byte == b'\n');
    lines.filter(|line| !line.starts_with(b"date: ")).flatten().copied().collect()
}

fuzz_target!(|input: &[u8]| {
    let Some((cuts, bytes)) = input.split_first_chunk::<8>() else { return };
    let mut ends: Vec<usize> = cuts.iter().map(|&cut| usize::from(cut) % (bytes.len() + 1)).collect();
    ends.extend([0, bytes.len()]);
    ends.sort_unstable();
    let pieces: Vec<&[u8]> = ends.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect();
    assert_eq!(answered(&pieces), answered(&[bytes]));
});
