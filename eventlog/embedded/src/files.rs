//! Small files that are replaced as a whole: what they held before or what they hold now, never half.

use crate::disk::{Disk, DiskFile, read_all};
use eventlog::{Error, ErrorKind};
use std::io;
use std::path::Path;
use std::sync::Mutex;

/// What a person does about damage.
pub(crate) const REPAIR: &str =
    "nothing was changed; `hubbub repair --data …` keeps what is intact and saves the rest aside";

/// An error of the disk: full heals when there is room again.
pub(crate) fn disk_error(context: impl Into<String>, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Full,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, context).with_source(error)
}

/// Damage in a file at a byte.
pub(crate) fn damaged(path: &Path, at: u64, what: &str) -> Error {
    Error::new(ErrorKind::Damaged, format!("{} is damaged at byte {at}: {what}; {REPAIR}", path.display()))
}

/// Replaces a file's content, durably, with a checksum behind it.
pub(crate) fn write(disk: &dyn Disk, dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let temporary = dir.join(format!("{name}.tmp"));
    let file = disk.create(&temporary)?;
    let mut bytes = content.to_vec();
    bytes.extend_from_slice(&crc32c::crc32c(content).to_le_bytes());
    file.write_at(&bytes, 0)?;
    file.sync_data()?;
    disk.rename(&temporary, &dir.join(name))?;
    disk.sync_dir(dir)
}

/// Reads it back; `None` if there is none.
pub(crate) fn read(disk: &dyn Disk, dir: &Path, name: &str) -> Result<Option<Vec<u8>>, Error> {
    let path = dir.join(name);
    let mut bytes = match disk.open(&path).and_then(|file| read_all(&*file)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(disk_error(format!("read {}", path.display()), error)),
    };
    let Some(at) = bytes.len().checked_sub(4) else {
        return Err(damaged(&path, 0, "it is shorter than its checksum"));
    };
    let checksum = bytes.split_off(at);
    if checksum != crc32c::crc32c(&bytes).to_le_bytes() {
        return Err(damaged(&path, 0, "its checksum is wrong"));
    }
    Ok(Some(bytes))
}

/// A number that only rises: up to which sequence a topic is known to be durable. Written in place, in turns into two slots,
/// without a sync: whatever version survives is true.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    file: Box<dyn DiskFile>,
    state: Mutex<(u64, u64)>,
}

/// Its name in a topic's directory.
pub(crate) const CHECKPOINT: &str = "checkpoint";
const SLOT_BYTES: u64 = 512;

impl Checkpoint {
    /// Opens it, or makes it, and says what it held: the highest sequence below which all was durable.
    pub(crate) fn open(disk: &dyn Disk, dir: &Path) -> io::Result<(Self, u64)> {
        let path = dir.join(CHECKPOINT);
        let file = match disk.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create(&path)?,
            Err(error) => return Err(error),
        };
        let mut best = (0, 0);
        for slot in 0..2 {
            let mut bytes = [0; 20];
            if file.read_at(&mut bytes, slot * SLOT_BYTES)? == bytes.len()
                && bytes[16..] == crc32c::crc32c(&bytes[..16]).to_le_bytes()
            {
                let number = |range: std::ops::Range<usize>| {
                    bytes[range].iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
                };
                best = best.max((number(0..8), number(8..16)));
            }
        }
        Ok((Self { file, state: Mutex::new(best) }, best.1))
    }

    /// Notes a sequence. Cheap when it is the same as before.
    pub(crate) fn note(&self, sequence: u64, sync: bool) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if state.1 != sequence {
            let turn = state.0 + 1;
            let mut bytes = [0; 20];
            bytes[..8].copy_from_slice(&turn.to_le_bytes());
            bytes[8..16].copy_from_slice(&sequence.to_le_bytes());
            let checksum = crc32c::crc32c(&bytes[..16]);
            bytes[16..].copy_from_slice(&checksum.to_le_bytes());
            self.file.write_at(&bytes, (turn % 2) * SLOT_BYTES)?;
            *state = (turn, sequence);
        }
        if sync {
            self.file.sync_data()?;
        }
        Ok(())
    }
}

/// Copies the first bytes of a file into a new one, zeros to the end of its length, durably.
pub(crate) fn copy_start(disk: &dyn Disk, from: &Path, to: &Path, bytes: u64) -> io::Result<()> {
    let (source, target) = (disk.open(from)?, disk.create(to)?);
    let mut chunk = vec![0; crate::limits::READ_BYTES];
    let mut at = 0;
    while at < bytes {
        let part = chunk.len().min((bytes - at) as usize);
        let read = source.read_at(&mut chunk[..part], at)?;
        if read == 0 {
            break;
        }
        target.write_at(&chunk[..read], at)?;
        at += read as u64;
    }
    target.sync_data()
}
