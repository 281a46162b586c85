//! Accounts, sign-in, profiles.

use crate::limits::{DISPLAY_NAME_BYTES_MAX, USERNAME_BYTES_MAX};
use crate::passwords::Passwords;
use crate::problem::{Answer, Refused};
use crate::request::{Asked, Body, Person, user};
use crate::service::Shared;
use axum::Json;
use axum::extract::State;
use domain::UserId;
use eventlog::{Record, Topic};
use http::StatusCode;
use schemas::error_codes::Code;
use schemas::http::{ProfileChange, SignInRequest, SignUp, SignedIn, UserView};
use schemas::records::{ProfileRecord, encode_profile};
use serde::Deserialize;
use std::sync::Arc;
use store::{Account, NewAccount, SignIn};

/// `POST /accounts`
pub(crate) async fn sign_up(
    State(shared): State<Arc<Shared>>,
    Body(asked): Body<SignUp>,
) -> Answer<(StatusCode, Json<SignedIn>)> {
    check_username(&asked.username)?;
    let display_name = asked.display_name.unwrap_or_else(|| asked.username.clone());
    check_display_name(&display_name)?;
    Passwords::check(&asked.password)?;
    // Before the hash is paid for. The account's creation below decides.
    if shared.deps.accounts.account_by_name(&asked.username).await?.is_some() {
        return Err(name_taken());
    }
    let password_hash = Some(shared.passwords.hash(asked.password).await?);
    let now = shared.deps.clock.now_ms();
    let user = UserId(shared.deps.entropy.uuid_v7(now));
    let account = NewAccount { user, username: asked.username, display_name, password_hash, created_ms: now };
    shared.deps.accounts.create_account(&account).await.map_err(|error| match error.kind() {
        store::ErrorKind::Exists => name_taken(),
        _ => error.into(),
    })?;
    let account = Account { user, username: account.username, display_name: account.display_name, created_ms: now };
    publish(&shared, &account).await;
    Ok((StatusCode::CREATED, Json(signed_in(&shared, account).await?)))
}

/// `POST /sessions`
pub(crate) async fn sign_in(
    State(shared): State<Arc<Shared>>,
    Body(asked): Body<SignInRequest>,
) -> Answer<(StatusCode, Json<SignedIn>)> {
    let account = shared.deps.accounts.account_by_name(&asked.username).await?;
    let hash = match &account {
        Some(account) => shared.deps.accounts.password_hash(account.user).await?,
        None => None,
    };
    let right = shared.passwords.verify(asked.password, hash).await?;
    match account.filter(|_| right) {
        Some(account) => Ok((StatusCode::CREATED, Json(signed_in(&shared, account).await?))),
        None => Err(Refused::new(Code::Unauthenticated, "the username or the password is wrong")),
    }
}

async fn signed_in(shared: &Shared, account: Account) -> Answer<SignedIn> {
    let now = shared.deps.clock.now_ms();
    let sign_in =
        SignIn { id: shared.deps.entropy.uuid_v7(now), user: account.user, created_ms: now, revoked_ms: None };
    shared.deps.accounts.record_sign_in(&sign_in).await?;
    let expires_in = shared.config.token_seconds;
    let access_token =
        shared.deps.signer.issue(account.user.to_string(), sign_in.id.to_string(), expires_in).map_err(|error| {
            tracing::error!(%error, "a token can't be signed");
            Refused::from(Code::Internal)
        })?;
    Ok(SignedIn { user: view(account), access_token, expires_in })
}

/// `GET /me`
pub(crate) async fn me(State(shared): State<Arc<Shared>>, Person(user): Person) -> Answer<Json<UserView>> {
    let account = shared.deps.accounts.account(user).await?.ok_or(Code::NotFound)?;
    Ok(Json(view(account)))
}

