//! Segment files: the header that makes each one stand alone, and walking over the frames of one (`FORMAT.md`).

use crate::disk::{Disk, DiskFile};
use crate::files::{damaged, disk_error};
use crate::frame::{self, FrameHeader};
use crate::limits::{INDEX_EVERY_BYTES, PARTITIONS_MAX, READ_BYTES};
use bytes::Bytes;
use eventlog::Error;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAGIC: u32 = u32::from_le_bytes(*b"HbS1");
const VERSION: u32 = 1;
const BLOCK_BYTES: usize = 4_096;
const FIXED_BYTES: usize = 64;

/// What is known of a segment without reading its frames.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    /// The file.
    pub(crate) path: PathBuf,
    /// Tells a compacted segment from the one whose name it took.
    pub(crate) generation: u64,
    /// Its header.
    pub(crate) header: Arc<SegmentHeader>,
}

/// The start of a segment file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// Ties it to its topic (the incarnation).
    pub(crate) seed: u64,
    /// The sequence of its first frame. Whatever an earlier segment holds from here on was never acknowledged.
    pub(crate) first: u64,
    /// The highest append time before it.
    pub(crate) time: u64,
    /// Of a compacted segment: the sequence after those it stands for. Else 0.
    pub(crate) covers_to: u64,
    /// Of a compacted segment: bytes of the file. Else 0.
    pub(crate) bytes: u64,
    /// The next offset of every partition at its start.
    pub(crate) next: Vec<u64>,
}

impl SegmentHeader {
    /// Bytes before the first frame.
    pub(crate) fn header_bytes(&self) -> u64 {
        header_bytes(self.next.len())
    }

    /// Whether compaction wrote it.
    pub(crate) fn is_compacted(&self) -> bool {
        self.covers_to != 0
    }

    /// As it stands in the file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.header_bytes() as usize);
        out.extend_from_slice(&MAGIC.to_le_bytes());
        out.extend_from_slice(&(self.header_bytes() as u32).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&VERSION.to_le_bytes());
        for number in [self.seed, self.first, self.time, self.covers_to, self.bytes, self.next.len() as u64] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for next in &self.next {
            out.extend_from_slice(&next.to_le_bytes());
        }
        out.resize(self.header_bytes() as usize, 0);
        let checksum = crc32c::crc32c(&out[12..]);
        out[8..12].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut cursor = frame::Cursor { bytes, at: 0 };
        let (magic, length, checksum, version) = (cursor.u32()?, cursor.u32()?, cursor.u32()?, cursor.u32()?);
        if magic != MAGIC
            || version != VERSION
            || length as usize != bytes.len()
            || checksum != crc32c::crc32c(bytes.get(12..)?)
        {
            return None;
        }
        let (seed, first, time, covers_to, bytes) =
            (cursor.u64()?, cursor.u64()?, cursor.u64()?, cursor.u64()?, cursor.u64()?);
        let partitions = cursor.u64()?;
        if partitions == 0
            || partitions > u64::from(PARTITIONS_MAX)
            || header_bytes(partitions as usize) != u64::from(length)
        {
            return None;
        }
        let next = (0..partitions).map(|_| cursor.u64()).collect::<Option<Vec<u64>>>()?;
        Some(Self { seed, first, time, covers_to, bytes, next })
    }

    /// Reads it; damage is an error, for it is synced before the file has its name.
    pub(crate) fn read(file: &dyn DiskFile, path: &Path) -> Result<Self, Error> {
        let failed = |error| disk_error(format!("read {}", path.display()), error);
        let mut start = [0; 8];
        file.read_at(&mut start, 0).map_err(failed)?;
        let length = u32::from_le_bytes([start[4], start[5], start[6], start[7]]) as usize;
        if !(BLOCK_BYTES..=header_bytes(PARTITIONS_MAX as usize) as usize).contains(&length) {
            return Err(damaged(path, 0, "this is no segment header of this version"));
        }
        let mut bytes = vec![0; length];
        let read = file.read_at(&mut bytes, 0).map_err(failed)?;
        Self::decode(&bytes[..read]).ok_or_else(|| damaged(path, 0, "the segment header is not intact"))
    }
}

/// Bytes before the first frame.
pub(crate) const fn header_bytes(partitions: usize) -> u64 {
    (FIXED_BYTES + partitions * 8).next_multiple_of(BLOCK_BYTES) as u64
}

/// The name of the segment that starts with a sequence.
pub(crate) fn file_name(first: u64) -> String {
    format!("{first:020}.seg")
}

/// The first sequence by the name.
pub(crate) fn first_of(name: &str) -> Option<u64> {
    name.strip_suffix(".seg").filter(|digits| digits.len() == 20)?.parse().ok()
}

/// Where a walk over frames ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    /// At this byte ...
    pub(crate) at: u64,
    /// ... or before this sequence.
    pub(crate) sequence: u64,
}

