//! The files of the workspace, as text.

use anyhow::{Context as _, Result};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// Directories that hold nothing of ours.
const NOT_OURS: &[&str] = &["target", "data", "node_modules", ".git"];

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().expect("xtask is a directory of the workspace").to_path_buf()
}

/// The cargo that runs this task, or the one on the path.
pub(crate) fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// One file.
#[derive(Clone, Debug)]
pub(crate) struct File {
    /// From the root, with `/`.
    pub(crate) path: String,
    /// Its text.
    pub(crate) text: String,
}

/// All files of a kind, sorted by path.
pub(crate) fn files(extension: &str) -> Result<Vec<File>> {
    let mut paths = Vec::new();
    walk(&root(), &mut paths)?;
    paths.retain(|path| path.extension().is_some_and(|e| e == extension));
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            let path = path.strip_prefix(root()).expect("walked from the root").to_string_lossy().into_owned();
            Ok(File { path, text })
        })
        .collect()
}

/// The paths of all files, from the root, sorted.
pub(crate) fn paths() -> Result<Vec<String>> {
    let mut paths = Vec::new();
    walk(&root(), &mut paths)?;
    let mut paths: Vec<String> = paths
        .iter()
        .map(|path| path.strip_prefix(root()).expect("walked from the root").to_string_lossy().into_owned())
        .collect();
    paths.sort();
    Ok(paths)
}

fn walk(directory: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| format!("listing {}", directory.display()))? {
        let entry = entry?;
        let path = entry.path();
        let kind = entry.file_type()?;
        if kind.is_dir() {
            let name = entry.file_name();
            if !NOT_OURS.iter().any(|other| name == *other) {
                walk(&path, into)?;
            }
        } else if kind.is_file() {
            into.push(path);
        }
    }
    Ok(())
}

/// What a module's `//!` says, without the slashes; `None` if it does not open with one.
pub(crate) fn door(text: &str) -> Option<String> {
    let mut said = String::new();
    for line in text.lines() {
        let line = line.trim();
        if let Some(words) = line.strip_prefix("//!") {
            said.push_str(words.trim());
            said.push('\n');
        } else if said.is_empty() && (line.is_empty() || line.starts_with("#![") || line.starts_with("#!/")) {
            // Attributes of the crate may come first.
        } else {
            break;
        }
    }
    (!said.trim().is_empty()).then_some(said)
}

/// The first sentence of a `//!`, without its full stop.
pub(crate) fn first_sentence(door: &str) -> String {
    let paragraph: Vec<&str> = door.lines().take_while(|line| !line.is_empty()).collect();
    let paragraph = paragraph.join(" ");
    let end = paragraph.find(". ").unwrap_or(paragraph.len());
    paragraph[..end].trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sentence_ends_at_its_full_stop_even_across_lines() {
        let text = "#![allow(x)]\n//! Reads a log\n//! that has parts. More.\n//!\n//! Promises.\nuse x;\n//! no";
        let door = door(text).expect("it opens with one");
        assert_eq!(first_sentence(&door), "Reads a log that has parts");
    }

    #[test]
    fn a_file_that_opens_with_code_has_no_door() {
        assert_eq!(door("use std::fmt;\n//! Too late."), None);
    }
}
