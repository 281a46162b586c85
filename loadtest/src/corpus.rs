//! Raw logs of an IRC channel, as the corpus has them.
//!
//! ```text
//!   [12:00] <nick> text                                  a message; text is never trimmed and may be empty
//!   [12:00]  * nick text        * nick text              an action: a message
//!   === nick text                                        an action, as the logs of 2005 and 2006 write it
//!   === nick [user@host]  has joined #channel            joins
//!   === nick [user@host]  has left #channel ["reason"]   leaves; so does one who `was kicked off`
//!   === nick is now known as other                       a new display name
//!   === mode/#channel […]  by nick   === ..[topic/…]     nobody speaks
//! ```
//!
//! The logs put a space behind `]` in a nick: `<zcat[1] >`, `bur[n] er`. Within a nick it is kept, at its end it is dropped, so
//! that `zcat[1] ` and `zcat[1]` are one person.

use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    Message {
        nick: &'a [u8],
        body: &'a [u8],
    },
    Join {
        nick: &'a [u8],
    },
    Leave {
        nick: &'a [u8],
    },
    Rename {
        from: &'a [u8],
        to: &'a [u8],
    },
    /// Modes, topics, empty lines.
    Nothing,
}

/// One line and its minute of the day, if it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    pub(crate) minute: Option<u16>,
    pub(crate) line: Line<'a>,
}

/// The lines of a file.
pub(crate) fn entries(file: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    file.split(|&byte| byte == b'\n').map(entry)
}

fn entry(line: &[u8]) -> Entry<'_> {
    if let Some((minute, rest)) = stamp(line) {
        return Entry { minute: Some(minute), line: said(rest) };
    }
    let line = match line.strip_prefix(b"=== ") {
        Some(rest) => happened(rest),
        None => said(line),
    };
    Entry { minute: None, line }
}

/// `[HH:MM] ` and what follows it.
fn stamp(line: &[u8]) -> Option<(u16, &[u8])> {
    let [b'[', h1 @ b'0'..=b'9', h2 @ b'0'..=b'9', b':', m1 @ b'0'..=b'9', m2 @ b'0'..=b'9', b']', b' ', rest @ ..] =
        line
    else {
        return None;
    };
    let digits = |tens: u8, ones: u8| u16::from(tens - b'0') * 10 + u16::from(ones - b'0');
    Some((digits(*h1, *h2) * 60 + digits(*m1, *m2), rest))
}

/// `<nick> text` or ` * nick text`.
fn said(rest: &[u8]) -> Line<'_> {
    if let Some(rest) = rest.strip_prefix(b"<") {
        // A nick has no `>`.
        let Some(end) = rest.iter().position(|&byte| byte == b'>') else { return Line::Nothing };
        let body = &rest[end + 1..];
        return Line::Message { nick: nick(&rest[..end]), body: body.strip_prefix(b" ").unwrap_or(body) };
    }
    match rest.strip_prefix(b" ").unwrap_or(rest).strip_prefix(b"* ") {
        Some(rest) => action(rest),
        None => Line::Nothing,
    }
}

const KNOWN_AS: &[u8] = b" is now known as ";

fn happened(rest: &[u8]) -> Line<'_> {
    if rest.starts_with(b"mode/#") || rest.starts_with(b"..[topic/") {
        return Line::Nothing;
    }
    for (words, joined) in [(&b"]  has joined #"[..], true), (b"]  has left #", false)] {
        if let Some(at) = find(rest, words)
            && let Some(host) = rest[..at].windows(2).rposition(|two| two == b" [")
        {
            let nick = nick(&rest[..host]);
            return if joined { Line::Join { nick } } else { Line::Leave { nick } };
        }
    }
    if let Some(at) = find(rest, b" was kicked off #") {
        return Line::Leave { nick: nick(&rest[..at]) };
    }
    if let Some(at) = find(rest, KNOWN_AS) {
        return Line::Rename { from: nick(&rest[..at]), to: nick(&rest[at + KNOWN_AS.len()..]) };
    }
    action(rest)
}

/// `nick text`.
fn action(rest: &[u8]) -> Line<'_> {
    let end = rest.iter().position(|&byte| byte == b' ').unwrap_or(rest.len());
    if end == 0 {
        return Line::Nothing;
    }
    Line::Message { nick: &rest[..end], body: rest.get(end + 1..).unwrap_or_default() }
}

fn nick(with_spaces: &[u8]) -> &[u8] {
    let end = with_spaces.iter().rposition(|&byte| byte != b' ').map_or(0, |at| at + 1);
    &with_spaces[..end]
}

fn find(text: &[u8], words: &[u8]) -> Option<usize> {
    text.windows(words.len()).position(|window| window == words)
}

/// The username of a nick: no two nicks have the same. Lower-case letters, digits and dashes stay, a capital is `.` and its small
/// letter, an underscore is two, any other byte is `_` and its two hexadecimal digits; what would not start with a
/// letter or digit, or starts with 0, gets a 0 in front.
pub(crate) fn username(nick: &[u8]) -> String {
    let mut name = String::with_capacity(nick.len() + 8);
    for &byte in nick {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' => name.push(byte.into()),
            b'A'..=b'Z' => {
                name.push('.');
                name.push(byte.to_ascii_lowercase().into());
            }
            b'_' => name.push_str("__"),
            other => {
                name.push('_');
                name.extend([other >> 4, other & 15].iter().filter_map(|&digit| char::from_digit(digit.into(), 16)));
            }
        }
    }
    if !name.starts_with(|first: char| first.is_ascii_lowercase() || ('1'..='9').contains(&first)) {
        name.insert(0, '0');
    }
    name
}

