//! Frames: a batch of records of one partition as it lies in a segment (`FORMAT.md`).

use crate::limits::FRAME_BYTES_MAX;
use bytes::Bytes;
use eventlog::{AppendTime, Header, LogOffset, Record, StoredRecord};

/// Opens every frame.
pub(crate) const MAGIC: u32 = u32::from_le_bytes(*b"HbF1");
/// Bytes of the fixed part.
pub(crate) const HEADER_BYTES: usize = 56;
/// Frames start at multiples of this.
pub(crate) const ALIGN: usize = 8;

const TOMBSTONE: u32 = u32::MAX;

/// The fixed part of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// Bytes of the frame without its padding.
    pub(crate) length: u32,
    /// The partition.
    pub(crate) partition: u32,
    /// Its place in the topic's stream: dense, except in compacted segments.
    pub(crate) sequence: u64,
    /// All frames below this sequence were durable when this one was written.
    pub(crate) durable: u64,
    /// The offset of the first record as it was appended.
    pub(crate) base: u64,
    /// When it was taken, in ms.
    pub(crate) time: u64,
    /// Records in it.
    pub(crate) count: u32,
    /// Offsets that it covers; above `count` where compaction has removed records.
    pub(crate) span: u32,
}

impl FrameHeader {
    /// The offset after the last.
    pub(crate) fn next(&self) -> u64 {
        self.base + u64::from(self.span)
    }

    /// Bytes it takes in the file.
    pub(crate) fn padded(&self) -> u64 {
        padded(self.length as usize) as u64
    }

    /// Reads the fixed part; `None` if it can't be one. Its checksum is not judged here.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor { bytes, at: 0 };
        if cursor.u32()? != MAGIC {
            return None;
        }
        let length = cursor.u32()?;
        let _checksum = cursor.u32()?;
        let header = Self {
            length,
            partition: cursor.u32()?,
            sequence: cursor.u64()?,
            durable: cursor.u64()?,
            base: cursor.u64()?,
            time: cursor.u64()?,
            count: cursor.u32()?,
            span: cursor.u32()?,
        };
        let sane = (HEADER_BYTES..=FRAME_BYTES_MAX).contains(&(length as usize))
            && header.count <= header.span
            && header.base.checked_add(u64::from(header.span)).is_some();
        sane.then_some(header)
    }
}

/// Bytes with padding.
pub(crate) const fn padded(length: usize) -> usize {
    length.next_multiple_of(ALIGN)
}

/// Bytes of a record in a frame.
pub(crate) fn record_bytes(record: &Record) -> usize {
    14 + record.size_bytes() + record.headers.len() * 6
}

/// Where and what a frame will be; all that is not in its records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) partition: u32,
    pub(crate) sequence: u64,
    pub(crate) durable: u64,
    pub(crate) base: u64,
    pub(crate) time: u64,
    pub(crate) span: u32,
}

/// Appends a frame to `out`, padded. `seed` ties it to its topic, so that a stray block of another one is no frame here.
pub(crate) fn encode(out: &mut Vec<u8>, seed: u64, place: Place, records: &[StoredRecord]) {
    let start = out.len();
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&place.partition.to_le_bytes());
    out.extend_from_slice(&place.sequence.to_le_bytes());
    out.extend_from_slice(&place.durable.to_le_bytes());
    out.extend_from_slice(&place.base.to_le_bytes());
    out.extend_from_slice(&place.time.to_le_bytes());
    out.extend_from_slice(&(records.len() as u32).to_le_bytes());
    out.extend_from_slice(&place.span.to_le_bytes());
    for StoredRecord { offset, record, .. } in records {
        let mut fixed = [0; 14];
        fixed[0..4].copy_from_slice(&((offset.0 - place.base) as u32).to_le_bytes());
        fixed[4..8].copy_from_slice(&(record.key.len() as u32).to_le_bytes());
        fixed[8..12]
            .copy_from_slice(&record.value.as_ref().map_or(TOMBSTONE, |value| value.len() as u32).to_le_bytes());
        fixed[12..14].copy_from_slice(&(record.headers.len() as u16).to_le_bytes());
        out.extend_from_slice(&fixed);
        out.extend_from_slice(&record.key);
        out.extend_from_slice(record.value.as_deref().unwrap_or_default());
        for Header { name, value } in &record.headers {
            out.extend_from_slice(&(name.len() as u16).to_le_bytes());
            out.extend_from_slice(&(value.len() as u32).to_le_bytes());
            out.extend_from_slice(name);
            out.extend_from_slice(value);
        }
    }
    let length = out.len() - start;
    out[start + 4..start + 8].copy_from_slice(&(length as u32).to_le_bytes());
    let checksum = checksum(seed, &out[start..]);
    out[start + 8..start + 12].copy_from_slice(&checksum.to_le_bytes());
    out.resize(start + padded(length), 0);
}

