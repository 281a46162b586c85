//! One durable topic on disk: a stream of segments shared by its partitions, so that one sync covers all of them.
//!
//! Single-threaded and synchronous: [`Stream`] belongs to the topic's commit thread, [`View`] is what readers and
//! housekeeping see of it. Nothing enters the view before the sync that covers it.

use crate::disk::{DiskFile, SharedDisk, read_all};
use crate::files::{CHECKPOINT, Checkpoint, damaged, disk_error};
use crate::frame::{self, FrameHeader, Place};
use crate::limits::{
    COMPACT_AFTER_SEGMENTS, FRAME_RECORDS_BYTES_MAX, FRAME_RECORDS_MAX, INDEXES_MAX, READ_BYTES, TOMBSTONE_KEPT,
};
use crate::segment::{self, End, Index, Segment, SegmentHeader, Walk};
use bytes::Bytes;
use eventlog::{AppendTime, Cleanup, Error, LogOffset, Record, StoredRecord};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a stream is made of.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) disk: SharedDisk,
    pub(crate) dir: PathBuf,
    /// The topic's incarnation; in every checksum.
    pub(crate) seed: u64,
    pub(crate) partitions: u32,
    pub(crate) segment_bytes_first: u64,
    pub(crate) segment_bytes_max: u64,
}

/// The end of a segment that was not acknowledged and was dropped at open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The segment file.
    pub file: PathBuf,
    /// Where it was cut.
    pub position: u64,
    /// How many bytes were zeroed.
    pub bytes: u64,
    /// Records in whole frames among them.
    pub records: u64,
}

/// The writing side.
#[derive(Debug)]
pub(crate) struct Stream {
    shape: Shape,
    view: Arc<View>,
    spares: Arc<Spares>,
    file: Box<dyn DiskFile>,
    /// Where the next frame goes, and where the file was pre-written to.
    at: u64,
    capacity: u64,
    sequence: u64,
    time: u64,
    next: Vec<u64>,
    buffer: Vec<u8>,
    /// A write or sync failed: what lies behind `at` is unknown, only a new segment helps.
    broken: bool,
}

/// What a commit did. The frames `..landed` are durable; if not all, the rest has an unknown outcome.
#[derive(Debug)]
pub(crate) struct Committed {
    /// One frame after the other, in the order of the stream.
    pub(crate) frames: Vec<(u32, Arc<[StoredRecord]>)>,
    /// How many of them are durable.
    pub(crate) landed: usize,
    /// For each append: its first offset, and the number of frames that must have landed for it to be durable.
    pub(crate) appends: Vec<(LogOffset, usize)>,
    /// Why not all have landed.
    pub(crate) error: Option<io::Error>,
}

struct Gathering {
    partition: u32,
    bytes: usize,
    records: Vec<StoredRecord>,
}

