//! A cluster in a process: every role on the embedded log and store in a temporary directory, on one port of its own.
//!
//! It is what `hubbub` is, without the program around it. Several gateways may share the log and the store, each with its port. A
//! stopped cluster leaves its directory, and another one can be started on it.

use crate::auditor::{History, audit};
use crate::client::{Client, ClientCore, Dial, Recorder, Start, TcpDial};
use crate::truth::Truth;
use anyhow::{Context as _, Result, bail};
use api::Api;
use bytes::Bytes;
use domain::decide::DecideLimits;
use domain::{ChannelId, UserId};
use eventlog::SharedLog;
use eventlog_embedded::EmbeddedLog;
use gateway::Gateway;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use runtime::access_tokens::{Signer, generate_pkcs8};
use runtime::listener::{Body, Listener};
use runtime::{Entropy, Health, SharedClock, SharedEntropy, Shutdown, SystemClock, Tasks};
use serde_json::Value;
use std::fmt::Display;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use store::{Accounts as _, NewAccount, SharedStore};
use store_embedded::EmbeddedStore;
use timeline::{ProcessConfig, Topology};
use tower::ServiceExt as _;

/// How long a start or a stop may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// TAIL: by then a client knows of every event.
const TAIL_WITHIN: Duration = Duration::from_secs(30);

/// How a cluster is made.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Where log and store are; kept when the cluster stops.
    pub directory: PathBuf,
    /// Partitions of the timelines.
    pub partitions: u32,
    /// Gateways, each with its own port.
    pub gateways: usize,
    /// Members of a channel.
    pub members_max: usize,
    /// Messages of one connection a second.
    pub sends_per_second_max: u32,
}

impl Setup {
    /// Two partitions, one gateway, and limits that tests do not meet.
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            partitions: 2,
            gateways: 1,
            members_max: 200,
            sends_per_second_max: 1_000_000,
        }
    }
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Where its gateways listen; each port has the API too.
    pub addresses: Vec<SocketAddr>,
    /// Its log.
    pub log: SharedLog,
    /// Its store.
    pub store: Arc<EmbeddedStore>,
    /// The tasks of clients, which end with the cluster.
    pub clients: Tasks,
    /// The one clock of all clients.
    pub recorder: Recorder,
    topology: Topology,
    dial: Arc<TcpDial>,
    signer: Arc<Signer>,
    entropy: SharedEntropy,
    clock: SharedClock,
    wall_origin_ms: u64,
    door: Half,
    inner: Half,
}

/// Tasks that end together: the door first, then what acts on the log behind it.
#[derive(Clone, Debug, Default)]
struct Half {
    tasks: Tasks,
    shutdown: Shutdown,
}

impl Half {
    fn start<E: Display + Send>(&self, name: &'static str, role: impl Future<Output = Result<(), E>> + Send + 'static) {
        self.tasks.spawn(async move {
            if let Err(error) = role.await {
                tracing::error!(%error, role = name, "a role failed");
            }
        });
    }
}

/// A person with an access token.
#[derive(Clone, Debug)]
pub struct Person {
    /// Who.
    pub user: UserId,
    /// Their name.
    pub name: String,
    /// Their token.
    pub token: String,
}

impl Cluster {
    /// Starts every role and waits until all are ready.
    pub async fn start(setup: &Setup) -> Result<Self> {
        let clock: SharedClock = Arc::new(SystemClock);
        let entropy = Entropy::from_os();
        // One key for all clusters of a process: a token is good after a restart.
        let signer = Arc::new(Signer::from_pkcs8(&generate_pkcs8(&Entropy::from_seed(1)), clock.clone())?);
        let (log, _) = EmbeddedLog::open(&setup.directory.join("log"), eventlog_embedded::Options::new(clock.clone()))?;
        let log: SharedLog = Arc::new(log);
        let store = Arc::new(EmbeddedStore::open(setup.directory.join("store"), &store_embedded::Options::default())?);
        let topology = Topology { partitions: setup.partitions };
        timeline::topics::create_all(&log, topology).await?;
        let health = Health::new();
        let (door, inner) = (Half::default(), Half::default());
        let mut cluster = Self {
            addresses: Vec::new(),
            log,
            store,
            clients: Tasks::new(),
            recorder: Recorder::start(),
            topology,
            dial: TcpDial::new(Vec::new()),
            signer,
            entropy,
            wall_origin_ms: clock.now_ms(),
            clock,
            door,
            inner,
        };
        cluster.start_inner(setup, topology, &health);
        for number in 1..=setup.gateways {
            cluster.start_door(number, setup, topology).await?;
        }
        cluster.dial.redirect(cluster.addresses.clone());
        tokio::time::timeout(PATIENCE, health.all_ready())
            .await
            .with_context(|| format!("not ready: {:?}", health.report()))?;
        Ok(cluster)
    }

