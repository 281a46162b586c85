//! Generated pages and tables: written by `make docs`, compared by tidy.
//!
//! Pages that follow from code (topics, limits, configuration) are written and compared by a test of the crate that knows
//! them; `WRITE_DOCS=1` makes such a test write. What follows from the tree itself, the README's folder table, is made here.

use crate::tree;
use anyhow::{Context as _, Result, ensure};
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

const START: &str = "<!-- folders: written by `make docs` -->";
const END: &str = "<!-- /folders -->";

/// The folders of the README's table in reading order, under the words of design §7.
const FOLDERS: &[(&str, &[&str])] = &[
    ("said", &["domain", "schemas"]),
    ("kept", &["eventlog", "eventlog/embedded", "store", "store/embedded", "timeline"]),
    ("roles", &["gateway", "api", "sequencer", "writer", "fanout"]),
    ("runs", &["runtime", "hubbub"]),
    ("known", &["testkit", "loadtest", "xtask"]),
];

/// Writes everything that is generated.
pub(crate) fn write() -> Result<()> {
    let readme = tree::root().join("README.md");
    let text = fs::read_to_string(&readme).context("reading README.md")?;
    fs::write(&readme, with_folders(&text)?).context("writing README.md")?;
    generated_pages().env("WRITE_DOCS", "1").output().context("starting cargo test")?;
    // What was written must now be what the tests expect.
    let compared = generated_pages().output().context("starting cargo test")?;
    ensure!(compared.status.success(), "{}", String::from_utf8_lossy(&compared.stdout));
    println!("docs: written");
    Ok(())
}

/// The tests that write or compare generated pages, by their names.
fn generated_pages() -> Command {
    let mut command = Command::new(tree::cargo());
    command.args(["test", "--quiet", "--workspace", "--lib", "--bins", "--tests", "--", "page_is_current"]);
    command
}

/// What `make docs` would change here.
pub(crate) fn out_of_date() -> Result<Vec<String>> {
    let text = fs::read_to_string(tree::root().join("README.md")).context("reading README.md")?;
    let current = with_folders(&text)? == text;
    Ok(if current {
        Vec::new()
    } else {
        vec!["README.md: the folder table is out of date: run `make docs`".to_owned()]
    })
}

fn with_folders(readme: &str) -> Result<String> {
    let (before, rest) = readme.split_once(START).with_context(|| format!("README.md has no line `{START}`"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("README.md has no line `{END}`"))?;
    Ok(format!("{before}{START}\n{}{END}{after}", table()?))
}

/// One row a folder; its sentence is the one that opens its `lib.rs`.
fn table() -> Result<String> {
    let mut table = String::from("| | folder | what it is |\n|---|---|---|\n");
    for (group, folders) in FOLDERS {
        for (n, folder) in folders.iter().enumerate() {
            let door = ["lib.rs", "main.rs"]
                .iter()
                .find_map(|file| fs::read_to_string(tree::root().join(folder).join("src").join(file)).ok())
                .and_then(|text| tree::door(&text))
                .with_context(|| format!("{folder} has no lib.rs or main.rs that opens with `//!`"))?;
            let group = if n == 0 { *group } else { "" };
            writeln!(table, "| {group} | [`{folder}/`]({folder}) | {} |", tree::first_sentence(&door))?;
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_replaces_only_what_is_between_its_marks() {
        let readme = format!("# H\n{START}\nstale\n{END}\nafter\n");
        let written = with_folders(&readme).expect("the marks are there");
        assert!(written.starts_with("# H\n") && written.ends_with("\nafter\n") && !written.contains("stale"));
        assert_eq!(with_folders(&written).expect("the marks are there"), written);
    }
}
