//! Reads the bytes of a file that a setting names, and decodes text.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use super::yaml::Problem;

/// The most bytes of a file. Every list of forwarders or zones is smaller.
const MOST_BYTES: u64 = 16 * 1024 * 1024;

/// How long to wait for the writer of a pipe.
const PIPE_TIMEOUT: Duration = Duration::from_secs(5);

/// The pause between two attempts to read a pipe.
const PIPE_PAUSE: Duration = Duration::from_millis(10);

/// Reads a file. The error says what is wrong and, where known, the remedy.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    // A pipe without a writer must not block the process.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let bytes =
        opened.and_then(|file| read_all(file, Instant::now() + PIPE_TIMEOUT)).map_err(|error| match error.kind() {
            ErrorKind::IsADirectory => {
                "it is a directory, which Docker creates if a mounted file does not exist".to_owned()
            }
            ErrorKind::PermissionDenied => {
                "permission denied: the user that retracker runs as must be allowed to read it, chmod 644".to_owned()
            }
            ErrorKind::WouldBlock => {
                format!("it is a pipe or a device to which nothing was written for {PIPE_TIMEOUT:?}")
            }
            ErrorKind::FileTooLarge => format!("it has more than {} MiB", MOST_BYTES >> 20),
            _ => error.to_string(),
        })?;
    Ok(bytes)
}

/// Reads a file. A pipe, as from a shell's process substitution, is empty until its writer starts. So this waits for
/// the writer until `end`.
fn read_all(file: File, end: Instant) -> io::Result<Vec<u8>> {
    let is_pipe = file.metadata()?.file_type().is_fifo();
    let (mut file, mut bytes) = (file.take(MOST_BYTES + 1), Vec::new());
    loop {
        match file.read_to_end(&mut bytes) {
            Ok(_) if file.limit() == 0 => return Err(ErrorKind::FileTooLarge.into()),
            Ok(_) if !is_pipe || !bytes.is_empty() => return Ok(bytes),
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
            _ if Instant::now() > end => return Err(ErrorKind::WouldBlock.into()),
            _ => std::thread::sleep(PIPE_PAUSE),
        }
    }
}

/// Decodes UTF-8, and UTF-16 in both byte orders (YAML 1.2, section 5.2).
pub(super) fn text(bytes: Vec<u8>) -> Result<String, Problem> {
    match bytes.as_slice() {
        [0xef, 0xbb, 0xbf, rest @ ..] => utf8(rest.to_vec()),
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        [0, second, ..] if *second != 0 => utf16(&bytes, u16::from_be_bytes),
        [first, 0, ..] if *first != 0 => utf16(&bytes, u16::from_le_bytes),
        _ => utf8(bytes),
    }
}

fn utf8(bytes: Vec<u8>) -> Result<String, Problem> {
    String::from_utf8(bytes).map_err(|error| {
        let good = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = good.split(|byte| *byte == b'\n').count();
        Problem { line: Some(line), problem: "it has bytes that are not UTF-8, expected text".to_owned() }
    })
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, Problem> {
    let (pairs, rest) = bytes.as_chunks();
    let text = String::from_utf16(&pairs.iter().map(|pair| unit(*pair)).collect::<Vec<_>>());
    let wrong = || Problem { line: None, problem: "it begins like UTF-16 but is not, expected text".to_owned() };
    text.ok().filter(|_| rest.is_empty()).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_in_every_encoding_of_yaml() {
        let expected = "- name: b\u{fc}ro \u{1f3e0}\n";
        let units = || expected.encode_utf16();
        let little: Vec<u8> = units().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = units().flat_map(u16::to_be_bytes).collect();
        for bytes in [
            expected.as_bytes().to_vec(),
            [b"\xef\xbb\xbf", expected.as_bytes()].concat(),
            [b"\xff\xfe", little.as_slice()].concat(),
            [b"\xfe\xff", big.as_slice()].concat(),
            little.clone(),
            big,
        ] {
            assert_eq!(text(bytes).as_deref(), Ok(expected));
        }
        assert_eq!(text(vec![]).as_deref(), Ok(""));
        assert_eq!(text(b"a\nb\n\xffc\n".to_vec()).unwrap_err().line, Some(3));
        assert!(text(b"\xff\xfea".to_vec()).is_err());
        assert!(text(b"\xff\xfe\x00\xd8".to_vec()).is_err());
    }

    #[test]
    fn what_is_no_file_ends_in_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path()).unwrap_err().contains("directory"));
        assert!(read(&folder.path().join("missing")).is_err());
        assert!(read(Path::new("/dev/zero")).unwrap_err().contains("16 MiB"));
        assert_eq!(read(Path::new("/dev/null")), Ok(vec![]));
        let pipe = |text: &[u8]| {
            let (reader, mut writer) = io::pipe().unwrap();
            io::Write::write_all(&mut writer, text).unwrap();
            let reader = File::from(std::os::fd::OwnedFd::from(reader));
            (reader, writer)
        };
        let (reader, writer) = pipe(b"- a\n");
        drop(writer);
        assert_eq!(read_all(reader, Instant::now()).unwrap(), b"- a\n");
        let (reader, writer) = pipe(b"");
        drop(writer);
        assert_eq!(read_all(reader, Instant::now()).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}
