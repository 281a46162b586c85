//! `hubbub`: every role in one process, on one log, one store and one port.

use crate::doctor::DATA_FORMAT;
use crate::embedded::{self, Kept};
use crate::front::Front;
use crate::guarded_log::guard;
use crate::settings::Settings;
use crate::tools::Bench;
use crate::{admin, generation, signing_key};
use anyhow::{Context as _, Result};
use api::Api;
use domain::decide::DecideLimits;
use gateway::Gateway;
use runtime::access_tokens::Signer;
use runtime::data_dir::DataDir;
use runtime::disk::{self, Reserve};
use runtime::listener::Listener;
use runtime::{Entropy, Health, SharedClock, SharedEntropy, Shutdown, SystemClock, Tasks};
use std::fmt::Display;
use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use timeline::{ProcessConfig, Topology};

/// How often readiness is looked at while starting.
const START_LOOK: Duration = Duration::from_millis(20);
/// What the door may take beyond the configured drain, which it knows itself: cutting it off is the last resort.
const DOOR_MARGIN: Duration = Duration::from_secs(3);
/// What the second half of a drain may take beyond the configured one: its work is local and short.
const INNER_DRAIN: Duration = Duration::from_secs(5);

/// What everything in the process shares.
struct Process {
    clock: SharedClock,
    entropy: SharedEntropy,
    health: Health,
    /// The wish that the process ends: begun by a signal or a failed role.
    ending: Shutdown,
    failed: Arc<AtomicBool>,
}

/// A half of the process, that ends as one: the door first, then what acts on the log behind it.
#[derive(Clone, Default)]
struct Half {
    tasks: Tasks,
    shutdown: Shutdown,
}

/// Runs until a signal; the exit code says whether a role failed.
pub(crate) fn run(settings: &Settings) -> Result<ExitCode> {
    runtime::telemetry::start(settings.telemetry.format, &settings.telemetry.level)?;
    raise_handle_limit();
    let mut threads = tokio::runtime::Builder::new_multi_thread();
    threads.enable_all();
    if settings.server.threads > 0 {
        threads.worker_threads(settings.server.threads.into());
    }
    let running = threads.build().context("starting threads")?;
    let ended = running.block_on(serve(settings));
    // Blocking work that outlived its bound must not hold up the end.
    running.shutdown_timeout(Duration::from_secs(1));
    ended
}

