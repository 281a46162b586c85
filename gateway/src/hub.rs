//! Who is connected here: person → links, connection → link. Shared by all tasks of the gateway.

use crate::gateway::{Config, Deps};
use crate::limits::{OPENINGS_MAX, STORE_READS_MAX};
use crate::link::Link;
use domain::UserId;
use eventlog::Record;
use foldhash::fast::FixedState;
use runtime::access_tokens::Verifier;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use timeline::{Commands, Process};
use tokio::sync::Semaphore;

/// How many locks the maps are spread over.
const SHARDS: usize = 64;

type Shard<K, V> = Mutex<HashMap<K, V, FixedState>>;

/// The shared state of the gateway.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) config: Config,
    pub(crate) deps: Deps,
    pub(crate) verifier: Verifier,
    pub(crate) commands: Commands,
    /// Set when the gateway is routable.
    pub(crate) process: OnceLock<Arc<Process>>,
    /// Seconds since the start, as the sweeper counts them; from 1, since 0 means never.
    pub(crate) tick: AtomicU32,
    pub(crate) draining: AtomicBool,
    /// The process ends without saying anything to anybody, as in a crash.
    pub(crate) crashed: AtomicBool,
    pub(crate) openings: Semaphore,
    pub(crate) store_reads: Semaphore,
    /// Tombstones of sessions that the log did not take at once.
    pub(crate) unwritten: Mutex<Vec<Record>>,
    connections: AtomicU32,
    next_connection: AtomicU64,
    users: Vec<Shard<UserId, SmallVec<[Arc<Link>; 1]>>>,
    links: Vec<Shard<u64, Arc<Link>>>,
}

impl Hub {
    pub(crate) fn new(config: Config, deps: Deps, verifier: Verifier) -> Self {
        let commands = Commands::new(deps.log.clone(), config.topology);
        Self {
            config,
            deps,
            verifier,
            commands,
            process: OnceLock::new(),
            tick: AtomicU32::new(1),
            draining: AtomicBool::new(false),
            crashed: AtomicBool::new(false),
            openings: Semaphore::new(OPENINGS_MAX),
            store_reads: Semaphore::new(STORE_READS_MAX),
            unwritten: Mutex::default(),
            connections: AtomicU32::new(0),
            next_connection: AtomicU64::new(1),
            users: (0..SHARDS).map(|_| Shard::default()).collect(),
            links: (0..SHARDS).map(|_| Shard::default()).collect(),
        }
    }

    /// The process, once routable. Connections exist only after that.
    pub(crate) fn process(&self) -> &Arc<Process> {
        self.process.get().expect("connections are accepted only when the process is routable")
    }

    /// Becomes routable. Connections of this epoch never share a number with those of an earlier one.
    pub(crate) fn routable_as(&self, process: Arc<Process>) {
        self.next_connection.store((process.epoch() << 32) + 1, Ordering::Relaxed);
        // Run twice: the first process stays.
        let _ = self.process.set(process);
    }

    /// Takes a place for a connection, if there is one.
    pub(crate) fn admit(&self) -> Option<Arc<Link>> {
        let most = self.config.connections_max;
        let taken = self
            .connections
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| (count < most).then_some(count + 1));
        let count = taken.ok()? + 1;
        self.process().set_connections(count);
        metrics::gauge!("hubbub_gateway_connections").set(f64::from(count));
        let link = Arc::new(Link::new(
            self.next_connection.fetch_add(1, Ordering::Relaxed),
            self.tick.load(Ordering::Relaxed),
        ));
        lock(self.shard_of_link(link.connection)).insert(link.connection, Arc::clone(&link));
        Some(link)
    }

    /// Gives the place back and forgets the connection.
    pub(crate) fn leave(&self, link: &Arc<Link>) {
        lock(self.shard_of_link(link.connection)).remove(&link.connection);
        if let Some(user) = link.user.get() {
            let mut shard = lock(self.shard_of_user(*user));
            if let Some(links) = shard.get_mut(user) {
                links.retain(|other| other.connection != link.connection);
                if links.is_empty() {
                    shard.remove(user);
                }
            }
        }
        let count = self.connections.fetch_sub(1, Ordering::AcqRel) - 1;
        self.process().set_connections(count);
        metrics::gauge!("hubbub_gateway_connections").set(f64::from(count));
    }

    /// From now on the connection gets what is delivered to this person. `false`: the person has too many.
    pub(crate) fn register(&self, link: &Arc<Link>, user: UserId) -> bool {
        let mut shard = lock(self.shard_of_user(user));
        let links = shard.entry(user).or_default();
        if links.len() >= self.config.sessions_per_person_max {
            return false;
        }
        link.user.set(user).expect("a connection says hello once");
        links.push(Arc::clone(link));
        true
    }

    /// Every connection of a person.
    pub(crate) fn with_links_of(&self, user: UserId, mut each: impl FnMut(&Arc<Link>)) {
        if let Some(links) = lock(self.shard_of_user(user)).get(&user) {
            links.iter().for_each(&mut each);
        }
    }

    /// A connection by number.
    pub(crate) fn link(&self, connection: u64) -> Option<Arc<Link>> {
        lock(self.shard_of_link(connection)).get(&connection).cloned()
    }

    /// Every connection, a part at a time, so that nobody waits long.
    pub(crate) fn for_each_link(&self, mut each: impl FnMut(&Arc<Link>)) {
        for shard in &self.links {
            let mut links: Vec<_> = lock(shard).values().cloned().collect();
            // The map's order is of no meaning; the order of connections is the same in every run of a simulation.
            links.sort_unstable_by_key(|link| link.connection);
            links.iter().for_each(&mut each);
        }
    }

    /// How many there are.
    pub(crate) fn connections(&self) -> u32 {
        self.connections.load(Ordering::Acquire)
    }

    fn shard_of_user(&self, user: UserId) -> &Shard<UserId, SmallVec<[Arc<Link>; 1]>> {
        &self.users[usize::from(user.as_bytes()[15]) % SHARDS]
    }

    fn shard_of_link(&self, connection: u64) -> &Shard<u64, Arc<Link>> {
        &self.links[connection as usize % SHARDS]
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic in these short sections leaves a map that is still a map.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
