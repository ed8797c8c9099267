//! How much of a disk the store may take.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Room for a file is made in steps of this many bytes. So a sender that announces a large file, but sends nothing,
/// evicts little.
pub(super) const STEP: u64 = 64 << 20;

/// Bytes, or a share of the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskShare {
    /// This many bytes.
    Bytes(u64),
    /// This many hundredths of the file system's size, 100 at most.
    Percent(u8),
}

impl DiskShare {
    /// Returns how many bytes this share of a file system of `total` bytes is.
    pub fn of(self, total: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => total / 100 * u64::from(percent),
        }
    }
}

/// How much of its file system the store may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreLimits {
    /// The most that the store may take.
    pub quota: DiskShare,
    /// What the store leaves free for other programs on the same file system.
    pub min_free: DiskShare,
}

/// The text is neither a number of bytes nor a percentage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("neither a number of bytes, such as 20G, nor a share of the disk, such as 80%")]
pub struct NotADiskShare;

/// The letters after a number of bytes. Each is 1024 times the one before.
const UNITS: [char; 4] = ['K', 'M', 'G', 'T'];

/// Reads texts such as `4096`, `512M`, `20G`, `20GiB` and `80%`.
impl FromStr for DiskShare {
    type Err = NotADiskShare;

    fn from_str(text: &str) -> Result<Self, NotADiskShare> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| NotADiskShare)?;
        if unit == "%" {
            let percent = u8::try_from(number).ok().filter(|percent| *percent <= 100);
            return percent.map(Self::Percent).ok_or(NotADiskShare);
        }
        let unit = unit.to_ascii_uppercase();
        let unit = unit.strip_suffix("IB").or(unit.strip_suffix('B')).unwrap_or(&unit);
        let bytes = if unit.is_empty() {
            Some(number)
        } else {
            let power = UNITS.iter().zip(1..).find(|(letter, _)| unit.chars().eq([**letter])).map(|(_, power)| power);
            number.checked_mul(1024_u64.pow(power.ok_or(NotADiskShare)?))
        };
        bytes.map(Self::Bytes).ok_or(NotADiskShare)
    }
}

/// Writes the bytes in the largest unit that needs no fraction.
impl fmt::Display for DiskShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = match *self {
            Self::Percent(percent) => return write!(f, "{percent}%"),
            Self::Bytes(bytes) => bytes,
        };
        let mut unit = None;
        for larger in UNITS {
            if bytes == 0 || bytes % 1024 != 0 {
                break;
            }
            bytes /= 1024;
            unit = Some(larger);
        }
        match unit {
            Some(unit) => write!(f, "{bytes}{unit}"),
            None => write!(f, "{bytes}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bytes_and_shares_are_read() {
        for (text, share) in [
            ("0", DiskShare::Bytes(0)),
            ("4096", DiskShare::Bytes(4096)),
            ("3K", DiskShare::Bytes(3 << 10)),
            ("512m", DiskShare::Bytes(512 << 20)),
            ("20G", DiskShare::Bytes(20 << 30)),
            ("20GiB", DiskShare::Bytes(20 << 30)),
            ("20GB", DiskShare::Bytes(20 << 30)),
            ("7B", DiskShare::Bytes(7)),
            ("2T", DiskShare::Bytes(2 << 40)),
            ("80%", DiskShare::Percent(80)),
            ("100%", DiskShare::Percent(100)),
        ] {
            assert_eq!(text.parse(), Ok(share), "{text:?}");
        }
    }

    #[test]
    fn nothing_else_is_read() {
        for text in
            ["", "G", "%", "101%", "-1", "+1", "1.5G", "1 G", "1X", "1KK", "99999999999T", "18446744073709551616"]
        {
            assert_eq!(text.parse::<DiskShare>(), Err(NotADiskShare), "{text:?}");
        }
    }

    #[test]
    fn a_share_is_of_the_whole_file_system() {
        assert_eq!(DiskShare::Percent(80).of(1000), 800);
        assert_eq!(DiskShare::Percent(100).of(u64::MAX - 15), u64::MAX - 15);
        assert_eq!(DiskShare::Bytes(5).of(1000), 5);
    }

    proptest! {
        #[test]
        fn bytes_are_read_as_they_are_written(bytes: u64, shift in 0_u32..64) {
            let share = DiskShare::Bytes(bytes >> shift << (shift / 2));
            prop_assert_eq!(share.to_string().parse(), Ok(share));
        }
    }
}