async fn serve(settings: &Settings) -> Result<ExitCode> {
    let process = Process {
        clock: Arc::new(SystemClock),
        entropy: Entropy::from_os(),
        health: Health::new(),
        ending: Shutdown::new(),
        failed: Arc::default(),
    };
    runtime::signals::listen(&process.ending, &Tasks::new()).context("listening for signals")?;
    let data = DataDir::open(&settings.data.dir, DATA_FORMAT)?;
    let listeners = bind(settings)?;
    let signer =
        Arc::new(signing_key::load(&settings.auth.signing_key, data.path(), &process.entropy, process.clock.clone())?);

    let (door, inner) = (Half::default(), Half::default());
    let kept = embedded::open(data.path(), settings, &process.clock).await?;
    let topology = Topology { partitions: settings.log.partitions };
    timeline::topics::create_all(&kept.log(), topology).await.context("creating the topics")?;
    start_inner(&process, settings, &kept, topology, &inner);
    let front = start_door(&process, settings, &kept, topology, Arc::clone(&signer), &door, data.path())?;
    let bench = Bench {
        kept: kept.clone(),
        signer,
        token_seconds: settings.auth.token_lifetime.as_secs(),
        clock: process.clock.clone(),
        entropy: process.entropy.clone(),
    };
    let admin = admin::listen(data.path(), bench, &door.tasks, door.shutdown.clone())?;
    let addresses: Vec<String> = listeners.iter().map(|listener| format!("http://{}", listener.address())).collect();
    for listener in listeners {
        let front = front.clone();
        let answer = move |request| front.clone().answer(request);
        door.tasks.spawn(listener.serve(answer, door.tasks.clone(), door.shutdown.clone()));
    }

    if process.ending.or_until(ready(&front, &process.health)).await.is_some() {
        greet(&addresses, data.path());
    }
    process.ending.begun().await;
    drop(admin);
    drain(settings, &door, &inner, &kept).await;
    Ok(if process.failed.load(Ordering::Relaxed) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What acts on the log: it outlives the door, so that what is in hand there gets its outcome.
fn start_inner(process: &Process, settings: &Settings, kept: &Kept, topology: Topology, half: &Half) {
    let Half { tasks, shutdown } = half;
    let sequencer = sequencer::Deps {
        log: kept.log(),
        projections: kept.store.clone(),
        reads: kept.store.clone(),
        entropy: process.entropy.clone(),
        tasks: tasks.clone(),
        health: process.health.clone(),
    };
    let members_max = settings.limits.channel_members_max as usize;
    let config = sequencer::Config {
        owner: "sequencer-1".into(),
        topology,
        decide: DecideLimits { members_max, ..DecideLimits::default() },
    };
    process.start("sequencer", half, sequencer::run(config, sequencer, shutdown.clone()));
    let writer = writer::Deps {
        log: kept.log(),
        projections: kept.store.clone(),
        entropy: process.entropy.clone(),
        tasks: tasks.clone(),
        health: process.health.clone(),
    };
    process.start("writer", half, writer::run(writer::Config::default(), writer, shutdown.clone()));
    let fanout = fanout::Deps {
        log: kept.log(),
        memberships: kept.store.clone(),
        projections: kept.store.clone(),
        clock: process.clock.clone(),
        entropy: process.entropy.clone(),
        tasks: tasks.clone(),
    };
    let config = fanout::Config { process: "fanout-1".into(), topology };
    process.start("fanout", half, fanout::run(config, fanout, shutdown.clone()));
}

/// What people connect to.
fn start_door(
    process: &Process,
    settings: &Settings,
    kept: &Kept,
    topology: Topology,
    signer: Arc<Signer>,
    half: &Half,
    data: &std::path::Path,
) -> Result<Front> {
    let Half { tasks, shutdown } = half;
    let reserve = Reserve { warn: settings.data.warn_free, refuse: settings.data.refuse_free };
    let room = disk::watch(data.to_owned(), reserve, process.health.component("disk"), tasks, shutdown.clone());
    let log = guard(kept.log(), room);
    let keys = vec![signer.public().clone()];

    let mut config = gateway::Config::new(itself("gateway-1", settings), topology, keys.clone());
    config.generation = generation::read(data)?;
    config.origins.others.clone_from(&settings.server.origins);
    config.connections_max = settings.limits.connections_max;
    config.sessions_per_person_max = settings.limits.sessions_per_person_max as usize;
    config.sends_per_second_max = settings.limits.sends_per_second_max;
    config.drain = settings.server.drain;
    let deps = gateway::Deps {
        log: log.clone(),
        timelines: kept.store.clone(),
        memberships: kept.store.clone(),
        clock: process.clock.clone(),
        entropy: process.entropy.clone(),
        tasks: tasks.clone(),
    };
    let gateway = Gateway::new(config, deps)?;

    let mut config = api::Config::new(itself("api-1", settings), topology, keys);
    config.token_seconds = settings.auth.token_lifetime.as_secs();
    config.members_max = settings.limits.channel_members_max as usize;
    let deps = api::Deps {
        log,
        accounts: kept.store.clone(),
        timelines: kept.store.clone(),
        memberships: kept.store.clone(),
        signer,
        clock: process.clock.clone(),
        entropy: process.entropy.clone(),
        tasks: tasks.clone(),
    };
    let api = Api::new(config, deps)?;

    let (held, stopping) = (gateway.clone(), shutdown.clone());
    process.start("gateway", half, async move { held.run(stopping).await });
    let (held, stopping) = (api.clone(), shutdown.clone());
    process.start("api", half, async move { held.run(stopping).await });
    Ok(Front::new(gateway, api, process.health.clone()))
}

impl Process {
    /// Runs a role; if it fails, the process ends.
    fn start<E: Display + Send>(
        &self,
        name: &'static str,
        half: &Half,
        role: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let (ending, failed) = (self.ending.clone(), Arc::clone(&self.failed));
        half.tasks.spawn(async move {
            if let Err(error) = role.await {
                tracing::error!(%error, role = name, "a role failed; the process ends");
                failed.store(true, Ordering::Relaxed);
                ending.begin();
            }
        });
    }
}

fn itself(id: &str, settings: &Settings) -> ProcessConfig {
    ProcessConfig {
        id: id.into(),
        url: String::new(),
        region: String::new(),
        capacity: settings.limits.connections_max,
    }
}

fn bind(settings: &Settings) -> Result<Vec<Listener>> {
    let bind = |address| Listener::bind(address).with_context(|| format!("can't listen on {address}"));
    settings.server.listen.iter().copied().map(bind).collect()
}

async fn ready(front: &Front, health: &Health) {
    loop {
        front.look();
        if health.report().ready {
            return;
        }
        tokio::time::sleep(START_LOOK).await;
    }
}

/// For the person who started it. Standard output has nothing else, so that scripts find the address there.
#[allow(clippy::print_stdout, reason = "this is what a person waits for")]
fn greet(addresses: &[String], data: &std::path::Path) {
    for address in addresses {
        println!("Hubbub is ready at {address}");
    }
    let url = addresses.first().map_or("", String::as_str);
    // As it was started: after `make run` nobody has it on the path.
    let program = std::env::args().next().unwrap_or_else(|| "hubbub".to_owned());
    println!("Its data is in {}. Talk from two other terminals:", data.display());
    for name in ["alice", "bob"] {
        println!("  {program} chat --url {url} --user {name} --sign-up");
    }
}

/// The door closes first; what is in hand gets its outcome; then the rest ends.
async fn drain(settings: &Settings, door: &Half, inner: &Half, kept: &Kept) {
    door.shutdown.begin();
    let cut = door.tasks.finish(settings.server.drain + DOOR_MARGIN).await;
    inner.shutdown.begin();
    let cut = cut + inner.tasks.finish(INNER_DRAIN).await;
    if tokio::time::timeout(INNER_DRAIN, kept.close()).await.is_err() {
        tracing::warn!("log and store did not close in time; the next start recovers them");
    }
    tracing::info!(tasks_cut_off = cut, "ended");
}

/// As far as the operator allows: each connection is a handle.
fn raise_handle_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::warn!(%error, "can't raise the limit of file handles");
    }
}
