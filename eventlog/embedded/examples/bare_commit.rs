//! What a bare group commit costs: the figures behind ADR 1.
//!
//! `cargo run --release -p eventlog-embedded --example bare_commit [DIR]` appends records of 300 bytes in batches, syncs
//! each batch, and prints latency and throughput for an own segment file that grows, one that was written with zeros
//! before, and an SQLite table (WAL, `synchronous=FULL`). Each figure is the median run of three, interleaved.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const RECORD_BYTES: usize = 300;
const RUN: Duration = Duration::from_millis(1_200);
const RUNS: usize = 3;
const SEGMENT_BYTES: u64 = 64 << 20;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Something that makes a batch of records durable.
trait Commit {
    fn commit(&mut self, batch: usize, record: &[u8]) -> Result<()>;
}

/// An own file: length, checksum, record; one write and one fdatasync a batch.
struct Segments {
    dir: PathBuf,
    file: File,
    at: u64,
    number: u32,
    pre_written: bool,
    buffer: Vec<u8>,
}

impl Segments {
    fn new(dir: &Path, pre_written: bool) -> Result<Self> {
        let file = Self::segment(dir, 0, pre_written)?;
        Ok(Self { dir: dir.to_owned(), file, at: 0, number: 0, pre_written, buffer: Vec::new() })
    }

    fn segment(dir: &Path, number: u32, pre_written: bool) -> Result<File> {
        let file =
            OpenOptions::new().create(true).truncate(true).write(true).open(dir.join(format!("{number}.segment")))?;
        if pre_written {
            let zeros = vec![0; 1 << 20];
            for at in (0..SEGMENT_BYTES).step_by(zeros.len()) {
                file.write_all_at(&zeros, at)?;
            }
        }
        file.sync_all()?;
        Ok(file)
    }

    /// Prepares the next segment; a real log does this on another thread ahead of need, so it is not counted.
    fn roll_if_full(&mut self, batch: usize) -> Result<()> {
        if self.at + (batch * (RECORD_BYTES + 8)) as u64 > SEGMENT_BYTES {
            std::fs::remove_file(self.dir.join(format!("{}.segment", self.number)))?;
            self.number += 1;
            self.file = Self::segment(&self.dir, self.number, self.pre_written)?;
            self.at = 0;
        }
        Ok(())
    }
}

impl Commit for Segments {
    fn commit(&mut self, batch: usize, record: &[u8]) -> Result<()> {
        self.buffer.clear();
        for _ in 0..batch {
            self.buffer.extend_from_slice(&(record.len() as u32).to_le_bytes());
            self.buffer.extend_from_slice(&crc32c::crc32c(record).to_le_bytes());
            self.buffer.extend_from_slice(record);
        }
        self.file.write_all_at(&self.buffer, self.at)?;
        self.file.sync_data()?;
        self.at += self.buffer.len() as u64;
        Ok(())
    }
}

/// A table by (partition, offset), one transaction a batch.
struct Sqlite {
    connection: rusqlite::Connection,
    offset: i64,
}

impl Sqlite {
    fn new(dir: &Path) -> Result<Self> {
        let connection = rusqlite::Connection::open(dir.join("log.sqlite"))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch("CREATE TABLE log (partition INTEGER, offset INTEGER, value BLOB, PRIMARY KEY (partition, offset)) WITHOUT ROWID, STRICT;")?;
        Ok(Self { connection, offset: 0 })
    }
}

impl Commit for Sqlite {
    fn commit(&mut self, batch: usize, record: &[u8]) -> Result<()> {
        let transaction = self.connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached("INSERT INTO log VALUES (0, ?1, ?2)")?;
            for _ in 0..batch {
                insert.execute((self.offset, record))?;
                self.offset += 1;
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

/// Latency at two percentiles and throughput of one run.
#[derive(Clone, Copy)]
struct Figures {
    p50: Duration,
    p99: Duration,
    records_per_s: f64,
}

fn measure(mut target: Target, batch: usize) -> Result<Figures> {
    // Not compressible, not all the same sector.
    let record: Vec<u8> = (0..RECORD_BYTES).map(|i| (i * 131 % 251) as u8).collect();
    let mut taken = Vec::new();
    let mut busy = Duration::ZERO;
    while busy < RUN {
        if let Target::Own(segments) = &mut target {
            segments.roll_if_full(batch)?;
        }
        let start = Instant::now();
        match &mut target {
            Target::Own(segments) => segments.commit(batch, &record)?,
            Target::Sqlite(sqlite) => sqlite.commit(batch, &record)?,
        }
        let took = start.elapsed();
        busy += took;
        taken.push(took);
    }
    taken.sort_unstable();
    let at = |percent: usize| taken[(taken.len() - 1) * percent / 100];
    Ok(Figures { p50: at(50), p99: at(99), records_per_s: (taken.len() * batch) as f64 / busy.as_secs_f64() })
}

enum Target {
    Own(Segments),
    Sqlite(Sqlite),
}

fn main() -> Result<()> {
    let parent = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    println!("| log | batch | p50 µs | p99 µs | records/s |\n|---|---:|---:|---:|---:|");
    for batch in [1, 16, 256, 1_024] {
        let mut runs: [Vec<Figures>; 3] = Default::default();
        for _ in 0..RUNS {
            for (which, runs) in runs.iter_mut().enumerate() {
                let dir = tempfile::tempdir_in(&parent)?;
                let target = match which {
                    0 => Target::Own(Segments::new(dir.path(), false)?),
                    1 => Target::Own(Segments::new(dir.path(), true)?),
                    _ => Target::Sqlite(Sqlite::new(dir.path())?),
                };
                runs.push(measure(target, batch)?);
            }
        }
        for (name, runs) in
            ["own segment, growing", "own segment, pre-written", "SQLite WAL, synchronous=FULL"].iter().zip(&mut runs)
        {
            runs.sort_by(|a, b| a.records_per_s.total_cmp(&b.records_per_s));
            let Figures { p50, p99, records_per_s } = runs[RUNS / 2];
            println!("| {name} | {batch} | {} | {} | {records_per_s:.0} |", p50.as_micros(), p99.as_micros());
        }
    }
    Ok(())
}