impl Stream {
    /// Opens or begins a stream: finds the end, drops an unacknowledged tail, refuses damage before it.
    pub(crate) fn open(shape: Shape, keeps_all: bool) -> Result<(Self, Option<TornTail>), Error> {
        let disk = Arc::clone(&shape.disk);
        let failed = |what: &str, error| disk_error(format!("{what} {}", shape.dir.display()), error);
        let (checkpoint, known) =
            Checkpoint::open(&*disk, &shape.dir).map_err(|error| failed("open the checkpoint of", error))?;
        let segments = find_segments(&shape, keeps_all)?;
        let generation = segments.len() as u64;
        let view = Arc::new(View {
            shape: shape.clone(),
            checkpoint,
            generation: AtomicU64::new(generation),
            state: Mutex::new(ViewState {
                segments,
                durable_at: 0,
                durable_sequence: 0,
                active: Index::default(),
                indexes: VecDeque::new(),
            }),
        });
        let spares = Arc::new(Spares { shape: shape.clone(), spare: Mutex::new(None) });
        let last = view.state().segments.last().cloned();
        let Some(last) = last else {
            if known > 0 {
                return Err(damaged(&shape.dir, 0, "its segments are missing"));
            }
            let partitions = shape.partitions as usize;
            let header = SegmentHeader {
                seed: shape.seed,
                first: 0,
                time: 0,
                covers_to: 0,
                bytes: 0,
                next: vec![0; partitions],
            };
            let spare = spares.take(shape.segment_bytes_first).map_err(|error| failed("begin a segment in", error))?;
            let (segment, file) =
                enter(&shape, header, &spare, 0).map_err(|error| failed("begin a segment in", error))?;
            let at = segment.header.header_bytes();
            {
                let mut state = view.state();
                state.segments.push(segment);
                state.durable_at = at;
            }
            let next = vec![0; partitions];
            return Ok((
                Self {
                    shape,
                    view,
                    spares,
                    file,
                    at,
                    capacity: spare.bytes,
                    sequence: 0,
                    time: 0,
                    next,
                    buffer: Vec::new(),
                    broken: false,
                },
                None,
            ));
        };
        let file = disk.open(&last.path).map_err(|error| failed("open a segment in", error))?;
        if last.header.is_compacted() {
            return Err(damaged(&last.path, 0, "the segment after it is missing"));
        }
        let scanned = scan(&*file, &last, known).map_err(|problem| problem.into_error(&last.path))?;
        let torn = scanned.torn.map(|(bytes, records)| TornTail {
            file: last.path.clone(),
            position: scanned.at,
            bytes,
            records,
        });
        if let Some(torn) = &torn {
            zero(&*file, torn.position, torn.bytes).map_err(|error| failed("clear the torn tail in", error))?;
        }
        // What was valid may be in the page cache only: it is durable before anybody sees it.
        file.sync_data().and_then(|()| disk.sync_dir(&shape.dir)).map_err(|error| failed("sync", error))?;
        let capacity = file.len().map_err(|error| failed("measure a segment in", error))?;
        {
            let mut state = view.state();
            state.durable_at = scanned.at;
            state.durable_sequence = scanned.sequence;
            state.active = scanned.index;
        }
        let stream = Self {
            shape,
            view,
            spares,
            file,
            at: scanned.at,
            capacity,
            sequence: scanned.sequence,
            time: scanned.time,
            next: scanned.next,
            buffer: Vec::new(),
            broken: false,
        };
        Ok((stream, torn))
    }

    /// What readers see.
    pub(crate) fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// Who prepares segments.
    pub(crate) fn spares(&self) -> &Arc<Spares> {
        &self.spares
    }

    /// The next offset of a partition.
    pub(crate) fn next_offset(&self, partition: u32) -> u64 {
        self.next[partition as usize]
    }

    /// Whether half of the segment is used, so that the next one should be made.
    pub(crate) fn wants_spare(&self) -> Option<u64> {
        (self.at > self.capacity / 2).then(|| self.bytes_of_next())
    }

    fn bytes_of_next(&self) -> u64 {
        (self.capacity * 4).clamp(self.shape.segment_bytes_first, self.shape.segment_bytes_max)
    }

    /// Makes appends durable: gathers them into frames by partition, writes, syncs, shows them to readers.
    pub(crate) fn commit(&mut self, time: u64, appends: Vec<(u32, Vec<Record>)>) -> Committed {
        let mut gathered: Vec<Gathering> = Vec::new();
        let mut open: HashMap<u32, usize, foldhash::fast::FixedState> = HashMap::default();
        let mut next = self.next.clone();
        let mut outcomes = Vec::with_capacity(appends.len());
        for (partition, records) in appends {
            let next = &mut next[partition as usize];
            let first = LogOffset(*next);
            let mut frames = gathered.len();
            for record in records {
                let bytes = frame::record_bytes(&record);
                let index = match open.get(&partition) {
                    Some(index)
                        if gathered[*index].bytes + bytes <= FRAME_RECORDS_BYTES_MAX
                            && gathered[*index].records.len() < FRAME_RECORDS_MAX =>
                    {
                        *index
                    }
                    _ => {
                        gathered.push(Gathering { partition, bytes: 0, records: Vec::new() });
                        open.insert(partition, gathered.len() - 1);
                        gathered.len() - 1
                    }
                };
                let gathering = &mut gathered[index];
                gathering.bytes += bytes;
                gathering.records.push(StoredRecord { offset: LogOffset(*next), time: AppendTime(time), record });
                *next += 1;
                frames = index + 1;
            }
            outcomes.push((first, frames));
        }
        let mut committed =
            Committed { frames: Vec::with_capacity(gathered.len()), landed: 0, appends: outcomes, error: None };
        committed.error = self.write_frames(time, gathered, &mut committed.frames, &mut committed.landed).err();
        committed
    }

