//! The generation of the log: changes only if the log was lost or restored, and tells clients that seqs start to mean
//! something else.

use anyhow::{Context as _, Result};
use runtime::data_dir::write_new;
use std::io::ErrorKind;
use std::path::Path;

/// Where it stands in the data directory; a log that was never restored has none.
pub(crate) const FILE: &str = "generation";
const FIRST: u64 = 1;

/// That of a data directory.
pub(crate) fn read(data: &Path) -> Result<u64> {
    let path = data.join(FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().with_context(|| format!("{} does not hold a number", path.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(FIRST),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// Gives a restored directory one that no other restore of the same backup had: the second it was made in.
pub(crate) fn raise(from: &Path, to: &Path, now_ms: u64) -> Result<()> {
    let generation = (read(from)? + 1).max(now_ms / 1_000);
    write_new(&to.join(FILE), format!("{generation}\n").as_bytes()).context("writing the generation")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_restores_of_one_backup_are_two_generations() {
        let [backup, first, second] = [(); 3].map(|()| tempfile::tempdir().expect("a temporary directory can be made"));
        assert_eq!(read(backup.path()).expect("none is the first"), 1);
        raise(backup.path(), first.path(), 1_700_000_000_000).expect("it can be written");
        raise(backup.path(), second.path(), 1_700_000_060_000).expect("it can be written");
        let read = |dir: &tempfile::TempDir| read(dir.path()).expect("it was written");
        assert!(1 < read(&first) && read(&first) < read(&second));
    }
}
