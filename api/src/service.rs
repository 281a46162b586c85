//! The role: its configuration, its routes, its life.

use crate::limits::{DRAIN_WITHIN, REQUEST_BODY_BYTES_MAX, REQUESTS_MAX, TOKEN_SECONDS};
use crate::passwords::Passwords;
use crate::problem::{Answer, Refused};
use crate::{channels, people};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use domain::limits::CHANNEL_MEMBERS_MAX;
use eventlog::SharedLog;
use http::{HeaderName, HeaderValue};
use runtime::access_tokens::{KeyError, PublicKey, Signer, Verifier};
use runtime::{SharedClock, SharedEntropy, Shutdown, Tasks};
use schemas::error_codes::Code;
use serde_json::{Value, json};
use std::sync::{Arc, OnceLock};
use store::{Accounts, Memberships, Timelines};
use timeline::{Asker, Commands, Mailbox, ProcessConfig, Topology};
use tokio::sync::Semaphore;

/// What an API is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// What it says of itself to the others. Its id is stable over restarts, and not the gateway's.
    pub process: ProcessConfig,
    /// The log's.
    pub topology: Topology,
    /// Whose tokens are good: the signer's, and those of keys that are being replaced.
    pub keys: Vec<PublicKey>,
    /// How long an access token is good, in seconds.
    pub token_seconds: u64,
    /// Members of a channel, as the sequencer has it.
    pub members_max: usize,
}

impl Config {
    /// The defaults of `limits.rs`.
    pub fn new(process: ProcessConfig, topology: Topology, keys: Vec<PublicKey>) -> Self {
        Self { process, topology, keys, token_seconds: TOKEN_SECONDS, members_max: CHANNEL_MEMBERS_MAX }
    }
}

/// What an API uses.
#[derive(Clone, Debug)]
pub struct Deps {
    /// The log.
    pub log: SharedLog,
    /// People.
    pub accounts: Arc<dyn Accounts>,
    /// History.
    pub timelines: Arc<dyn Timelines>,
    /// Who may see what.
    pub memberships: Arc<dyn Memberships>,
    /// Issues tokens.
    pub signer: Arc<Signer>,
    /// Wall-clock time.
    pub clock: SharedClock,
    /// Ids, salts.
    pub entropy: SharedEntropy,
    /// Where the mailbox is read.
    pub tasks: Tasks,
}

/// Why an API ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A configured key is none.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The log failed for good, or never worked.
    #[error("the log failed the api: {0}")]
    Log(#[from] eventlog::Error),
}

/// What handlers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) deps: Deps,
    pub(crate) verifier: Verifier,
    pub(crate) passwords: Passwords,
    /// Set when commands can be asked.
    asker: OnceLock<Asker>,
    requests: Semaphore,
}

impl Shared {
    /// For commands. Until the own topic is open, reads are served and changes are not.
    pub(crate) fn asker(&self) -> Answer<&Asker> {
        self.asker.get().ok_or_else(|| Refused::new(Code::RetryLater, "not ready yet"))
    }

    /// Log time, or the own clock's until it is known.
    pub(crate) fn server_time_ms(&self) -> u64 {
        self.asker.get().map_or_else(|| self.deps.clock.now_ms(), |asker| asker.process().server_time().now_ms())
    }
}

/// The role. Clones are one API.
#[derive(Clone, Debug)]
pub struct Api {
    shared: Arc<Shared>,
}

/// Server time in ms since the Unix epoch, on every answer.
const SERVER_TIME: HeaderName = HeaderName::from_static("hubbub-server-time");

impl Api {
    /// Serves reads at once, changes when [`Api::run`] has opened its topic.
    pub fn new(config: Config, deps: Deps) -> Result<Self, Error> {
        let verifier = Verifier::new(&config.keys, deps.clock.clone())?;
        let passwords = Passwords::new(deps.entropy.clone());
        let requests = Semaphore::new(REQUESTS_MAX);
        Ok(Self { shared: Arc::new(Shared { config, deps, verifier, passwords, asker: OnceLock::new(), requests }) })
    }

    /// Everything under `/api/v1` but the socket; every other path is a problem document.
    pub fn router(&self) -> Router {
        let v1 = Router::new()
            .route("/accounts", post(people::sign_up))
            .route("/sessions", post(people::sign_in))
            .route("/me", get(people::me).patch(people::change_me))
            .route("/users", get(people::find))
            .route("/keys", get(keys))
            .route("/channels", get(channels::list).post(channels::create))
            .route("/channels/{channel}/members", get(channels::members).post(channels::add))
            .route("/channels/{channel}/members/{user}", delete(channels::remove))
            .route("/channels/{channel}/messages", get(channels::messages));
        Router::new()
            .nest("/api/v1", v1)
            .fallback(|| async { Refused::from(Code::NotFound) })
            .method_not_allowed_fallback(|| async { Refused::from(Code::MethodNotAllowed) })
            .layer(DefaultBodyLimit::max(REQUEST_BODY_BYTES_MAX))
            .layer(from_fn_with_state(Arc::clone(&self.shared), admit))
            .with_state(Arc::clone(&self.shared))
    }

    /// Whether it takes changes, or why not.
    pub fn readiness(&self) -> Result<(), &'static str> {
        if self.shared.asker.get().is_some() { Ok(()) } else { Err("api: own topic is not open yet") }
    }

    /// Hears of outcomes until the shutdown, and then until the requests in hand are answered.
    pub async fn run(&self, shutdown: Shutdown) -> Result<(), Error> {
        let Shared { config, deps, requests, .. } = &*self.shared;
        let hearing = Ends(Shutdown::new());
        let (process, clock) = (config.process.clone(), deps.clock.clone());
        let opening = Mailbox::open(&deps.log, config.topology, process, clock, &deps.tasks, hearing.0.child());
        let Some(mailbox) = shutdown.or_until(opening).await else { return Ok(()) };
        let commands = Commands::new(deps.log.clone(), config.topology);
        let asker = Asker::start(mailbox?, commands, &deps.tasks, hearing.0.child());
        tracing::info!(process = asker.process().id(), "api is ready");
        // Run twice: the first asker stays.
        let _ = self.shared.asker.set(asker);
        shutdown.begun().await;
        // The listener takes no new connections any more.
        let every_place = REQUESTS_MAX as u32;
        if tokio::time::timeout(DRAIN_WITHIN, requests.acquire_many(every_place)).await.is_err() {
            tracing::warn!("requests in hand are given up");
        }
        Ok(())
    }
}

/// However the role ends, so does what it started.
struct Ends(Shutdown);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.begin();
    }
}

async fn admit(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let mut response = match shared.requests.try_acquire() {
        Ok(_place) => next.run(request).await,
        Err(_) => Refused::from(Code::RetryLater).into_response(),
    };
    response.headers_mut().insert(SERVER_TIME, HeaderValue::from(shared.server_time_ms()));
    response
}

/// `GET /keys`: the JWK set that access tokens are verified with.
async fn keys(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let key = |key: &PublicKey| json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": key.kid, "x": key.x});
    Json(json!({"keys": shared.verifier.keys().map(key).collect::<Vec<_>>()}))
}