    fn write_frames(
        &mut self,
        time: u64,
        gathered: Vec<Gathering>,
        frames: &mut Vec<(u32, Arc<[StoredRecord]>)>,
        landed: &mut usize,
    ) -> io::Result<()> {
        if self.broken {
            self.roll(0)?;
        }
        self.buffer.clear();
        let mut pending: Vec<FrameHeader> = Vec::new();
        let mut sequence = self.sequence;
        let mut result = Ok(());
        for Gathering { partition, bytes, records } in gathered {
            let length = frame::padded(frame::HEADER_BYTES + bytes);
            if result.is_ok() && self.at + (self.buffer.len() + length) as u64 > self.capacity {
                result = self.flush(time, &pending, frames.len(), landed).and_then(|()| self.roll(length as u64));
                pending.clear();
                sequence = self.sequence;
            }
            if result.is_ok() {
                let base = records[0].offset.0;
                let span = records.len() as u32;
                // Everything in this commit's earlier parts is synced, nothing of this part is.
                let place = Place { partition, sequence, durable: self.sequence, base, time, span };
                frame::encode(&mut self.buffer, self.shape.seed, place, &records);
                let length = (frame::HEADER_BYTES + bytes) as u32;
                pending.push(FrameHeader {
                    length,
                    partition,
                    sequence,
                    durable: self.sequence,
                    base,
                    time,
                    count: span,
                    span,
                });
                sequence += 1;
            }
            frames.push((partition, records.into()));
        }
        result?;
        self.flush(time, &pending, frames.len(), landed)
    }

    /// One write and one sync; then the frames are in the view.
    fn flush(&mut self, time: u64, pending: &[FrameHeader], frames: usize, landed: &mut usize) -> io::Result<()> {
        if pending.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.file.write_at(&self.buffer, self.at).and_then(|()| self.file.sync_data()) {
            // Never sync again and believe it: the kernel may have dropped the pages. What is there is left behind in this
            // segment, and the next one says that it does not count.
            self.broken = true;
            return Err(error);
        }
        let mut at = self.at;
        let mut state = self.view.state();
        for header in pending {
            state.active.note(header, at);
            at += header.padded();
            self.next[header.partition as usize] = header.next();
        }
        self.sequence += pending.len() as u64;
        self.time = self.time.max(time);
        self.at = at;
        state.durable_at = at;
        state.durable_sequence = self.sequence;
        drop(state);
        self.buffer.clear();
        *landed = frames;
        Ok(())
    }

    /// Goes on in a new segment that has room for a frame of so many bytes.
    fn roll(&mut self, frame_bytes: u64) -> io::Result<()> {
        self.broken = true;
        let needed = segment::header_bytes(self.next.len()) + frame_bytes;
        let spare = self.spares.take(self.bytes_of_next().max(needed)).or_else(|error| {
            // A small one is better than none.
            if error.kind() == io::ErrorKind::StorageFull {
                self.spares.take(self.shape.segment_bytes_first.max(needed))
            } else {
                Err(error)
            }
        })?;
        let header = SegmentHeader {
            seed: self.shape.seed,
            first: self.sequence,
            time: self.time,
            covers_to: 0,
            bytes: 0,
            next: self.next.clone(),
        };
        let generation = self.view.generation.fetch_add(1, Ordering::Relaxed);
        let replaces = self.view.state().segments.last().is_some_and(|last| last.header.first == header.first);
        let (segment, file) = enter(&self.shape, header, &spare, generation)?;
        self.file = file;
        self.at = segment.header.header_bytes();
        self.capacity = spare.bytes;
        let mut state = self.view.state();
        if replaces {
            state.segments.pop();
        }
        let sealed = std::mem::take(&mut state.active);
        if let Some(generation) = state.segments.last().map(|segment| segment.generation) {
            state.remember(generation, Arc::new(sealed));
        }
        state.segments.push(segment);
        state.durable_at = self.at;
        drop(state);
        self.broken = false;
        Ok(())
    }

    /// Whether only a new segment helps.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Tries a new segment after a failure.
    pub(crate) fn heal(&mut self) -> io::Result<()> {
        if self.broken { self.roll(0) } else { Ok(()) }
    }
}

