//! The workspace's own rules, each of them also a test: what a reviewer would otherwise have to notice.

mod bans;
mod dependencies;
mod doors;
mod pages;

use anyhow::Result;

/// What every rule has to say; empty when all is well.
pub(crate) fn all() -> Result<Vec<String>> {
    let mut complaints = dependencies::complaints()?;
    complaints.extend(doors::complaints()?);
    complaints.extend(bans::complaints()?);
    complaints.extend(pages::complaints()?);
    Ok(complaints)
}

#[cfg(test)]
fn must_be_silent(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}
