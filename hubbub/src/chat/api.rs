//! The HTTP side of the terminal client: one small JSON request at a time.

use anyhow::{Context as _, Result, anyhow, bail};
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use schemas::http::{
    AddMembers, ChannelView, Decided, MemberView, NewChannel, Problem, SignInRequest, SignUp, SignedIn, UserView,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// How long an answer may take before a person is told.
const ANSWER_WAIT: Duration = Duration::from_secs(15);

/// A server's API.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    client: Client<HttpConnector, Full<Bytes>>,
    base: String,
    token: Option<String>,
}

impl Api {
    pub(crate) fn new(url: &str) -> Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("{url} is no URL"))?;
        if uri.scheme_str() != Some("http") || uri.authority().is_none() {
            bail!("{url}: an address such as http://127.0.0.1:8080 is expected; this client does not speak TLS");
        }
        let client = Client::builder(TokioExecutor::new()).build_http();
        Ok(Self { client, base: url.trim_end_matches('/').to_owned(), token: None })
    }

    /// Host and port, for the socket.
    pub(crate) fn authority(&self) -> String {
        self.base.trim_start_matches("http://").split('/').next().unwrap_or_default().to_owned()
    }

    pub(crate) fn with_token(mut self, token: String) -> Self {
        self.token = Some(token);
        self
    }

    pub(crate) async fn sign_up(&self, username: &str, password: String) -> Result<SignedIn> {
        let sign_up = SignUp { username: username.to_owned(), display_name: None, password };
        self.ask(Method::POST, "/accounts", Some(&sign_up)).await
    }

    pub(crate) async fn sign_in(&self, username: &str, password: String) -> Result<SignedIn> {
        let sign_in = SignInRequest { username: username.to_owned(), password };
        self.ask(Method::POST, "/sessions", Some(&sign_in)).await
    }

    pub(crate) async fn user(&self, id: &str) -> Result<UserView> {
        self.ask::<(), _>(Method::GET, &format!("/users?id={id}"), None).await
    }

    pub(crate) async fn user_by_name(&self, name: &str) -> Result<UserView> {
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)) {
            bail!("{name:?} is no username");
        }
        self.ask::<(), _>(Method::GET, &format!("/users?username={name}"), None).await
    }

    pub(crate) async fn channels(&self) -> Result<Vec<ChannelView>> {
        self.ask::<(), _>(Method::GET, "/channels", None).await
    }

    pub(crate) async fn members(&self, channel: &str) -> Result<Vec<MemberView>> {
        self.ask::<(), _>(Method::GET, &format!("/channels/{channel}/members"), None).await
    }

    pub(crate) async fn create(&self, channel: &NewChannel) -> Result<Decided> {
        self.ask(Method::POST, "/channels", Some(channel)).await
    }

    pub(crate) async fn add(&self, channel: &str, users: Vec<String>) -> Result<Decided> {
        let add = AddMembers { users, client_msg_id: None };
        self.ask(Method::POST, &format!("/channels/{channel}/members"), Some(&add)).await
    }

    pub(crate) async fn leave(&self, channel: &str, me: &str) -> Result<Decided> {
        self.ask::<(), _>(Method::DELETE, &format!("/channels/{channel}/members/{me}"), None).await
    }

    async fn ask<I: Serialize, O: DeserializeOwned>(&self, method: Method, path: &str, body: Option<&I>) -> Result<O> {
        let uri = format!("{}/api/v1{path}", self.base);
        let mut request = Request::builder().method(method).uri(&uri).header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        let request = request.body(Full::new(Bytes::from(body)))?;
        let exchange = async {
            let answer = self
                .client
                .request(request)
                .await
                .map_err(|_| anyhow!("can't reach {}: is hubbub running there?", self.base))?;
            let status = answer.status();
            let body = answer.into_body().collect().await.context("the answer broke off")?.to_bytes();
            Ok::<_, anyhow::Error>((status, body))
        };
        let (status, body) = tokio::time::timeout(ANSWER_WAIT, exchange)
            .await
            .with_context(|| format!("{} does not answer", self.base))??;
        if status.is_success() {
            return serde_json::from_slice(&body).with_context(|| format!("{uri} answered something else"));
        }
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Err(Refused { status, detail: problem.detail }.into()),
            Err(_) => Err(Refused { status, detail: format!("{uri} answered {status}") }.into()),
        }
    }
}

/// The server said no.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    detail: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Refused {}