    fn start_inner(&self, setup: &Setup, topology: Topology, health: &Health) {
        let Half { tasks, shutdown } = &self.inner;
        let deps = sequencer::Deps {
            log: self.log.clone(),
            projections: self.store.clone(),
            reads: self.store.clone(),
            entropy: self.entropy.clone(),
            tasks: tasks.clone(),
            health: health.clone(),
        };
        let decide = DecideLimits { members_max: setup.members_max, ..DecideLimits::default() };
        let config = sequencer::Config { owner: "testkit".into(), topology, decide };
        self.inner.start("sequencer", sequencer::run(config, deps, shutdown.clone()));
        let deps = writer::Deps {
            log: self.log.clone(),
            projections: self.store.clone(),
            entropy: self.entropy.clone(),
            tasks: tasks.clone(),
            health: health.clone(),
        };
        self.inner.start("writer", writer::run(writer::Config::default(), deps, shutdown.clone()));
        let deps = fanout::Deps {
            log: self.log.clone(),
            memberships: self.store.clone(),
            projections: self.store.clone(),
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            tasks: tasks.clone(),
        };
        let config = fanout::Config { process: "fanout-1".into(), topology };
        self.inner.start("fanout", fanout::run(config, deps, shutdown.clone()));
    }

    async fn start_door(&mut self, number: usize, setup: &Setup, topology: Topology) -> Result<()> {
        let Half { tasks, shutdown } = self.door.clone();
        let keys = vec![self.signer.public().clone()];
        let process = |role: &str| ProcessConfig {
            id: format!("{role}-{number}").into(),
            url: String::new(),
            region: String::new(),
            capacity: 20_000,
        };
        let mut config = gateway::Config::new(process("gateway"), topology, keys.clone());
        config.sends_per_second_max = setup.sends_per_second_max;
        config.drain = Duration::from_secs(3);
        let deps = gateway::Deps {
            log: self.log.clone(),
            timelines: self.store.clone(),
            memberships: self.store.clone(),
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            tasks: tasks.clone(),
        };
        let gateway = Gateway::new(config, deps)?;
        let mut config = api::Config::new(process("api"), topology, keys);
        config.members_max = setup.members_max;
        let deps = api::Deps {
            log: self.log.clone(),
            accounts: self.store.clone(),
            timelines: self.store.clone(),
            memberships: self.store.clone(),
            signer: self.signer.clone(),
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            tasks: tasks.clone(),
        };
        let api = Api::new(config, deps)?;
        let (running, ending) = (gateway.clone(), shutdown.clone());
        self.door.start("gateway", async move { running.run(ending).await });
        let (running, ending) = (api.clone(), shutdown.clone());
        self.door.start("api", async move { running.run(ending).await });

        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        self.addresses.push(listener.address());
        let (door, router) = (gateway.clone(), api.router());
        let answer = move |request| answer(door.clone(), router.clone(), request);
        tasks.spawn(listener.serve(answer, tasks.clone(), shutdown));
        let ready = async {
            while gateway.readiness().is_err() || api.readiness().is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ready).await.context("the door does not open")
    }

    /// A new account.
    pub async fn person(&self, name: &str) -> Result<Person> {
        let now = self.clock.now_ms();
        let user = UserId(self.entropy.uuid_v7(now));
        let account = NewAccount {
            user,
            username: name.to_owned(),
            display_name: name.to_owned(),
            password_hash: None,
            created_ms: now,
        };
        self.store.create_account(&account).await?;
        let token = self.signer.issue(user.to_string(), self.entropy.uuid_v7(now).to_string(), 3_600)?;
        Ok(Person { user, name: name.to_owned(), token })
    }

    /// A device of a person, online from now on, over any of the gateways.
    pub fn client(&self, person: &Person, device: &str, start: Start) -> Client {
        self.client_over(person, device, start, Arc::clone(&self.dial) as Arc<dyn Dial>)
    }

    /// The same, over a way of its own.
    pub fn client_over(&self, person: &Person, device: &str, start: Start, dial: Arc<dyn Dial>) -> Client {
        let name = format!("{}/{device}", person.name);
        let core =
            ClientCore::new(name, person.user, person.token.clone(), start, self.entropy.clone(), self.wall_origin_ms);
        Client::start(core, dial, self.recorder, &self.clients)
    }