/// `PATCH /me`
pub(crate) async fn change_me(
    State(shared): State<Arc<Shared>>,
    Person(user): Person,
    Body(change): Body<ProfileChange>,
) -> Answer<Json<UserView>> {
    check_display_name(&change.display_name)?;
    shared.deps.accounts.rename(user, &change.display_name).await?;
    let account = shared.deps.accounts.account(user).await?.ok_or(Code::NotFound)?;
    publish(&shared, &account).await;
    Ok(Json(view(account)))
}

/// Whom to look for.
#[derive(Debug, Deserialize)]
pub(crate) struct Wanted {
    username: Option<String>,
    id: Option<String>,
}

/// `GET /users?username=` or `?id=`
pub(crate) async fn find(
    State(shared): State<Arc<Shared>>,
    _: Person,
    Asked(wanted): Asked<Wanted>,
) -> Answer<Json<UserView>> {
    let found = match (wanted.username, wanted.id) {
        (Some(name), None) => shared.deps.accounts.account_by_name(&name).await?,
        (None, Some(id)) => shared.deps.accounts.account(user(&id)?).await?,
        _ => return Err(Refused::new(Code::Malformed, "give either `username` or `id`")),
    };
    Ok(Json(view(found.ok_or_else(|| Refused::new(Code::NotFound, "no such person"))?)))
}

/// `chat.users`: the profile, whole. The account is the record; a profile that the log does not take is told with the next change.
async fn publish(shared: &Shared, account: &Account) {
    let profile = ProfileRecord {
        user: account.user,
        username: account.username.clone(),
        display_name: account.display_name.clone(),
    };
    let partition = shared.config.topology.partition_of_id(&account.user.0);
    let to = Topic::new(schemas::topics::USERS).partition(u32::from(partition.0));
    let record = Record::new(timeline::topics::key_of(&account.user.0), encode_profile(&profile));
    let appended = match shared.deps.log.append(&to, vec![record]) {
        Ok(append) => append.await.map(drop),
        Err(refused) => Err(refused.error),
    };
    if let Err(error) = appended {
        metrics::counter!("hubbub_api_profiles_unpublished_total").increment(1);
        tracing::warn!(%error, user = %account.user, "a profile is in the store, but not in the log");
    }
}

fn view(account: Account) -> UserView {
    UserView { id: account.user.to_string(), username: account.username, display_name: account.display_name }
}

fn name_taken() -> Refused {
    Refused::new(Code::AlreadyExists, "this username is taken")
}

fn check_username(name: &str) -> Answer<()> {
    let starts = name.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit());
    let letters = name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-'));
    if starts && letters && name.len() <= USERNAME_BYTES_MAX {
        return Ok(());
    }
    Err(Refused::new(Code::BadBody, "a username is 1 to 64 of a-z 0-9 _ . - and starts with a letter or digit"))
}

fn check_display_name(name: &str) -> Answer<()> {
    if name.trim().is_empty() || name.len() > DISPLAY_NAME_BYTES_MAX || name.chars().any(char::is_control) {
        let rule = format!(
            "a display name has 1 to {DISPLAY_NAME_BYTES_MAX} bytes, something visible and no control characters"
        );
        return Err(Refused::new(Code::BadBody, rule));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usernames_are_plain() {
        let long = "a".repeat(USERNAME_BYTES_MAX + 1);
        for good in ["a", "0", "ann", "a_b.c-d", &long[1..]] {
            assert!(check_username(good).is_ok(), "{good}");
        }
        for bad in ["", "_a", ".a", "-a", "Ann", "ä", "a b", "a\0", "a\u{301}", &long] {
            assert!(check_username(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn display_names_have_something_to_see() {
        for good in ["Ann", "Ärzte 🦀", " x "] {
            assert!(check_display_name(good).is_ok(), "{good}");
        }
        for bad in ["", "  ", "a\0b", "a\nb", &"x".repeat(DISPLAY_NAME_BYTES_MAX + 1)] {
            assert!(check_display_name(bad).is_err(), "{bad:?}");
        }
    }
}
