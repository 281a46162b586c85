//! The role: its configuration, its start, its drain.

use crate::connection::Connection;
use crate::hub::Hub;
use crate::limits::{
    CONNECTIONS_MAX, DRAIN_S, FLUSH_S, GOAWAY_SPREAD_MS_PER_THOUSAND, SENDS_PER_SECOND_MAX, SESSIONS_PER_PERSON_MAX,
};
use crate::socket::{Duplex, Socket, Stream};
use crate::{deliveries, handshake, sessions, sweep};
use bytes::Bytes;
use eventlog::SharedLog;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use runtime::access_tokens::{KeyError, PublicKey, Verifier};
use runtime::{SharedClock, SharedEntropy, Shutdown, Tasks};
use schemas::error_codes::Code;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use store::{Memberships, Timelines};
use timeline::{Mailbox, ProcessConfig, Topology};
use tokio::time::Instant;

/// What a gateway is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// What it says of itself to the others. Its id is stable over restarts.
    pub process: ProcessConfig,
    /// The log's.
    pub topology: Topology,
    /// The generation of the log: raised only when the log was lost or restored (design §5 "Connect").
    pub generation: u64,
    /// Whose tokens are good.
    pub keys: Vec<PublicKey>,
    /// Which web pages may connect.
    pub origins: Origins,
    /// Connections at once.
    pub connections_max: u32,
    /// Sessions of one person here.
    pub sessions_per_person_max: usize,
    /// Messages of one connection a second, sustained.
    pub sends_per_second_max: u32,
    /// How long a drain may take.
    pub drain: Duration,
}

impl Config {
    /// The defaults of `limits.rs`.
    pub fn new(process: ProcessConfig, topology: Topology, keys: Vec<PublicKey>) -> Self {
        Self {
            process,
            topology,
            generation: 1,
            keys,
            origins: Origins::default(),
            connections_max: CONNECTIONS_MAX,
            sessions_per_person_max: SESSIONS_PER_PERSON_MAX,
            sends_per_second_max: SENDS_PER_SECOND_MAX,
            drain: Duration::from_secs(DRAIN_S),
        }
    }
}

/// Which web pages may connect. A request without `Origin` is not a browser's and always may.
#[derive(Clone, Debug)]
pub struct Origins {
    /// The server's own pages: the origin's host and port are those the request was sent to.
    pub own: bool,
    /// Others, exactly as a browser writes them: `https://chat.example.org`, `http://localhost:5173`.
    pub others: Vec<String>,
}

impl Default for Origins {
    fn default() -> Self {
        Self { own: true, others: Vec::new() }
    }
}

impl Origins {
    pub(crate) fn allow(&self, origin: &HeaderValue, host: Option<&HeaderValue>) -> bool {
        let Ok(origin) = origin.to_str() else { return false };
        let own = || {
            let authority = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
            authority.is_some() && authority == host.and_then(|host| host.to_str().ok())
        };
        self.others.iter().any(|other| other == origin) || self.own && own()
    }
}

/// What a gateway uses.
#[derive(Clone, Debug)]
pub struct Deps {
    /// The log.
    pub log: SharedLog,
    /// For history and catch-up.
    pub timelines: Arc<dyn Timelines>,
    /// For who may see what.
    pub memberships: Arc<dyn Memberships>,
    /// Wall-clock time, for tokens.
    pub clock: SharedClock,
    /// Session ids, jitter.
    pub entropy: SharedEntropy,
    /// Where connections run.
    pub tasks: Tasks,
}

/// Why a gateway ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A configured key is none.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The log failed for good, or never worked.
    #[error("the log failed the gateway: {0}")]
    Log(#[from] eventlog::Error),
}

/// The role. Clones are one gateway.
#[derive(Clone, Debug)]
pub struct Gateway {
    hub: Arc<Hub>,
}

impl Gateway {
    /// Not yet routable: until [`Gateway::run`] has opened its topic, requests get 503.
    pub fn new(config: Config, deps: Deps) -> Result<Self, Error> {
        let verifier = Verifier::new(&config.keys, deps.clock.clone())?;
        Ok(Self { hub: Arc::new(Hub::new(config, deps, verifier)) })
    }

    /// Answers a request for a socket (`GET /api/v1/socket`). Never waits.
    pub fn upgrade<B>(&self, request: Request<B>) -> Response<Full<Bytes>> {
        handshake::upgrade(&self.hub, request)
    }

