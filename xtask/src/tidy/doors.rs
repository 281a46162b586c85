//! Every module opens with `//!`.

use crate::tree::{self, File};
use anyhow::Result;

/// Every module without a door.
pub(super) fn complaints() -> Result<Vec<String>> {
    Ok(tree::files("rs")?.iter().filter_map(judge).collect())
}

fn judge(file: &File) -> Option<String> {
    match tree::door(&file.text) {
        None => Some(format!("{}: opens without `//!`: say what the module is for", file.path)),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::must_be_silent;

    #[test]
    fn every_module_says_what_it_is_for() {
        must_be_silent(&complaints().expect("the tree can be read"));
    }

    #[test]
    fn a_module_that_says_nothing_is_found() {
        let file = File { path: "a/src/b.rs".into(), text: "use std::fmt;\n".into() };
        assert!(judge(&file).is_some());
    }
}