/// Gives a prepared file its header and its name. Durable when it returns.
fn enter(
    shape: &Shape,
    header: SegmentHeader,
    spare: &Spare,
    generation: u64,
) -> io::Result<(Segment, Box<dyn DiskFile>)> {
    let path = shape.dir.join(segment::file_name(header.first));
    let file = shape.disk.open(&spare.path)?;
    file.write_at(&header.encode(), 0)?;
    file.sync_data()?;
    shape.disk.rename(&spare.path, &path)?;
    shape.disk.sync_dir(&shape.dir)?;
    Ok((Segment { path, generation, header: Arc::new(header) }, file))
}

fn zero(file: &dyn DiskFile, at: u64, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; READ_BYTES];
    let mut done = 0;
    while done < bytes {
        let part = (bytes - done).min(zeros.len() as u64);
        file.write_at(&zeros[..part as usize], at + done)?;
        done += part;
    }
    Ok(())
}

/// The segments of a topic in order, after finishing what a crash interrupted.
pub(crate) fn find_segments(shape: &Shape, keeps_all: bool) -> Result<Vec<Segment>, Error> {
    let failed = |path: &Path, error| disk_error(format!("open {}", path.display()), error);
    let disk = &shape.disk;
    let mut segments: Vec<Segment> = Vec::new();
    for name in disk.list(&shape.dir).map_err(|error| failed(&shape.dir, error))? {
        let path = shape.dir.join(&name);
        if name.ends_with(".tmp") || name.starts_with(SPARE) {
            disk.remove_file(&path).map_err(|error| failed(&path, error))?;
        } else if let Some(first) = segment::first_of(&name) {
            let file = disk.open(&path).map_err(|error| failed(&path, error))?;
            let header = SegmentHeader::read(&*file, &path)?;
            if header.first != first || header.seed != shape.seed || header.next.len() != shape.partitions as usize {
                return Err(damaged(&path, 0, "the segment is of another topic or place"));
            }
            if segments.last().is_some_and(|last| last.header.covers_to > first) {
                // A crash came between the compacted segment's name and the removal of what it stands for.
                disk.remove_file(&path).map_err(|error| failed(&path, error))?;
                continue;
            }
            segments.push(Segment { path, generation: segments.len() as u64, header: Arc::new(header) });
        }
    }
    if keeps_all && segments.first().is_some_and(|segment| segment.header.first != 0) {
        return Err(damaged(&shape.dir, 0, "the first segments are missing"));
    }
    for pair in segments.windows(2) {
        let (before, after) = (&pair[0].header, &pair[1].header);
        if before.is_compacted() && before.covers_to != after.first {
            return Err(damaged(&pair[1].path, 0, "a segment before it is missing"));
        }
        if before.next.iter().zip(&after.next).any(|(before, after)| before > after) {
            return Err(damaged(&pair[1].path, 0, "its offsets are below those of the segment before"));
        }
    }
    Ok(segments)
}

/// What a scan of the last segment found.
struct Scanned {
    at: u64,
    sequence: u64,
    time: u64,
    next: Vec<u64>,
    index: Index,
    /// Bytes up to the last that is not zero, and the records in whole frames among them.
    torn: Option<(u64, u64)>,
}

enum ScanProblem {
    Disk(io::Error),
    Damaged { at: u64, what: String },
}

impl ScanProblem {
    fn into_error(self, path: &Path) -> Error {
        match self {
            Self::Disk(error) => disk_error(format!("read {}", path.display()), error),
            Self::Damaged { at, what } => damaged(path, at, &what),
        }
    }
}

