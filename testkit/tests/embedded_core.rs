//! The sequencer and the writer over the embedded log and store, with crashes and restarts on the same directory.

#![allow(clippy::unwrap_used, reason = "test code: a panic is a finding")]

use domain::command::{ChannelKind, HistoryVisibility};
use domain::decide::DecideLimits;
use domain::{ChannelId, ClientMsgId, Command, CommandBody, EventKind, UserId};
use eventlog::SharedLog;
use eventlog_embedded::EmbeddedLog;
use runtime::health::Health;
use runtime::{Clock, Entropy, SharedEntropy, Shutdown, SystemClock, Tasks};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use store::SharedStore;
use store_embedded::EmbeddedStore;
use testkit::truth::Truth;
use timeline::{Commands, Topology};

const TOPOLOGY: Topology = Topology { partitions: 4 };
const CHANNELS: u8 = 10;
const POSTS: usize = 1_000;

/// One process without sockets.
struct Process {
    log: SharedLog,
    store: SharedStore,
    tasks: Tasks,
}

impl Process {
    async fn start(dir: &Path, entropy: &SharedEntropy) -> Self {
        let (log, _) =
            EmbeddedLog::open(&dir.join("log"), eventlog_embedded::Options::new(Arc::new(SystemClock))).unwrap();
        let log: SharedLog = Arc::new(log);
        timeline::topics::create_all(&log, TOPOLOGY).await.unwrap();
        let store = Arc::new(EmbeddedStore::open(dir.join("store"), &store_embedded::Options::default()).unwrap());
        let tasks = Tasks::new();
        let health = Health::new();
        let sequencer = sequencer::run(
            sequencer::Config { owner: "one".into(), topology: TOPOLOGY, decide: DecideLimits::default() },
            sequencer::Deps {
                log: Arc::clone(&log),
                projections: store.clone(),
                reads: store.clone(),
                entropy: Arc::clone(entropy),
                tasks: tasks.clone(),
                health: health.clone(),
            },
            Shutdown::new(),
        );
        let writer = writer::run(
            writer::Config::default(),
            writer::Deps {
                log: Arc::clone(&log),
                projections: store.clone(),
                entropy: Arc::clone(entropy),
                tasks: tasks.clone(),
                health,
            },
            Shutdown::new(),
        );
        tasks.spawn(async move { sequencer.await.unwrap() });
        tasks.spawn(async move { writer.await.unwrap() });
        Self { log, store, tasks }
    }

    async fn crash(self) {
        self.tasks.cut_off();
        self.tasks.finish(Duration::from_secs(5)).await;
    }

    /// Whose messages the log holds, and how often.
    async fn posted(&self) -> BTreeMap<ClientMsgId, usize> {
        let truth = Truth::read(&self.log, TOPOLOGY).await.unwrap();
        assert_eq!(truth.problems, Vec::<String>::new());
        let mut posted = BTreeMap::new();
        for event in truth.channels.values().flat_map(|channel| channel.events.iter()) {
            if matches!(event.kind, EventKind::MessagePosted { .. }) {
                *posted.entry(event.client_msg_id).or_default() += 1;
            }
        }
        posted
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_crashes_on_the_same_directory_every_message_is_there_once_and_the_store_is_the_fold() {
    let dir = tempfile::tempdir().unwrap();
    let entropy = Entropy::from_seed(1);
    let user = UserId::from_bytes([7; 16]);
    let id = || ClientMsgId(entropy.uuid_v7(SystemClock.now_ms()));
    let command = |channel, id, body| Command { channel, sender: user, id, retry: false, reply: None, body };
    let mut outbox = Vec::new();
    let mut channels = Vec::new();
    for _ in 0..CHANNELS {
        let id = id();
        let channel = ChannelId::group(user, id);
        channels.push(channel);
        let (kind, history) = (ChannelKind::Group, HistoryVisibility::FromJoining);
        let body = CommandBody::CreateChannel { kind, title: "".into(), members: vec![user], history, open: false };
        outbox.push(command(channel, id, body));
    }
    for i in 0..POSTS {
        outbox.push(command(channels[i % channels.len()], id(), CommandBody::Post { text: i.to_string().into() }));
    }

    for round in 0..4 {
        let process = Process::start(dir.path(), &entropy).await;
        let commands = Commands::new(Arc::clone(&process.log), TOPOLOGY);
        // The outbox of a client that heard nothing: all again, flagged, under the same ids.
        for command in &outbox {
            commands.send(&Command { retry: round > 0, ..command.clone() }).unwrap();
            if entropy.below(200) == 0 {
                tokio::task::yield_now().await;
            }
        }
        let enough = [1, POSTS / 3, POSTS, POSTS][round];
        while process.posted().await.len() < enough {
            tokio::task::yield_now().await;
        }
        if round == 3 {
            assert!(process.posted().await.values().all(|times| *times == 1), "every message once");
            let truth = Truth::read(&process.log, TOPOLOGY).await.unwrap();
            while truth.writer_lag(&process.store).await.unwrap() > 0 {
                tokio::task::yield_now().await;
            }
            let truth = Truth::read(&process.log, TOPOLOGY).await.unwrap();
            assert_eq!(truth.compare(&process.store).await.unwrap(), Vec::<String>::new());
            let heads = process.store.heads(&channels).await.unwrap();
            assert!(heads.iter().all(|head| head.as_ref().is_some_and(|head| head.ordinal.0 == 100)), "{heads:?}");
        }
        process.crash().await;
    }
}