    /// A request to the API of the first gateway's port, and its answer.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        person: Option<&Person>,
        body: &Value,
    ) -> Result<(StatusCode, Value)> {
        let address = self.addresses.first().context("no gateway")?;
        let stream = tokio::net::TcpStream::connect(address).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await?;
        self.clients.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a request ended early");
            }
        });
        let mut request =
            Request::builder().method(method).uri(format!("/api/v1{path}")).header("host", address.to_string());
        if let Some(person) = person {
            request = request.header("authorization", format!("Bearer {}", person.token));
        }
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let answer = sender.send_request(request.body(Full::new(body))?).await?;
        let status = answer.status();
        let bytes = answer.into_body().collect().await?.to_bytes();
        Ok((status, serde_json::from_slice(&bytes)?))
    }

    /// The same, which must succeed.
    pub async fn must(&self, method: Method, path: &str, person: &Person, body: &Value) -> Result<Value> {
        let (status, answer) = self.ask(method.clone(), path, Some(person), body).await?;
        if !status.is_success() {
            bail!("{method} {path}: {status} {answer}");
        }
        Ok(answer)
    }

    /// A new group.
    pub async fn group(&self, owner: &Person, members: &[&Person]) -> Result<ChannelId> {
        let members: Vec<String> = members.iter().map(|person| person.user.to_string()).collect();
        let body = serde_json::json!({"kind": "group", "title": "Room", "members": members});
        let decided = self.must(Method::POST, "/channels", owner, &body).await?;
        Ok(decided["channel"].as_str().context("no channel")?.parse()?)
    }

    /// What the log says now, and that the store says the same once it is as far.
    pub async fn truth(&self) -> Result<Truth> {
        let truth = Truth::read(&self.log, self.topology).await?;
        let store = Arc::clone(&self.store) as SharedStore;
        let written = async {
            while truth.writer_lag(&store).await? > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok::<_, store::Error>(())
        };
        tokio::time::timeout(PATIENCE, written).await.context("the store does not catch up with the log")??;
        Ok(truth)
    }

    /// Waits until every client has all that it must see, as long as TAIL allows; judges what clients did and saw against the log,
    /// and the store against it. Nobody may send any more.
    pub async fn audit(&self, clients: Vec<Client>) -> Result<()> {
        let mut truth = self.truth().await?;
        loop {
            for client in &clients {
                let settled = tokio::time::timeout(TAIL_WITHIN, settle(client, &truth)).await;
                settled.with_context(|| format!("unseen tail: {:?}", client.look(ClientCore::user)))?;
            }
            // What the fanout derives from events comes a little later than they do.
            let again = self.truth().await?;
            if again.records() == truth.records() {
                break;
            }
            truth = again;
        }
        let problems = truth.compare(&(Arc::clone(&self.store) as SharedStore)).await?;
        anyhow::ensure!(truth.problems.is_empty() && problems.is_empty(), "{:?} {problems:?}", truth.problems);
        let mut history = History { clients: Vec::new(), channels: std::mem::take(&mut truth.channels) };
        for client in clients {
            history.clients.push(client.stop(true).await);
        }
        audit(&history).assert_clean();
        Ok(())
    }

    /// Drains and ends as the program does. The number of tasks that had to be cut off.
    pub async fn stop(self) -> usize {
        self.door.shutdown.begin();
        let mut cut = self.door.tasks.finish(PATIENCE).await;
        self.clients.cut_off();
        self.inner.shutdown.begin();
        cut += self.inner.tasks.finish(PATIENCE).await;
        if let Err(error) = self.log.flush().await {
            tracing::warn!(%error, "the log did not flush");
        }
        cut
    }
}

/// Waits until a client has the last event that it must see of every channel.
async fn settle(client: &Client, truth: &Truth) {
    let user = client.look(ClientCore::user);
    for (channel, final_channel) in &truth.channels {
        let last = final_channel.events.iter().rev().find(|event| final_channel.must_see(*channel, user, event.seq));
        if let Some(last) = last {
            client.until(|core| core.cursor(*channel) >= Some(last.seq)).await;
        }
    }
    client.until(ClientCore::is_settled).await;
}

async fn answer(gateway: Gateway, router: axum::Router, request: Request<Incoming>) -> Response<Body> {
    if request.uri().path() == "/api/v1/socket" {
        return gateway.upgrade(request).map(|body| body.map_err(|never| match never {}).boxed_unsync());
    }
    let answered = router.oneshot(request.map(axum::body::Body::new)).await;
    answered.unwrap_or_else(|never| match never {}).map(|body| body.map_err(Into::into).boxed_unsync())
}