/// Reads the last segment to its end: the valid frames; then zeros, or a torn tail, or damage. `known`: all sequences below
/// it are durable by the checkpoint.
fn scan(file: &dyn DiskFile, segment: &Segment, known: u64) -> Result<Scanned, ScanProblem> {
    let bytes = read_all(file).map_err(ScanProblem::Disk)?;
    let header = &segment.header;
    let mut found = Scanned {
        at: header.header_bytes(),
        sequence: header.first,
        time: header.time,
        next: header.next.clone(),
        index: Index::default(),
        torn: None,
    };
    while let Some(frame) = bytes.get(found.at as usize..).and_then(|bytes| frame::check(bytes, header.seed)) {
        let Some(next) = found.next.get_mut(frame.partition as usize) else { break };
        if frame.sequence != found.sequence || frame.base != *next {
            break;
        }
        *next = frame.next();
        found.index.note(&frame, found.at);
        found.sequence += 1;
        found.time = found.time.max(frame.time);
        found.at += frame.padded();
    }
    let rest = bytes.get(found.at as usize..).unwrap_or_default();
    let used = rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let (mut durable, mut records) = (known, 0);
    for at in (0..used).step_by(frame::ALIGN) {
        if let Some(later) = frame::check(&rest[at..], header.seed) {
            durable = durable.max(later.durable);
            records += u64::from(later.count);
        }
    }
    if durable > found.sequence {
        let what = format!("frames {} to {} were durable and are not intact", found.sequence, durable - 1);
        return Err(ScanProblem::Damaged { at: found.at, what });
    }
    found.torn = (used > 0).then_some((used as u64, records));
    Ok(found)
}

/// Cuts the last segment where it is damaged: the bytes from there on are saved beside it and zeroed, and the checkpoint no
/// longer speaks of them. `None`: nothing is damaged there.
pub(crate) fn cut_damage(shape: &Shape, keeps_all: bool) -> Result<Option<Cut>, Error> {
    let failed = |path: &Path, error| disk_error(format!("repair {}", path.display()), error);
    let disk = &*shape.disk;
    let (_, known) = Checkpoint::open(disk, &shape.dir).map_err(|error| failed(&shape.dir, error))?;
    let Some(last) = find_segments(shape, keeps_all)?.pop() else { return Ok(None) };
    let file = disk.open(&last.path).map_err(|error| failed(&last.path, error))?;
    let at = match scan(&*file, &last, known) {
        Ok(_) => return Ok(None),
        Err(ScanProblem::Damaged { at, .. }) => at,
        Err(problem) => return Err(problem.into_error(&last.path)),
    };
    let cut = read_all(&*file).map_err(|error| failed(&last.path, error))?.split_off(at as usize);
    let used = cut.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let saved = last.path.with_extension(format!("cut-at-{at}"));
    let aside = disk.create(&saved).map_err(|error| failed(&saved, error))?;
    // Safe aside first, only then taken away.
    let kept =
        aside.write_at(&cut[..used], 0).and_then(|()| aside.sync_data()).and_then(|()| disk.sync_dir(&shape.dir));
    kept.map_err(|error| failed(&saved, error))?;
    let taken = zero(&*file, at, used as u64).and_then(|()| file.sync_data());
    taken.map_err(|error| failed(&last.path, error))?;
    let checkpoint = shape.dir.join(CHECKPOINT);
    disk.remove_file(&checkpoint)
        .and_then(|()| disk.sync_dir(&shape.dir))
        .map_err(|error| failed(&checkpoint, error))?;
    Ok(Some(Cut { file: last.path, position: at, bytes: used as u64, saved }))
}

/// What a repair took out of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The segment file.
    pub file: PathBuf,
    /// Where it was cut.
    pub position: u64,
    /// How many bytes were taken out: the damage and all behind it.
    pub bytes: u64,
    /// Where they are now.
    pub saved: PathBuf,
}

/// What readers and housekeeping see of a stream.
#[derive(Debug)]
pub(crate) struct View {
    shape: Shape,
    checkpoint: Checkpoint,
    generation: AtomicU64,
    state: Mutex<ViewState>,
}

#[derive(Debug)]
struct ViewState {
    /// In order; the last is written to.
    segments: Vec<Segment>,
    /// Where the durable part of the last segment ends.
    durable_at: u64,
    durable_sequence: u64,
    active: Index,
    indexes: VecDeque<(u64, Arc<Index>)>,
}

impl ViewState {
    fn remember(&mut self, generation: u64, index: Arc<Index>) {
        self.indexes.push_back((generation, index));
        if self.indexes.len() > INDEXES_MAX {
            self.indexes.pop_front();
        }
    }

    fn end_of(&self, index: usize) -> End {
        match self.segments.get(index + 1) {
            Some(next) => End { at: u64::MAX, sequence: next.header.first },
            None => End { at: self.durable_at, sequence: u64::MAX },
        }
    }
}

