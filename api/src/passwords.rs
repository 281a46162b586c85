//! Password hashes (Argon2id) on a few blocking threads: a lever for floods, so both the running and the waiting are bounded.

use crate::limits::{HASHES_MAX, HASHES_WAITING_MAX, PASSWORD_BYTES_MAX, PASSWORD_CHARS_MIN};
use crate::problem::{Answer, Refused};
use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use runtime::SharedEntropy;
use schemas::error_codes::Code;
use tokio::sync::Semaphore;

/// Hashes and verifies.
#[derive(Debug)]
pub(crate) struct Passwords {
    entropy: SharedEntropy,
    running: Semaphore,
    waiting: Semaphore,
}

/// The hash of no password: verified against when there is no account, so that the time tells nothing.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$aHViYnViL25vYm9keSE$KXkXgEd4mXw3SlSZ8rYzXnUMcBkZ3QbKxzd6PKJVVfo";

impl Passwords {
    pub(crate) fn new(entropy: SharedEntropy) -> Self {
        Self { entropy, running: Semaphore::new(HASHES_MAX), waiting: Semaphore::new(HASHES_MAX + HASHES_WAITING_MAX) }
    }

    /// Whether somebody may choose it.
    pub(crate) fn check(password: &str) -> Answer<()> {
        if password.chars().count() < PASSWORD_CHARS_MIN {
            return Err(Refused::new(
                Code::BadBody,
                format!("a password has at least {PASSWORD_CHARS_MIN} characters"),
            ));
        }
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(Refused::new(Code::BadBody, format!("a password has at most {PASSWORD_BYTES_MAX} bytes")));
        }
        Ok(())
    }

    /// A PHC string.
    pub(crate) async fn hash(&self, password: String) -> Answer<String> {
        let salt = self.entropy.next_u128().to_be_bytes();
        self.run(move || {
            let hash: PasswordHash = Argon2::default().hash_password_with_salt(password.as_bytes(), &salt).ok()?;
            Some(hash.to_string())
        })
        .await?
        .ok_or_else(|| Code::Internal.into())
    }

    /// Whether the password is the one of the hash; without a hash it takes as long and is not.
    pub(crate) async fn verify(&self, password: String, hash: Option<String>) -> Answer<bool> {
        if password.len() > PASSWORD_BYTES_MAX {
            return Ok(false);
        }
        self.run(move || {
            let known = hash.is_some();
            let hash = hash.unwrap_or_else(|| NOBODY.to_owned());
            let parsed = PasswordHash::new(&hash);
            let right =
                parsed.is_ok_and(|parsed| Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok());
            right && known
        })
        .await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Answer<T> {
        let _place = self.waiting.try_acquire().map_err(|_| Refused::from(Code::RetryLater))?;
        let _turn = self.running.acquire().await.map_err(|_| Refused::from(Code::RetryLater))?;
        tokio::task::spawn_blocking(work).await.map_err(|error| {
            tracing::error!(%error, "a password hash failed");
            Refused::from(Code::Internal)
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use runtime::Entropy;

    #[tokio::test]
    async fn a_password_is_known_by_its_hash_only() {
        let passwords = Passwords::new(Entropy::from_seed(1));
        let hash = passwords.hash("correct horse".into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(passwords.verify("correct horse".into(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify("correct hors".into(), Some(hash)).await.unwrap());
        assert!(!passwords.verify("anything".into(), None).await.unwrap());
        assert!(PasswordHash::new(NOBODY).is_ok(), "the stand-in is hashed against as any other");
    }

    #[tokio::test]
    async fn a_flood_of_sign_ins_is_told_to_come_again() {
        let passwords = Passwords::new(Entropy::from_seed(1));
        let held: Vec<_> =
            (0..HASHES_MAX + HASHES_WAITING_MAX).map(|_| passwords.waiting.try_acquire().unwrap()).collect();
        assert_eq!(passwords.hash("correct horse".into()).await.unwrap_err().code(), Code::RetryLater);
        drop(held);
        assert!(passwords.hash("correct horse".into()).await.is_ok());
    }
}
