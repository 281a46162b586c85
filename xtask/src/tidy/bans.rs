//! What only `runtime` may do, and queues without a bound.
//!
//! Clippy's `disallowed-methods` says the same by type; this says it without compiling, and also for what clippy can't
//! see: a method named in a macro, or behind a `cfg`.

use crate::tree::{self, File};
use anyhow::Result;

/// Where time, randomness and tasks come from, and programs that are no part of the simulation.
const FREE: &[&str] = &["runtime/", "loadtest/", "testkit/", "xtask/"];

/// Words, and what to do instead.
const BANNED: &[(&str, &str)] = &[
    ("tokio::spawn", "spawn through `runtime::Tasks`, which a shutdown and a simulation reach"),
    ("SystemTime::now", "ask a `runtime::Clock`"),
    ("std::time::Instant", "use `tokio::time::Instant`, which a simulation pauses"),
    ("thread_rng", "draw from a `runtime::Entropy`"),
    ("rand::rng(", "draw from a `runtime::Entropy`"),
    ("rand::random", "draw from a `runtime::Entropy`"),
    ("from_os_rng", "draw from a `runtime::Entropy`"),
    ("Uuid::new_v4", "draw from a `runtime::Entropy`"),
    ("Uuid::now_v7", "draw from a `runtime::Entropy`"),
];

/// Queues without a bound, forbidden everywhere.
const UNBOUNDED: &[&str] =
    &["unbounded_channel", "UnboundedSender", "std::sync::mpsc::channel", "futures_channel::mpsc::unbounded"];

/// Every banned word in code that is no test.
pub(super) fn complaints() -> Result<Vec<String>> {
    Ok(tree::files("rs")?.iter().flat_map(judge).collect())
}

fn judge(file: &File) -> Vec<String> {
    if is_test(&file.path) || file.path == "xtask/src/tidy/bans.rs" {
        return Vec::new();
    }
    let free = FREE.iter().any(|place| file.path.starts_with(place));
    let mut complaints = Vec::new();
    let mut lines = file.text.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        // Unit tests are the last thing in a file.
        let opens_tests = |next: &str| next.starts_with("#[") || next.trim_end().ends_with('{');
        if line == "#[cfg(test)]" && lines.peek().is_some_and(|(_, next)| opens_tests(next)) {
            break;
        }
        let code = line.split("//").next().unwrap_or_default();
        for (word, instead) in BANNED {
            if !free && code.contains(word) {
                complaints.push(format!("{}:{}: `{word}`: {instead}", file.path, number + 1));
            }
        }
        for word in UNBOUNDED {
            if code.contains(word) {
                complaints.push(format!("{}:{}: `{word}`: every queue has a bound (SHED)", file.path, number + 1));
            }
        }
    }
    complaints
}

fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.contains("/benches/") || path.ends_with("/tests.rs")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::must_be_silent;

    fn file(path: &str, text: &str) -> File {
        File { path: path.into(), text: text.into() }
    }

    #[test]
    fn time_randomness_and_tasks_come_through_handles_and_queues_have_bounds() {
        must_be_silent(&complaints().expect("the tree can be read"));
    }

    #[test]
    fn a_banned_word_is_found_in_code_but_not_in_comments_or_tests() {
        let text =
            "fn f() {\n    tokio::spawn(x); // tokio::spawn\n}\n#[cfg(test)]\nmod tests {\n    tokio::spawn(y);\n}\n";
        let found = judge(&file("writer/src/lib.rs", text));
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("writer/src/lib.rs:2: "), "{found:?}");
        assert_eq!(judge(&file("runtime/src/tasks.rs", text)), Vec::<String>::new());
        assert_eq!(judge(&file("writer/tests/whole.rs", text)), Vec::<String>::new());
    }

    #[test]
    fn an_unbounded_queue_is_found_everywhere() {
        assert_eq!(judge(&file("runtime/src/x.rs", "let (a, b) = mpsc::unbounded_channel();")).len(), 1);
    }
}