/// Where a reader is in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DiskPlace {
    generation: u64,
    at: u64,
    sequence: u64,
}

/// What a read from disk found.
#[derive(Debug)]
pub(crate) struct Found {
    /// Records of the partition from the offset on; may be empty if there was much else to pass.
    pub(crate) records: Vec<StoredRecord>,
    /// Where to go on.
    pub(crate) place: Option<DiskPlace>,
}

impl View {
    fn state(&self) -> MutexGuard<'_, ViewState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first offsets kept.
    pub(crate) fn starts(&self) -> Vec<u64> {
        self.state().segments.first().map(|segment| segment.header.next.clone()).unwrap_or_default()
    }

    /// Notes how far the stream is durable.
    pub(crate) fn checkpoint(&self, sync: bool) -> io::Result<()> {
        let sequence = self.state().durable_sequence;
        self.checkpoint.note(sequence, sync)
    }

    /// The segment files with the bytes of each that are durable.
    pub(crate) fn durable_files(&self) -> Vec<(PathBuf, u64)> {
        let state = self.state();
        let last = state.segments.len().saturating_sub(1);
        let bytes = |index: usize| if index == last { state.durable_at } else { u64::MAX };
        state.segments.iter().enumerate().map(|(index, segment)| (segment.path.clone(), bytes(index))).collect()
    }

    /// Reads records of a partition from `offset` on and below `below`, going on at `place` if that is where it is.
    pub(crate) fn read(
        &self,
        partition: u32,
        offset: u64,
        below: u64,
        place: Option<DiskPlace>,
    ) -> Result<Found, Error> {
        let mut found = Found { records: Vec::new(), place };
        let (mut bytes, mut passed_bytes) = (0, 0);
        while offset + (found.records.len() as u64) < below
            && bytes < READ_BYTES
            && passed_bytes < self.shape.segment_bytes_max
        {
            let from = found.records.last().map_or(offset, |last| last.offset.0 + 1);
            if from >= below {
                break;
            }
            let Some((mut walk, generation)) = self.walk_to(partition, from, found.place)? else {
                // Its segment has gone between two looks: look again, from the offset.
                found.place = None;
                continue;
            };
            while bytes < READ_BYTES && passed_bytes < self.shape.segment_bytes_max {
                let Some(passed) = walk.next()? else { break };
                passed_bytes += passed.header.padded();
                if passed.header.partition != partition || passed.header.next() <= from {
                    continue;
                }
                for record in walk.records(&passed)? {
                    if record.offset.0 >= from && record.offset.0 < below {
                        bytes += record.record.size_bytes();
                        found.records.push(record);
                    }
                }
                if passed.header.next() >= below {
                    break;
                }
            }
            let (at, sequence) = walk.position();
            found.place = Some(DiskPlace { generation, at, sequence });
            let reached = found.records.last().is_some_and(|last| last.offset.0 + 1 >= below);
            if !reached && walk.next()?.is_none() && !self.step(&mut found.place) {
                break;
            }
        }
        Ok(found)
    }

    /// Moves a place at the end of its segment to the start of the next one; false if there is none.
    fn step(&self, place: &mut Option<DiskPlace>) -> bool {
        let state = self.state();
        let index =
            place.and_then(|place| state.segments.iter().position(|segment| segment.generation == place.generation));
        let Some(next) = index.and_then(|index| state.segments.get(index + 1)) else {
            // The end, or a segment that compaction has replaced meanwhile.
            let known = index.is_some();
            *place = place.filter(|_| known);
            return !known;
        };
        *place = Some(DiskPlace {
            generation: next.generation,
            at: next.header.header_bytes(),
            sequence: next.header.first,
        });
        true
    }

