//! What a setting can be, and how people write it.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A type of setting.
pub trait Value: Sized {
    /// What one can write, in a few words.
    const KIND: &'static str;
    /// Never shown, and can be given by file.
    const SECRET: bool = false;

    /// Reads what a person wrote. The error says what would fit.
    fn read(text: &str) -> Result<Self, String>;
}

/// A number of bytes, written with or without a unit: `65536`, `64 KiB`, `1.5 GiB`, `10 MB`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// What must not be shown. Empty means: none.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself; `None` if none was given.
    pub fn reveal(&self) -> Option<&str> {
        (!self.0.is_empty()).then_some(&self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "Secret(none)" } else { "Secret(…)" })
    }
}

impl Value for Secret {
    const KIND: &'static str = "secret";
    const SECRET: bool = true;

    fn read(text: &str) -> Result<Self, String> {
        Ok(Self(text.trim_end().to_owned()))
    }
}

impl Value for String {
    const KIND: &'static str = "text";

    fn read(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

impl Value for PathBuf {
    const KIND: &'static str = "path";

    fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("a path is expected".to_owned()) } else { Ok(text.into()) }
    }
}

impl Value for bool {
    const KIND: &'static str = "true or false";

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "true or false is expected".to_owned())
    }
}

impl Value for SocketAddr {
    const KIND: &'static str = "address:port";

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| {
            "an address with a port is expected, such as 127.0.0.1:8080, [::1]:8080, or port 0 for any free one"
                .to_owned()
        })
    }
}

impl<T: Value> Value for Vec<T> {
    const KIND: &'static str = "list";
    const SECRET: bool = T::SECRET;

    fn read(text: &str) -> Result<Self, String> {
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(T::read).collect()
    }
}

macro_rules! whole_numbers {
    ($($type:ty)*) => {$(
        impl Value for $type {
            const KIND: &'static str = "whole number";

            fn read(text: &str) -> Result<Self, String> {
                text.replace('_', "").parse().map_err(|_| format!("a whole number from 0 to {} is expected", <$type>::MAX))
            }
        }
    )*};
}
whole_numbers!(u16 u32 u64 usize);

impl Value for Duration {
    const KIND: &'static str = "duration";

    fn read(text: &str) -> Result<Self, String> {
        let expected = || "a duration with a unit is expected, such as 250 ms, 30 s, 5 min, 12 h or 7 d".to_owned();
        let (number, unit) = number_and_unit(text).ok_or_else(expected)?;
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "min" | "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return Err(expected()),
        };
        Self::try_from_secs_f64(number * seconds).map_err(|_| expected())
    }
}

impl Value for ByteSize {
    const KIND: &'static str = "size";

    fn read(text: &str) -> Result<Self, String> {
        let expected = || "a number of bytes is expected, such as 65536, 64 KiB, 100 MB or 1.5 GiB".to_owned();
        let (number, unit) = number_and_unit(text).ok_or_else(expected)?;
        let bytes: u64 = match unit {
            "" | "B" => 1,
            "kB" | "KB" => 1_000,
            "KiB" => 1 << 10,
            "MB" => 1_000_000,
            "MiB" => 1 << 20,
            "GB" => 1_000_000_000,
            "GiB" => 1 << 30,
            "TB" => 1_000_000_000_000,
            "TiB" => 1 << 40,
            _ => return Err(expected()),
        };
        Ok(Self((number * bytes as f64) as u64))
    }
}

/// A non-negative number and what follows it.
fn number_and_unit(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(text.len());
    let number = text[..end].replace('_', "").parse().ok()?;
    Some((number, text[end..].trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_with_a_unit() {
        for (text, ms) in
            [("250 ms", 250), ("30s", 30_000), ("1.5 min", 90_000), ("12h", 43_200_000), ("7 d", 604_800_000)]
        {
            assert_eq!(Duration::read(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["30", "", "soon", "-1 s", "1 fortnight"] {
            assert!(Duration::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_bytes_unless_a_unit_says_otherwise() {
        for (text, bytes) in [("65536", 65_536), ("64 KiB", 65_536), ("10MB", 10_000_000), ("1.5 GiB", 1_610_612_736)] {
            assert_eq!(ByteSize::read(text), Ok(ByteSize(bytes)), "{text}");
        }
        for text in ["64 kib", "", "much"] {
            assert!(ByteSize::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_secret_is_not_shown_by_debug() {
        let secret = Secret::read("hunter2\n").expect("any text is a secret");
        assert_eq!(secret.reveal(), Some("hunter2"));
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }
}
