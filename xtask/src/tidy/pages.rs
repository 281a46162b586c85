//! Documents that can't rot: the files and functions they name exist, and generated parts are what would be generated.

use crate::docs;
use crate::tree::{self, File};
use anyhow::Result;
use std::collections::BTreeSet;

/// A name with one of these endings is a file of this repository wherever it stands in backticks.
const OURS: &[&str] = &[".rs", ".avsc"];
/// With one of these it is one only if it also names a directory: `hubbub.toml` is somebody's own.
const OURS_IN_A_DIRECTORY: &[&str] = &[".md", ".toml", ".json", ".yaml", ".yml", ".py", ".sh"];

/// Every name that names nothing, and every generated part that is out of date.
pub(super) fn complaints() -> Result<Vec<String>> {
    let paths: BTreeSet<String> = tree::paths()?.into_iter().collect();
    let sources = tree::files("rs")?;
    let mut complaints = Vec::new();
    for page in tree::files("md")? {
        for (line, name) in names(&page.text) {
            if let Some(complaint) = judge(name, &page.path, &paths, &sources) {
                complaints.push(format!("{}:{line}: {complaint}", page.path));
            }
        }
    }
    complaints.extend(docs::out_of_date()?);
    Ok(complaints)
}

/// What stands in backticks outside fenced blocks, and the targets of relative links, with line numbers.
fn names(text: &str) -> Vec<(usize, &str)> {
    let mut names = Vec::new();
    let mut fenced = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            names.extend(line.split('`').skip(1).step_by(2).map(|name| (number + 1, name)));
            names.extend(
                line.split("](")
                    .skip(1)
                    .filter_map(|rest| rest.split([')', '#']).next())
                    .map(|name| (number + 1, name)),
            );
        }
    }
    names
}

fn judge(name: &str, page: &str, paths: &BTreeSet<String>, sources: &[File]) -> Option<String> {
    let (file, function) = name.split_once("::").map_or((name, None), |(file, function)| (file, Some(function)));
    if !is_file_of_ours(file) {
        return None;
    }
    let directory = page.rsplit_once('/').map_or("", |(directory, _)| directory);
    let found: Vec<&String> = paths
        .iter()
        .filter(|path| {
            path.as_str() == file
                || path.as_str() == format!("{directory}/{file}")
                || path.as_str() == resolve(directory, file)
                || (!file.contains('/') && path.rsplit('/').next() == Some(file))
        })
        .collect();
    if found.is_empty() {
        return Some(format!("names `{file}`, which does not exist"));
    }
    let function = function?.trim_end_matches("()");
    let last = function.rsplit("::").next().unwrap_or(function);
    let defined = sources
        .iter()
        .filter(|source| found.iter().any(|path| **path == source.path))
        .any(|source| defines(&source.text, last));
    (!defined).then(|| format!("names `{name}`, but `{file}` has no function `{last}`"))
}

fn resolve(directory: &str, file: &str) -> String {
    let mut parts: Vec<&str> = directory.split('/').filter(|part| !part.is_empty()).collect();
    for part in file.split('/') {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn is_file_of_ours(name: &str) -> bool {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c));
    let outside = name.starts_with(['/', '~']) || name.contains("data/") || name.contains("target/");
    let ours = OURS.iter().any(|ending| name.ends_with(ending) && name.len() > ending.len());
    let in_a_directory = name.contains('/') && OURS_IN_A_DIRECTORY.iter().any(|ending| name.ends_with(ending));
    plain && !outside && (ours || in_a_directory)
}

/// Whether a source defines a function, or a macro or type that a table may name like one.
fn defines(text: &str, name: &str) -> bool {
    ["fn ", "struct ", "enum ", "trait ", "macro_rules! ", "const "].iter().any(|keyword| {
        let definition = format!("{keyword}{name}");
        text.match_indices(&definition).any(|(at, _)| {
            text[at + definition.len()..].chars().next().is_none_or(|next| !next.is_alphanumeric() && next != '_')
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::must_be_silent;

    #[test]
    fn documents_name_what_exists_and_generated_parts_are_current() {
        must_be_silent(&complaints().expect("the tree can be read"));
    }

    #[test]
    fn a_file_or_function_that_is_gone_is_found() {
        let paths = BTreeSet::from(["writer/src/lib.rs".to_owned(), "docs/topics.md".to_owned()]);
        let sources = [File { path: "writer/src/lib.rs".into(), text: "pub async fn run<T>() {}".into() }];
        let judge = |name| judge(name, "docs/life.md", &paths, &sources);
        for good in [
            "writer/src/lib.rs",
            "writer/src/lib.rs::run",
            "topics.md",
            "../writer/src/lib.rs",
            "hubbub.toml",
            "GET /api/v1/cursors",
            "data/log/x.md",
        ] {
            assert_eq!(judge(good), None, "{good}");
        }
        for bad in ["writer/src/main.rs", "writer/src/lib.rs::ru", "docs/gone.md", "gone.rs"] {
            assert!(judge(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn names_stand_in_backticks_or_links_outside_fenced_blocks() {
        let text = "See `a.rs` and [b](docs/b.md#part).\n```\n`c.rs`\n```\n";
        assert_eq!(names(text), [(1, "a.rs"), (1, "docs/b.md")]);
    }
}
