//! Which topics there are, and the counters that make every incarnation a new one. Rewritten as a whole, durably.

use crate::disk::Disk;
use crate::files::{self, damaged, disk_error};
use eventlog::{Cleanup, Durability, Error, ErrorKind, Topic, TopicSpec};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Its name in the log's directory.
pub(crate) const FILE: &str = "catalog";
/// The version of everything in the directory.
const FORMAT: &str = "hubbub log 1";

/// The durable topics and the counters.
#[derive(Debug)]
pub(crate) struct Catalog {
    boot: u64,
    last_incarnation: u64,
    topics: BTreeMap<Topic, Entry>,
}

/// A durable topic.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) incarnation: u64,
    pub(crate) spec: TopicSpec,
}

impl Catalog {
    /// Reads it, or begins it, and counts one more start.
    pub(crate) fn open(disk: &dyn Disk, dir: &Path) -> Result<Self, Error> {
        let mut catalog = match files::read(disk, dir, FILE)? {
            Some(bytes) => Self::parse(dir, &bytes)?,
            None => Self { boot: 0, last_incarnation: 0, topics: BTreeMap::new() },
        };
        catalog.boot += 1;
        catalog.save(disk, dir)?;
        Ok(catalog)
    }

    /// How often the log was opened: the incarnation of its in-memory topics.
    pub(crate) fn boot(&self) -> u64 {
        self.boot
    }

    /// The durable topics.
    pub(crate) fn durable(&self) -> Vec<(Topic, Entry)> {
        self.topics.iter().map(|(topic, entry)| (topic.clone(), entry.clone())).collect()
    }

    /// Adds a topic with a new incarnation.
    pub(crate) fn add(&mut self, disk: &dyn Disk, dir: &Path, spec: &TopicSpec) -> Result<Entry, Error> {
        self.last_incarnation += 1;
        let entry = Entry { incarnation: self.last_incarnation, spec: spec.clone() };
        self.topics.insert(spec.topic.clone(), entry.clone());
        self.save(disk, dir)?;
        Ok(entry)
    }

    /// Removes a topic; nothing if it is not there.
    pub(crate) fn remove(&mut self, disk: &dyn Disk, dir: &Path, topic: &Topic) -> Result<(), Error> {
        if self.topics.remove(topic).is_some() { self.save(disk, dir) } else { Ok(()) }
    }

    fn save(&self, disk: &dyn Disk, dir: &Path) -> Result<(), Error> {
        let mut text = format!("{FORMAT}\n{} {}\n", self.boot, self.last_incarnation);
        for entry in self.topics.values() {
            let spec = &entry.spec;
            let cleanup = match spec.cleanup {
                Cleanup::Keep => "keep".to_owned(),
                Cleanup::Compact => "compact".to_owned(),
                Cleanup::Expire { age, bytes_max } => format!("expire:{}:{bytes_max}", age.as_millis()),
            };
            let line = format!(
                "{} {} {} {} {cleanup}\n",
                spec.topic, entry.incarnation, spec.partitions, spec.record_bytes_max
            );
            text.push_str(&line);
        }
        files::write(disk, dir, FILE, text.as_bytes())
            .map_err(|error| disk_error(format!("write the catalog in {}", dir.display()), error))
    }

    fn parse(dir: &Path, bytes: &[u8]) -> Result<Self, Error> {
        let path = dir.join(FILE);
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.lines();
        if lines.next() != Some(FORMAT) {
            let context = format!(
                "{} is of another version of the log's format than `{FORMAT}`: use the program that wrote it",
                path.display()
            );
            return Err(Error::new(ErrorKind::Damaged, context));
        }
        let broken = || damaged(&path, 0, "its lines can't be read");
        let counters: Vec<u64> =
            lines.next().ok_or_else(broken)?.split(' ').filter_map(|word| word.parse().ok()).collect();
        let [boot, last_incarnation] = counters[..] else { return Err(broken()) };
        let mut topics = BTreeMap::new();
        for line in lines {
            let entry = parse_entry(line).ok_or_else(broken)?;
            topics.insert(entry.spec.topic.clone(), entry);
        }
        Ok(Self { boot, last_incarnation, topics })
    }
}

fn parse_entry(line: &str) -> Option<Entry> {
    let mut words = line.split(' ');
    let topic = Topic::new(words.next()?);
    let incarnation = words.next()?.parse().ok()?;
    let partitions = words.next()?.parse().ok()?;
    let record_bytes_max = words.next()?.parse().ok()?;
    let mut cleanup = words.next()?.split(':');
    let cleanup = match (cleanup.next()?, cleanup.next(), cleanup.next()) {
        ("keep", None, None) => Cleanup::Keep,
        ("compact", None, None) => Cleanup::Compact,
        ("expire", Some(age), Some(bytes)) => {
            Cleanup::Expire { age: Duration::from_millis(age.parse().ok()?), bytes_max: bytes.parse().ok()? }
        }
        _ => return None,
    };
    let spec = TopicSpec { topic, partitions, durability: Durability::Synced, cleanup, record_bytes_max };
    Some(Entry { incarnation, spec })
}