    /// Serves a WebSocket over any stream, its handshake done; for tests and simulations. `None`: not ready, or full.
    pub fn serve(&self, stream: impl Duplex + 'static) -> Option<impl Future<Output = ()> + Send + 'static> {
        self.hub.process.get()?;
        let link = self.hub.admit()?;
        let socket = Socket::new(Stream::Other(Box::new(stream)), Vec::new());
        Some(handshake::serve(Connection::new(Arc::clone(&self.hub), link, socket, None)))
    }

    /// Whether it takes connections, or why not.
    pub fn readiness(&self) -> Result<(), &'static str> {
        if self.hub.process.get().is_none() {
            return Err("gateway: own topic is not open yet");
        }
        if self.hub.draining.load(Ordering::Acquire) {
            return Err("gateway: going away");
        }
        Ok(())
    }

    /// How many connections there are.
    pub fn connections(&self) -> u32 {
        self.hub.connections()
    }

    /// Is routable until the shutdown, then drains: clients are told to move, sends in hand get their outcome, sockets are closed.
    pub async fn run(&self, shutdown: Shutdown) -> Result<(), Error> {
        let hub = &self.hub;
        // What serves connections lives longer than the wish to end: outcomes come in while draining.
        let serving = Shutdown::new();
        let _crash = Crash(self, serving.clone());
        let deps = &hub.deps;
        let opening = Mailbox::open(
            &deps.log,
            hub.config.topology,
            hub.config.process.clone(),
            deps.clock.clone(),
            &deps.tasks,
            serving.child(),
        );
        let Some(mailbox) = shutdown.or_until(opening).await else { return Ok(()) };
        let mailbox = mailbox?;
        let process = Arc::clone(mailbox.process());
        sessions::close_left_open(&deps.log, hub, &process, &shutdown).await?;
        hub.routable_as(Arc::clone(&process));
        tracing::info!(process = process.id(), epoch = process.epoch(), "gateway is routable");
        deps.tasks.spawn(sweep::run(Arc::clone(hub), serving.child()));

        let mut delivering = std::pin::pin!(deliveries::run(Arc::clone(hub), mailbox, serving.child()));
        tokio::select! {
            biased;
            () = shutdown.begun() => {}
            ended = &mut delivering => return Ok(ended?),
        }
        let drained = tokio::select! {
            biased;
            ended = &mut delivering => ended.map_err(Error::from),
            () = self.drain() => Ok(()),
        };
        serving.begin();
        // Tombstones of the sessions just closed.
        if tokio::time::timeout(Duration::from_secs(FLUSH_S), deps.log.flush()).await.is_err() {
            tracing::warn!("the log did not take the last of the sessions in time");
        }
        drained
    }

    async fn drain(&self) {
        let hub = &self.hub;
        hub.draining.store(true, Ordering::Release);
        let connections = hub.connections();
        let window = 500 + u64::from(connections) * GOAWAY_SPREAD_MS_PER_THOUSAND / 1_000;
        tracing::info!(connections, window_ms = window, "telling clients to move");
        hub.for_each_link(|link| {
            let delay = hub.deps.entropy.below(window);
            link.order(|orders| orders.go_away_ms = Some(delay));
        });
        let end = Instant::now() + hub.config.drain;
        let mut looks = tokio::time::interval(Duration::from_millis(20));
        while hub.connections() > 0 && Instant::now() < end {
            looks.tick().await;
            let last_call = Instant::now() + Duration::from_secs(1) >= end;
            hub.for_each_link(|link| {
                let waits = link.unanswered.load(Ordering::Acquire) > 0 && !last_call;
                if !waits && link.closing.load(Ordering::Relaxed) == 0 {
                    link.order(|orders| orders.close = Some(Code::GoAway));
                }
            });
        }
        hub.for_each_link(|link| link.order(|orders| orders.drop = true));
    }
}

/// If the role is dropped while it runs, its connections end without a word, as when the process dies.
struct Crash<'a>(&'a Gateway, Shutdown);

impl Drop for Crash<'_> {
    fn drop(&mut self) {
        let Self(gateway, serving) = self;
        if !serving.has_begun() {
            gateway.hub.crashed.store(true, Ordering::Release);
            serving.begin();
            gateway.hub.for_each_link(|link| link.order(|orders| orders.drop = true));
        }
    }
}