/// The `.txt` files of a folder, by name.
pub(crate) fn files(folder: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            paths.push(path);
        }
    }
    paths.sort();
    anyhow::ensure!(!paths.is_empty(), "{} has no .txt file", folder.display());
    let read = |path: PathBuf| std::fs::read(&path).map(|bytes| (path, bytes));
    paths.into_iter().map(read).collect::<Result<_, _>>().context("reading the corpus")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn line(text: &str) -> Line<'_> {
        entry(text.as_bytes()).line
    }

    fn message<'a>(nick: &'a str, body: &'a str) -> Line<'a> {
        Line::Message { nick: nick.as_bytes(), body: body.as_bytes() }
    }

    #[test]
    fn a_body_is_every_byte_behind_the_nick() {
        for (text, nick, body) in [
            ("[12:00] <ann> hello", "ann", "hello"),
            ("[12:00] <ann>  two spaces, and one at the end ", "ann", " two spaces, and one at the end "),
            ("[12:00] <ann> ", "ann", ""),
            ("[12:00] <ann>", "ann", ""),
            ("[12:00] <ann> a > b <c> [13:00]", "ann", "a > b <c> [13:00]"),
            ("[12:00] <ann> \ttab\r", "ann", "\ttab\r"),
            ("[12:00] <ann> === bob is now known as eve", "ann", "=== bob is now known as eve"),
            ("[12:00] <ann> * waves", "ann", "* waves"),
            ("[12:00] <zcat[1] > text", "zcat[1]", "text"),
            ("[12:00] <[cro] smiley> text", "[cro] smiley", "text"),
        ] {
            assert_eq!(line(text), message(nick, body), "{text}");
        }
    }

    #[test]
    fn actions_are_messages_in_all_their_forms() {
        for (text, nick, body) in [
            ("[17:13]  * ann-1 wonders  if", "ann-1", "wonders  if"),
            ("[17:13] * ann waves", "ann", "waves"),
            ("* ann waves", "ann", "waves"),
            ("* ann", "ann", ""),
            ("[14:35]  * [Saint] rolls a dice", "[Saint]", "rolls a dice"),
            ("=== ann pokes bob in the belly", "ann", "pokes bob in the belly"),
            ("=== ann bbl", "ann", "bbl"),
        ] {
            assert_eq!(line(text), message(nick, body), "{text}");
        }
    }

    #[test]
    fn joins_leaves_and_kicks_change_membership() {
        let (ann, burn) = (&b"ann"[..], &b"bur[n] er"[..]);
        for (text, expected) in [
            ("=== ann [n=ann@example.org]  has joined #ubuntu", Line::Join { nick: ann }),
            ("=== ann [i=0@unaffiliated/ann]  has joined #UBUNTU", Line::Join { nick: ann }),
            ("=== bur[n] er [n=b@example.org]  has joined #ubuntu", Line::Join { nick: burn }),
            ("=== zcat[1]  [n=z@example.org]  has joined #ubuntu", Line::Join { nick: b"zcat[1]" }),
            ("=== ann [n=ann@example.org]  has left #ubuntu []", Line::Leave { nick: ann }),
            ("=== ann [n=ann@example.org]  has left #ubuntu [] ", Line::Leave { nick: ann }),
            ("=== ann [n=ann@example.org]  has left #ubuntu [\"see [you]  has joined\"]", Line::Leave { nick: ann }),
            ("=== ann was kicked off #ubuntu by bob (bob)", Line::Leave { nick: ann }),
        ] {
            assert_eq!(line(text), expected, "{text}");
        }
    }

    #[test]
    fn a_rename_names_both() {
        assert_eq!(line("=== ann is now known as ann_away"), Line::Rename { from: b"ann", to: b"ann_away" });
        assert_eq!(line("=== zcat[1]  is now known as zcat"), Line::Rename { from: b"zcat[1]", to: b"zcat" });
    }

    #[test]
    fn modes_topics_and_empty_lines_are_nobodys() {
        for text in [
            "",
            "=== mode/#ubuntu [+o ann]  by ChanServ",
            "=== mode/#ubuntu [-b %ann!*@*]  by bob",
            "=== ..[topic/#ubuntu:ann] : Happy day! ## see",
            "no line of a log",
        ] {
            assert_eq!(line(text), Line::Nothing, "{text}");
        }
    }

    #[test]
    fn the_minute_is_that_of_the_day() {
        assert_eq!(entry(b"[23:59] <ann> x").minute, Some(23 * 60 + 59));
        assert_eq!(entry(b"=== ann bbl").minute, None);
        assert_eq!(entry(b"[2359] <ann> x").line, Line::Nothing);
    }

    #[test]
    fn usernames_are_valid_and_no_two_nicks_share_one() {
        let nicks = [
            "a",
            "A",
            "_a",
            "__a",
            "a_",
            "a__",
            "a_41",
            ".a",
            "0a",
            "00a",
            "_5b",
            "[",
            "0_5b",
            "a.b",
            "a-b",
            "-ab",
            "|x|",
            "bur[n] er",
            "zcat[1]",
            "é",
            "llllllllllllllll",
        ];
        let mut names: HashMap<String, &str> = HashMap::new();
        for nick in nicks {
            let name = username(nick.as_bytes());
            assert!(name.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit()), "{name}");
            assert!(name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-')), "{name}");
            assert!(name.len() <= 64);
            assert_eq!(names.insert(name, nick), None, "{nick}");
        }
    }
}
