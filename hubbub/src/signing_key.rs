//! The key that signs access tokens: given, or made at first start and kept for the owner only.

use anyhow::{Context as _, Result};
use runtime::access_tokens::{Signer, generate_pkcs8};
use runtime::config::Secret;
use runtime::data_dir::write_new;
use runtime::{SharedClock, SharedEntropy};
use std::io::ErrorKind;
use std::path::Path;

/// Where it stands in the data directory.
pub(crate) const FILE: &str = "signing-key.pem";
const TAG: &str = "PRIVATE KEY";

/// The configured key, or that of the data directory, which gets one if it has none.
pub(crate) fn load(given: &Secret, data: &Path, entropy: &SharedEntropy, clock: SharedClock) -> Result<Signer> {
    if let Some(given) = given.reveal() {
        return read(given, clock).context("auth.signing_key is no Ed25519 key in PEM");
    }
    let path = data.join(FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let text = pem::encode(&pem::Pem::new(TAG, generate_pkcs8(entropy)));
            write_new(&path, text.as_bytes()).with_context(|| format!("writing {}", path.display()))?;
            text
        }
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    read(&text, clock).with_context(|| {
        format!(
            "{} is no Ed25519 key in PEM: remove it and a new one is made (everybody signs in again)",
            path.display()
        )
    })
}

fn read(text: &str, clock: SharedClock) -> Result<Signer> {
    let pem = pem::parse(text)?;
    anyhow::ensure!(pem.tag() == TAG, "the block is {}, not {TAG}", pem.tag());
    Ok(Signer::from_pkcs8(pem.contents(), clock)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::{Entropy, SystemClock};
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Arc;

    #[test]
    fn the_key_is_made_once_for_the_owner_only_and_found_again() {
        let home = tempfile::tempdir().expect("a temporary directory can be made");
        let load = || {
            load(&Secret::default(), home.path(), &Entropy::from_os(), Arc::new(SystemClock)).expect("it can be made")
        };
        let first = load();
        assert_eq!(load().public(), first.public());
        let mode = std::fs::metadata(home.path().join(FILE)).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
