//! Moments as people write them.

/// Milliseconds since the Unix epoch of `2026-11-21T09:00:00Z` or `2026-11-21`; `None` if it is neither.
pub(super) fn read_utc(text: &str) -> Option<u64> {
    let (date, time) = match text.split_once(['T', ' ']) {
        Some((date, time)) => (date, time.strip_suffix('Z')?),
        None => (text, "00:00:00"),
    };
    let (year, month, day) = three(date, '-')?;
    let whole = time.split('.').next()?;
    let (hour, minute, second) = three(whole, ':')?;
    let within = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 60;
    if !within || !(1970..10_000).contains(&year) {
        return None;
    }
    let fraction = time.get(whole.len() + 1..).unwrap_or("0");
    let ms: u64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    Some((days_from_epoch(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second) * 1_000 + ms)
}

fn three(text: &str, between: char) -> Option<(u64, u64, u64)> {
    let mut parts = text.split(between).map(|part| part.parse().ok());
    let found = (parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(found)
}

/// Days since 1970-01-01 in the Gregorian calendar. The year is taken to start in March, so that the leap day is its last.
fn days_from_epoch(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    365 * year + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_and_written_in_utc() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59.5Z", 951_868_799_500),
            ("2026-11-21T09:00:00Z", 1_795_251_600_000),
            ("2100-03-01", 4_107_542_400_000),
        ] {
            assert_eq!(read_utc(text), Some(ms), "{text}");
            assert_eq!(read_utc(&schemas::cloud_events::rfc3339(domain::LogTime(ms))), Some(ms), "{text}");
        }
        for text in ["", "soon", "2026-13-01", "2026-11-21T25:00:00Z", "2026-11-21T09:00:00", "1200"] {
            assert_eq!(read_utc(text), None, "{text}");
        }
    }
}