/// A walk over the frames of one segment that are known to be durable. Bodies of frames that are passed over are not read
/// twice and their checksums not computed; a broken chain of sequences is damage all the same.
#[derive(Debug)]
pub(crate) struct Walk {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    compacted: bool,
    seed: u64,
    end: End,
    at: u64,
    expected: u64,
    chunk: Vec<u8>,
    chunk_at: u64,
}

/// A frame passed by a walk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passed {
    pub(crate) header: FrameHeader,
    pub(crate) at: u64,
}

impl Walk {
    /// From the frame with sequence `expected` at byte `at`, or, if that is `None`, from the first.
    pub(crate) fn new(disk: &dyn Disk, segment: &Segment, from: Option<(u64, u64)>, end: End) -> io::Result<Self> {
        let file = disk.open(&segment.path)?;
        let header = &segment.header;
        let end = if header.is_compacted() { End { at: header.bytes, sequence: u64::MAX } } else { end };
        let (at, expected) = from.unwrap_or((header.header_bytes(), header.first));
        Ok(Self {
            path: segment.path.clone(),
            file,
            compacted: header.is_compacted(),
            seed: header.seed,
            end,
            at,
            expected,
            chunk: Vec::new(),
            chunk_at: 0,
        })
    }

    /// Where the next frame is and its sequence (of a compacted segment: at least this).
    pub(crate) fn position(&self) -> (u64, u64) {
        (self.at, self.expected)
    }

    /// The next frame's header.
    pub(crate) fn next(&mut self) -> Result<Option<Passed>, Error> {
        if self.at >= self.end.at || self.expected >= self.end.sequence {
            return Ok(None);
        }
        let at = self.at;
        let bytes = self.bytes(at, frame::HEADER_BYTES)?;
        let header = FrameHeader::parse(bytes).ok_or_else(|| damaged(&self.path, at, "there should be a frame"))?;
        if header.sequence < self.expected || (!self.compacted && header.sequence != self.expected) {
            return Err(damaged(&self.path, at, "there should be another frame"));
        }
        self.expected = header.sequence + 1;
        self.at += header.padded();
        Ok(Some(Passed { header, at }))
    }

    /// The bytes of a frame just passed, checked.
    pub(crate) fn frame(&mut self, passed: &Passed) -> Result<Bytes, Error> {
        let seed = self.seed;
        let bytes = self.bytes(passed.at, passed.header.length as usize)?;
        if frame::check(bytes, seed) == Some(passed.header) {
            return Ok(Bytes::copy_from_slice(bytes));
        }
        Err(damaged(&self.path, passed.at, "the frame's checksum is wrong"))
    }

    /// Bytes of the file, read in chunks; fewer at its end.
    fn bytes(&mut self, at: u64, length: usize) -> Result<&[u8], Error> {
        let have = self.chunk_at..self.chunk_at + self.chunk.len() as u64;
        if at < have.start || at + length as u64 > have.end {
            self.chunk.resize(length.max(READ_BYTES), 0);
            let read = self
                .file
                .read_at(&mut self.chunk, at)
                .map_err(|error| disk_error(format!("read {}", self.path.display()), error))?;
            self.chunk.truncate(read);
            self.chunk_at = at;
        }
        let start = (at - self.chunk_at) as usize;
        let end = (start + length).min(self.chunk.len());
        Ok(&self.chunk[start..end])
    }

    /// The records of a frame just passed.
    pub(crate) fn records(&mut self, passed: &Passed) -> Result<Vec<eventlog::StoredRecord>, Error> {
        let bytes = self.frame(passed)?;
        frame::records(&passed.header, &bytes)
            .ok_or_else(|| damaged(&self.path, passed.at, "the frame's records do not add up"))
    }
}

/// A sparse index of one segment: for each partition now and then a frame.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    marks: BTreeMap<u32, Vec<Mark>>,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    offset: u64,
    at: u64,
    sequence: u64,
}

impl Index {
    /// Takes note of a frame.
    pub(crate) fn note(&mut self, header: &FrameHeader, at: u64) {
        let marks = self.marks.entry(header.partition).or_default();
        if marks.last().is_none_or(|last| at >= last.at + INDEX_EVERY_BYTES) {
            marks.push(Mark { offset: header.base, at, sequence: header.sequence });
        }
    }

    /// Where to begin to look for an offset: byte and sequence of a frame at or before it; `None`: at the segment's start.
    pub(crate) fn seek(&self, partition: u32, offset: u64) -> Option<(u64, u64)> {
        let marks = self.marks.get(&partition)?;
        let after = marks.partition_point(|mark| mark.offset <= offset);
        let mark = marks.get(after.checked_sub(1)?)?;
        Some((mark.at, mark.sequence))
    }
}