    /// A walk that begins at or before an offset; `None` if the file went meanwhile.
    fn walk_to(&self, partition: u32, offset: u64, place: Option<DiskPlace>) -> Result<Option<(Walk, u64)>, Error> {
        let state = self.state();
        let index =
            place.and_then(|place| state.segments.iter().position(|segment| segment.generation == place.generation));
        let (index, from) = if let (Some(index), Some(place)) = (index, place) {
            (index, Some((place.at, place.sequence)))
        } else {
            let after = state.segments.partition_point(|segment| segment.header.next[partition as usize] <= offset);
            (after.saturating_sub(1), None)
        };
        let (segment, end) = (state.segments[index].clone(), state.end_of(index));
        let from = match from {
            Some(from) => Some(from),
            None if index + 1 == state.segments.len() => state.active.seek(partition, offset),
            None => {
                let known = state
                    .indexes
                    .iter()
                    .find(|(generation, _)| *generation == segment.generation)
                    .map(|(_, index)| Arc::clone(index));
                drop(state);
                let index = match known {
                    Some(index) => index,
                    None => match self.make_index(&segment, end)? {
                        Some(index) => index,
                        None => return Ok(None),
                    },
                };
                index.seek(partition, offset)
            }
        };
        match Walk::new(&*self.shape.disk, &segment, from, end) {
            Ok(walk) => Ok(Some((walk, segment.generation))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(disk_error(format!("open {}", segment.path.display()), error)),
        }
    }

    fn make_index(&self, segment: &Segment, end: End) -> Result<Option<Arc<Index>>, Error> {
        let mut walk = match Walk::new(&*self.shape.disk, segment, None, end) {
            Ok(walk) => walk,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(disk_error(format!("open {}", segment.path.display()), error)),
        };
        let mut index = Index::default();
        while let Some(passed) = walk.next()? {
            index.note(&passed.header, passed.at);
        }
        let index = Arc::new(index);
        self.state().remember(segment.generation, Arc::clone(&index));
        Ok(Some(index))
    }

    /// The first offset of a partition at or after a time; `None` if there is none on disk.
    pub(crate) fn offset_at(&self, partition: u32, time: u64) -> Result<Option<u64>, Error> {
        let segments: Vec<(Segment, End)> = {
            let state = self.state();
            // A segment can hold the time if the next one begins at or after it; from there on all are looked at.
            let first = state.segments.partition_point(|segment| segment.header.time < time).saturating_sub(1);
            (first..state.segments.len()).map(|index| (state.segments[index].clone(), state.end_of(index))).collect()
        };
        for (segment, end) in segments {
            let mut walk = match Walk::new(&*self.shape.disk, &segment, None, end) {
                Ok(walk) => walk,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(disk_error(format!("open {}", segment.path.display()), error)),
            };
            while let Some(passed) = walk.next()? {
                if passed.header.partition == partition && passed.header.time >= time {
                    return Ok(Some(passed.header.base));
                }
            }
        }
        Ok(None)
    }

    /// Removes whole segments whose last record is older than `before` (ms). True if any went.
    pub(crate) fn expire(&self, before: u64) -> io::Result<bool> {
        let gone: Vec<Segment> = {
            let mut state = self.state();
            let count = state.segments.windows(2).take_while(|pair| pair[1].header.time < before).count();
            state.segments.drain(..count).collect()
        };
        for segment in &gone {
            self.shape.disk.remove_file(&segment.path)?;
        }
        if !gone.is_empty() {
            self.shape.disk.sync_dir(&self.shape.dir)?;
        }
        Ok(!gone.is_empty())
    }

    /// Writes the sealed segments anew with only the newest record of each key, if enough of them have gathered.
    /// Tombstones go when they are a day older than `now`.
    pub(crate) fn compact(&self, now: u64, at_once: bool) -> Result<bool, Error> {
        let (sealed, active): (Vec<(Segment, End)>, (Segment, End)) = {
            let state = self.state();
            let all: Vec<_> =
                (0..state.segments.len()).map(|index| (state.segments[index].clone(), state.end_of(index))).collect();
            let Some((active, sealed)) = all.split_last() else { return Ok(false) };
            (sealed.to_vec(), active.clone())
        };
        let fresh = sealed.iter().filter(|(segment, _)| !segment.header.is_compacted()).count();
        if fresh == 0 || (fresh < COMPACT_AFTER_SEGMENTS && !at_once) {
            return Ok(false);
        }
        let disk = &*self.shape.disk;
        let failed = |error| disk_error(format!("compact {}", self.shape.dir.display()), error);
        let mut newest: HashMap<(u32, Bytes), u64, foldhash::fast::FixedState> = HashMap::default();
        let mut last: HashMap<u32, u64, foldhash::fast::FixedState> = HashMap::default();
        for (segment, end) in sealed.iter().chain([&active]) {
            let mut walk = Walk::new(disk, segment, None, *end).map_err(failed)?;
            while let Some(passed) = walk.next()? {
                for record in walk.records(&passed)? {
                    // A copy of the key alone: a slice would keep the whole frame.
                    newest
                        .insert((passed.header.partition, Bytes::copy_from_slice(&record.record.key)), record.offset.0);
                }
                last.insert(passed.header.partition, passed.header.sequence);
            }
        }
        let first = &sealed[0].0.header;
        let mut header =
            SegmentHeader { covers_to: active.0.header.first, bytes: u64::MAX, ..SegmentHeader::clone(first) };
        let temporary = self.shape.dir.join("compact.tmp");
        let file = disk.create(&temporary).map_err(failed)?;
        let mut at = header.header_bytes();
        let mut buffer = Vec::new();
        for (segment, end) in &sealed {
            let mut walk = Walk::new(disk, segment, None, *end).map_err(failed)?;
            while let Some(passed) = walk.next()? {
                let header = passed.header;
                let ended = header.time + (TOMBSTONE_KEPT.as_millis() as u64) < now;
                let mut records = walk.records(&passed)?;
                records.retain(|record| {
                    let key = (header.partition, record.record.key.clone());
                    newest.get(&key) == Some(&record.offset.0) && !(ended && record.record.value.is_none())
                });
                if records.is_empty() {
                    continue;
                }
                let place = Place {
                    partition: header.partition,
                    sequence: header.sequence,
                    durable: header.sequence,
                    base: header.base,
                    time: header.time,
                    span: header.span,
                };
                frame::encode(&mut buffer, self.shape.seed, place, &records);
                if buffer.len() >= READ_BYTES {
                    file.write_at(&buffer, at).map_err(failed)?;
                    at += buffer.len() as u64;
                    buffer.clear();
                }
            }
        }
        file.write_at(&buffer, at).map_err(failed)?;
        header.bytes = at + buffer.len() as u64;
        file.write_at(&header.encode(), 0).and_then(|()| file.sync_data()).map_err(failed)?;
        let path = self.shape.dir.join(segment::file_name(header.first));
        disk.rename(&temporary, &path).and_then(|()| disk.sync_dir(&self.shape.dir)).map_err(failed)?;
        let generation = self.generation.fetch_add(1, Ordering::Relaxed);
        self.state().segments.splice(..sealed.len(), [Segment { path, generation, header: Arc::new(header) }]);
        for (segment, _) in &sealed[1..] {
            disk.remove_file(&segment.path).map_err(failed)?;
        }
        Ok(true)
    }
}

/// The name of a prepared file before it is a segment.
const SPARE: &str = "spare";

/// Prepares segments ahead of need: writes zeros, so that a commit changes blocks and no metadata.
#[derive(Debug)]
pub(crate) struct Spares {
    shape: Shape,
    spare: Mutex<Option<Spare>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Spare {
    path: PathBuf,
    bytes: u64,
}

impl Spares {
    /// Makes one if there is none. Holds up a commit that needs it meanwhile, which could not go on anyway.
    pub(crate) fn prepare(&self, bytes: u64) -> io::Result<()> {
        let mut slot = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.is_none() {
            *slot = Some(self.make(bytes)?);
        }
        Ok(())
    }

    /// Takes one of at least so many bytes, making it if need be.
    fn take(&self, bytes: u64) -> io::Result<Spare> {
        let mut slot = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        match slot.take() {
            Some(spare) if spare.bytes >= bytes => Ok(spare),
            // `make` writes over a smaller one.
            _ => self.make(bytes),
        }
    }

    fn make(&self, bytes: u64) -> io::Result<Spare> {
        let path = self.shape.dir.join(SPARE);
        let file = self.shape.disk.create(&path)?;
        let made = zero(&*file, 0, bytes).and_then(|()| file.sync_data());
        if let Err(error) = made {
            // Gives the room back, so that what is running can go on with it.
            let _ = self.shape.disk.remove_file(&path);
            return Err(error);
        }
        Ok(Spare { path, bytes })
    }
}

/// Whether a cleanup removes segments from the front.
pub(crate) fn keeps_all(cleanup: Cleanup) -> bool {
    !matches!(cleanup, Cleanup::Expire { .. })
}
