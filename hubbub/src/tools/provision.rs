//! `hubbub admin provision`: many accounts with access tokens at once, for load tests.

use super::Bench;
use anyhow::{Context as _, Result};
use domain::UserId;
use serde_json::json;
use store::{Accounts as _, NewAccount};
use tokio::sync::mpsc;

/// Accounts a durable step; more would hold the store's writer for longer than a message should wait.
const ACCOUNTS_A_STEP: u32 = 500;

/// Makes `user000001`, `user000002` … where they don't exist, and a token for each.
pub(super) async fn run(bench: &Bench, users: u32, out: mpsc::Sender<String>) -> Result<()> {
    let store = &bench.kept.store;
    let now_ms = bench.clock.now_ms();
    for first in (1..=users).step_by(ACCOUNTS_A_STEP as usize) {
        let last = users.min(first + ACCOUNTS_A_STEP - 1);
        let names: Vec<String> = (first..=last).map(|n| format!("user{n:06}")).collect();
        let account = |username: &String| NewAccount {
            user: UserId(bench.entropy.uuid_v7(now_ms)),
            username: username.clone(),
            display_name: username.clone(),
            password_hash: None,
            created_ms: now_ms,
        };
        let accounts: Vec<NewAccount> = names.iter().map(account).collect();
        let new = store.create_accounts(&accounts).await.context("creating accounts")?;
        for account in accounts {
            let user = if new == names.len() {
                account.user
            } else {
                // Some were there before, under ids of their own.
                let known = store.account_by_name(&account.username).await.context("reading an account")?;
                known.map_or(account.user, |known| known.user)
            };
            let sign_in = bench.entropy.uuid_v7(now_ms).to_string();
            let token = bench.signer.issue(user.to_string(), sign_in, bench.token_seconds)?;
            let line = json!({"user": user.to_string(), "username": account.username, "token": token}).to_string();
            if out.send(line).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}
