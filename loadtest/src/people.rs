//! People and channels, made over HTTP before a run.

use crate::limits::{REQUEST_TIMEOUT, REQUESTS_AT_ONCE};
use crate::link::Target;
use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use domain::{ChannelId, UserId};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use schemas::error_codes::Code;
use schemas::http::{
    AddMembers, Decided, HistoryPage, NewChannel, Problem, ProfileChange, SignInRequest, SignUp, SignedIn,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use uuid::Uuid;

/// Somebody who can connect. One line of `hubbub admin provision`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Account {
    pub(crate) user: Uuid,
    pub(crate) username: String,
    pub(crate) token: String,
}

/// Requests to the servers.
#[derive(Clone)]
pub(crate) struct Http {
    client: Client<HttpConnector, Full<Bytes>>,
    targets: Arc<[Arc<Target>]>,
    at_once: Arc<Semaphore>,
}

/// A refusal.
#[derive(Debug, thiserror::Error)]
#[error("{method} {path}: {status} {detail}")]
pub(crate) struct Refused {
    method: Method,
    path: String,
    status: u16,
    /// 0: no problem document.
    pub(crate) code: u16,
    detail: String,
}

impl Http {
    pub(crate) fn new(targets: &[Arc<Target>]) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { client, targets: targets.into(), at_once: Arc::new(Semaphore::new(REQUESTS_AT_ONCE)) }
    }

    /// Asks one of the servers; `pick` spreads requests over them.
    async fn ask<T: DeserializeOwned>(
        &self,
        pick: usize,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<Vec<u8>>,
    ) -> Result<T> {
        let _permit = self.at_once.acquire().await?;
        let uri = format!("{}/api/v1{path}", self.targets[pick % self.targets.len()].url);
        let mut request = Request::builder().method(method.clone()).uri(uri).header("content-type", "application/json");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Full::new(Bytes::from(body.unwrap_or_default())))?;
        let answer = tokio::time::timeout(REQUEST_TIMEOUT, self.client.request(request)).await;
        let answer = answer.with_context(|| format!("{method} {path}: no answer in time"))??;
        let status = answer.status();
        let bytes = answer.into_body().collect().await?.to_bytes();
        if status.is_success() {
            let bytes = if bytes.is_empty() { Bytes::from_static(b"null") } else { bytes };
            return serde_json::from_slice(&bytes)
                .with_context(|| format!("{method} {path}: an answer of another shape"));
        }
        let problem: Option<Problem> = serde_json::from_slice(&bytes).ok();
        let code = problem.as_ref().map_or(0, |problem| problem.code);
        let detail = problem.map_or_else(|| String::from_utf8_lossy(&bytes).into_owned(), |problem| problem.detail);
        Err(Refused { method, path: path.to_owned(), status: status.as_u16(), code, detail }.into())
    }

    /// Asks again while the server says to.
    async fn insist<T: DeserializeOwned>(
        &self,
        pick: usize,
        method: Method,
        path: &str,
        token: &str,
        body: Option<Vec<u8>>,
    ) -> Result<T> {
        let mut pause = std::time::Duration::from_millis(20);
        for _ in 0..12 {
            match self.ask(pick, method.clone(), path, Some(token), body.clone()).await {
                Err(error) if retryable(&error) => tokio::time::sleep(pause).await,
                answer => return answer,
            }
            pause = (pause * 2).min(std::time::Duration::from_secs(2));
        }
        bail!("{method} {path}: refused for now, again and again")
    }

    /// An account with this name: made, or signed in to if the name is taken.
    pub(crate) async fn account(&self, pick: usize, username: &str, display_name: &str) -> Result<Account> {
        let password = format!("load-{username}-password");
        let sign_up = SignUp {
            username: username.to_owned(),
            display_name: Some(display_name.to_owned()),
            password: password.clone(),
        };
        let made = self.ask(pick, Method::POST, "/accounts", None, Some(serde_json::to_vec(&sign_up)?)).await;
        let signed_in: SignedIn = match made {
            Err(error) if refused_as(&error, Code::AlreadyExists) => {
                let sign_in = SignInRequest { username: username.to_owned(), password };
                self.ask(pick, Method::POST, "/sessions", None, Some(serde_json::to_vec(&sign_in)?)).await?
            }
            other => other?,
        };
        Ok(Account {
            user: signed_in.user.id.parse()?,
            username: signed_in.user.username,
            token: signed_in.access_token,
        })
    }

    /// Changes what people see of an account.
    pub(crate) async fn rename(&self, account: &Account, display_name: &str) -> Result<()> {
        let body = serde_json::to_vec(&ProfileChange { display_name: display_name.to_owned() })?;
        let _: serde_json::Value = self.insist(0, Method::PATCH, "/me", &account.token, Some(body)).await?;
        Ok(())
    }

    /// The direct channel of two people, made if it is not there.
    pub(crate) async fn direct(&self, pick: usize, one: &Account, other: &Account) -> Result<Uuid> {
        let new = NewChannel {
            client_msg_id: None,
            kind: "direct".to_owned(),
            title: String::new(),
            members: vec![other.user.to_string()],
            history: None,
            open: false,
        };
        let made: Result<Decided> =
            self.insist(pick, Method::POST, "/channels", &one.token, Some(serde_json::to_vec(&new)?)).await;
        match made {
            Ok(decided) => Ok(decided.channel.parse()?),
            Err(error) if refused_as(&error, Code::AlreadyExists) => {
                Ok(ChannelId::direct(UserId(one.user), UserId(other.user)).0)
            }
            Err(error) => Err(error),
        }
    }

    /// A new group.
    pub(crate) async fn group(&self, owner: &Account, title: &str, members: &[Uuid], open: bool) -> Result<Uuid> {
        let new = NewChannel {
            client_msg_id: None,
            kind: "group".to_owned(),
            title: title.to_owned(),
            members: members.iter().map(Uuid::to_string).collect(),
            history: None,
            open,
        };
        let decided: Decided =
            self.insist(0, Method::POST, "/channels", &owner.token, Some(serde_json::to_vec(&new)?)).await?;
        Ok(decided.channel.parse()?)
    }

    /// Joins an open group. `false`: was a member.
    pub(crate) async fn join(&self, account: &Account, channel: Uuid, id: Uuid) -> Result<bool> {
        let body = serde_json::to_vec(&AddMembers { users: Vec::new(), client_msg_id: Some(id.to_string()) })?;
        let path = format!("/channels/{channel}/members");
        match self.insist::<Decided>(0, Method::POST, &path, &account.token, Some(body)).await {
            Ok(_) => Ok(true),
            Err(error) if refused_as(&error, Code::AlreadyMember) => Ok(false),
            Err(error) if refused_as(&error, Code::MembersLimit) => Err(error.context(
                "the channel has more people than the server allows: raise its limit of members for this run",
            )),
            Err(error) => Err(error),
        }
    }

    /// Leaves a group. `false`: was no member.
    pub(crate) async fn leave(&self, account: &Account, channel: Uuid, id: Uuid) -> Result<bool> {
        let path = format!("/channels/{channel}/members/me?client_msg_id={id}");
        match self.insist::<Decided>(0, Method::DELETE, &path, &account.token, None).await {
            Ok(_) => Ok(true),
            Err(error) if refused_as(&error, Code::NotMember) || refused_as(&error, Code::NoSuchMember) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A channel's whole history up to `head`, as a member from the beginning sees it. Waits for a store that is behind.
    pub(crate) async fn history(
        &self,
        reader: &Account,
        channel: Uuid,
        head: u64,
    ) -> Result<Vec<schemas::frames::EventFrame>> {
        let mut events = Vec::new();
        let mut next = 1;
        let mut waited = 0;
        while next <= head {
            let path = format!("/channels/{channel}/messages?first={next}&last={head}&limit=200");
            let page: HistoryPage = self.insist(0, Method::GET, &path, &reader.token, None).await?;
            if page.last < next {
                waited += 1;
                ensure!(waited < 300, "the history of {channel} ends before {next} although {head} was acknowledged");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
            events.extend(page.events);
            next = page.last + 1;
        }
        Ok(events)
    }
}

/// People from a file, or signed up as `load-<seed>-<n>`. `from` skips that many lines of the file.
pub(crate) async fn people(http: &Http, tokens: Option<&Path>, seed: u64, count: usize) -> Result<Vec<Account>> {
    let Some(tokens) = tokens else {
        return each(count, |index| {
            let http = http.clone();
            async move { http.account(index, &format!("load-{seed}-{index}"), &format!("Load {index}")).await }
        })
        .await;
    };
    let text = std::fs::read_to_string(tokens).with_context(|| format!("reading {}", tokens.display()))?;
    let people: Vec<Account> =
        text.lines().filter(|line| !line.is_empty()).take(count).map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!(people.len() == count, "{} has {} people, {count} are needed", tokens.display(), people.len());
    Ok(people)
}

/// Does something for each index, all at once as far as [`Http`] lets, and gives the answers in order.
pub(crate) async fn each<T, F>(count: usize, mut make: impl FnMut(usize) -> F) -> Result<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for index in 0..count {
        let task = make(index);
        tasks.spawn(async move { task.await.map(|done| (index, done)) });
    }
    let mut done = Vec::with_capacity(count);
    while let Some(one) = tasks.join_next().await {
        done.push(one??);
    }
    done.sort_unstable_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, one)| one).collect())
}

/// Whether an error is a refusal with this code.
pub(crate) fn refused_as(error: &anyhow::Error, code: Code) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| refused.code == code.number())
}

fn retryable(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<Refused>() {
        Some(refused) => (4_100..4_300).contains(&refused.code) || refused.status == 429 || refused.status == 503,
        // A server that is being restarted.
        None => error.is::<hyper_util::client::legacy::Error>() || error.is::<hyper::Error>(),
    }
}