fn checksum(seed: u64, frame: &[u8]) -> u32 {
    let seeded = crc32c::crc32c(&seed.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(seeded, &frame[..8]), &frame[12..])
}

/// The header of the frame that starts `bytes`, if the whole frame is there and its checksum right.
pub(crate) fn check(bytes: &[u8], seed: u64) -> Option<FrameHeader> {
    let header = FrameHeader::parse(bytes)?;
    let frame = bytes.get(..header.length as usize)?;
    let said = u32::from_le_bytes([frame[8], frame[9], frame[10], frame[11]]);
    (said == checksum(seed, frame)).then_some(header)
}

/// The records of a checked frame, sharing its bytes; `None` if they do not add up.
pub(crate) fn records(header: &FrameHeader, frame: &Bytes) -> Option<Vec<StoredRecord>> {
    let mut cursor = Cursor { bytes: frame.get(..header.length as usize)?, at: HEADER_BYTES };
    let mut records = Vec::with_capacity((header.count as usize).min(frame.len() / 14));
    for _ in 0..header.count {
        let delta = cursor.u32()?;
        let (key, value) = (cursor.u32()?, cursor.u32()?);
        let headers = cursor.u16()?;
        if delta >= header.span {
            return None;
        }
        let key = frame.slice(cursor.take(key as usize)?);
        let value = if value == TOMBSTONE { None } else { Some(frame.slice(cursor.take(value as usize)?)) };
        let mut taken = Vec::new();
        for _ in 0..headers {
            let (name, value) = (cursor.u16()?, cursor.u32()?);
            let name = frame.slice(cursor.take(name as usize)?);
            taken.push(Header { name, value: frame.slice(cursor.take(value as usize)?) });
        }
        let record = Record { key, value, headers: taken };
        records.push(StoredRecord {
            offset: LogOffset(header.base + u64::from(delta)),
            time: AppendTime(header.time),
            record,
        });
    }
    (cursor.at == header.length as usize).then_some(records)
}

/// Reads little-endian numbers off bytes; `None` at their end.
pub(crate) struct Cursor<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) at: usize,
}

impl Cursor<'_> {
    pub(crate) fn take(&mut self, count: usize) -> Option<std::ops::Range<usize>> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len())?;
        let range = self.at..end;
        self.at = end;
        Some(range)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let range = self.take(N)?;
        self.bytes[range].try_into().ok()
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(offset: u64, record: Record) -> StoredRecord {
        StoredRecord { offset: LogOffset(offset), time: AppendTime(5), record }
    }

    #[test]
    fn a_frame_comes_back_as_it_was_and_no_flipped_bit_passes() {
        let header = Header { name: Bytes::from_static(b"n"), value: Bytes::from_static(b"vv") };
        let records_in = vec![
            stored(7, Record::new("key", "value")),
            stored(9, Record { key: Bytes::new(), value: Some(Bytes::new()), headers: vec![header] }),
            stored(10, Record::tombstone("gone")),
        ];
        let place = Place { partition: 3, sequence: 11, durable: 10, base: 7, time: 5, span: 4 };
        let mut out = Vec::new();
        encode(&mut out, 42, place, &records_in);
        assert_eq!(out.len() % ALIGN, 0);
        let header = check(&out, 42).expect("valid");
        assert_eq!((header.partition, header.sequence, header.durable, header.next()), (3, 11, 10, 11));
        assert_eq!(records(&header, &Bytes::from(out.clone())).expect("adds up"), records_in);
        assert!(check(&out, 43).is_none(), "another topic's");
        for bit in 0..header.length as usize * 8 {
            let mut bad = out.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(check(&bad, 42).is_none(), "bit {bit}");
        }
    }
}
