//! Avro's binary encoding, as far as our records use it, straight from and into domain types.
//!
//! A general codec goes through a tree of values; this one writes fields in the order of the `.avsc`, which the tests check
//! byte for byte against `apache-avro` (docs/adr/0002-avro-codec.md). Reading trusts nothing: every length is compared
//! with what is left before anything is taken or allocated.

use crate::records::DecodeError;
use uuid::Uuid;

/// First byte of the Confluent wire format.
const MAGIC: u8 = 0;
/// Bytes of a hyphenated UUID.
const UUID_TEXT_BYTES: usize = 36;

/// Writes one record.
pub(crate) struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// Starts a record of a schema, with room for `payload_bytes` of text beside the usual fixed fields.
    pub(crate) fn new(schema_id: u32, payload_bytes: usize) -> Self {
        let mut out = Vec::with_capacity(payload_bytes + 288);
        out.push(MAGIC);
        out.extend_from_slice(&schema_id.to_be_bytes());
        Self { out }
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.out
    }

    #[inline]
    pub(crate) fn long(&mut self, value: i64) {
        let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
        while zigzag >= 0x80 {
            self.out.push(zigzag as u8 | 0x80);
            zigzag >>= 7;
        }
        self.out.push(zigzag as u8);
    }

    /// An unsigned 64-bit value as a long of the same bits. Positions are below 2^63, so they read as they are.
    #[inline]
    pub(crate) fn unsigned(&mut self, value: u64) {
        self.long(value as i64);
    }

    /// An enum's symbol, or a union's branch.
    #[inline]
    pub(crate) fn index(&mut self, index: u8) {
        debug_assert!(index < 64, "one byte holds the zigzag of 0 to 63");
        self.out.push(index << 1);
    }

    #[inline]
    pub(crate) fn boolean(&mut self, value: bool) {
        self.out.push(u8::from(value));
    }

    #[inline]
    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.long(value.len() as i64);
        self.out.extend_from_slice(value);
    }

    #[inline]
    pub(crate) fn string(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }

    #[inline]
    pub(crate) fn fixed(&mut self, value: &[u8; 16]) {
        self.out.extend_from_slice(value);
    }

    #[inline]
    pub(crate) fn uuid(&mut self, value: &Uuid) {
        let mut text = [0; UUID_TEXT_BYTES];
        value.hyphenated().encode_lower(&mut text);
        self.out.push((UUID_TEXT_BYTES as u8) << 1);
        self.out.extend_from_slice(&text);
    }

    /// An array in one block.
    pub(crate) fn array<T>(&mut self, items: &[T], mut item: impl FnMut(&mut Self, &T)) {
        if !items.is_empty() {
            self.long(items.len() as i64);
            for one in items {
                item(self, one);
            }
        }
        self.out.push(0);
    }

    /// `["null", T]`.
    #[inline]
    pub(crate) fn optional<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        match value {
            None => self.out.push(0),
            Some(value) => {
                self.out.push(2);
                write(self, value);
            }
        }
    }

    /// As many `["null", …]` fields, none of them set.
    #[inline]
    pub(crate) fn nulls(&mut self, count: usize) {
        self.out.resize(self.out.len() + count, 0);
    }
}

/// Splits a value into its schema id and datum.
pub(crate) fn split(value: &[u8]) -> Result<(u32, &[u8]), DecodeError> {
    match value {
        [MAGIC, a, b, c, d, datum @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), datum)),
        _ => Err(DecodeError::Foreign(format!(
            "{} bytes that do not start with the magic byte and a schema id",
            value.len()
        ))),
    }
}

/// Reads one record.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    record: &'static str,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(record: &'static str, datum: &'a [u8]) -> Self {
        Self { rest: datum, record }
    }

    /// Ends a record: nothing may be left.
    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.wrong(&format!("{} bytes after its end", self.rest.len()))) }
    }

    #[cold]
    pub(crate) fn wrong(&self, what: &str) -> DecodeError {
        DecodeError::Unreadable(format!("{}: {what}", self.record))
    }

    #[cold]
    fn field(&self, field: &str, what: &str) -> DecodeError {
        self.wrong(&format!("{field}: {what}"))
    }

    #[inline]
    pub(crate) fn long(&mut self, field: &str) -> Result<i64, DecodeError> {
        let mut zigzag = 0_u64;
        for (at, &byte) in self.rest.iter().take(10).enumerate() {
            if at == 9 && byte > 1 {
                break;
            }
            zigzag |= u64::from(byte & 0x7f) << (7 * at);
            if byte < 0x80 {
                self.rest = &self.rest[at + 1..];
                return Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64));
            }
        }
        Err(self.field(field, "no complete number"))
    }

    /// A position: below 2^63.
    #[inline]
    pub(crate) fn position(&mut self, field: &str) -> Result<u64, DecodeError> {
        u64::try_from(self.long(field)?).map_err(|_| self.field(field, "a position below zero"))
    }

    /// Any 64 bits.
    #[inline]
    pub(crate) fn unsigned(&mut self, field: &str) -> Result<u64, DecodeError> {
        self.long(field).map(|value| value as u64)
    }

    #[inline]
    pub(crate) fn small<T: TryFrom<i64>>(&mut self, field: &str) -> Result<T, DecodeError> {
        T::try_from(self.long(field)?).map_err(|_| self.field(field, "out of range"))
    }

    #[inline]
    pub(crate) fn boolean(&mut self, field: &str) -> Result<bool, DecodeError> {
        match self.rest.split_first() {
            Some((&byte @ 0..=1, rest)) => {
                self.rest = rest;
                Ok(byte == 1)
            }
            _ => Err(self.field(field, "no boolean")),
        }
    }

    #[inline]
    fn take(&mut self, field: &str, count: usize) -> Result<&'a [u8], DecodeError> {
        match self.rest.split_at_checked(count) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(self.field(field, "longer than the record")),
        }
    }

    #[inline]
    pub(crate) fn bytes(&mut self, field: &str) -> Result<&'a [u8], DecodeError> {
        let count = self.small(field)?;
        self.take(field, count)
    }

    #[inline]
    pub(crate) fn string(&mut self, field: &str) -> Result<&'a str, DecodeError> {
        let bytes = self.bytes(field)?;
        std::str::from_utf8(bytes).map_err(|_| self.field(field, "not UTF-8"))
    }

    #[inline]
    pub(crate) fn fixed(&mut self, field: &str) -> Result<[u8; 16], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(|| self.field(field, "longer than the record"))?;
        self.rest = rest;
        Ok(*taken)
    }

    #[inline]
    pub(crate) fn uuid(&mut self, field: &str) -> Result<Uuid, DecodeError> {
        let text = self.bytes(field)?;
        if text.len() == UUID_TEXT_BYTES
            && let Ok(uuid) = Uuid::try_parse_ascii(text)
        {
            return Ok(uuid);
        }
        Err(self.field(field, "no hyphenated uuid"))
    }

    /// An enum's symbol, as `symbols` reads it; `None` there: not one this version can act on.
    #[inline]
    pub(crate) fn symbol<T>(&mut self, field: &str, symbols: fn(i64) -> Option<T>) -> Result<T, DecodeError> {
        let index = self.long(field)?;
        symbols(index).ok_or_else(|| self.field(field, "no symbol of it"))
    }

    /// `["null", T]`.
    #[inline]
    pub(crate) fn optional<T>(
        &mut self,
        field: &str,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        match self.long(field)? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err(self.field(field, "no branch of its union")),
        }
    }

    /// `["null", T]` that another field says is set.
    #[inline]
    pub(crate) fn required<T>(
        &mut self,
        field: &str,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        self.optional(field, read)?.ok_or_else(|| self.field(field, "null, though its type names it"))
    }

    /// As many `["null", …]` fields, none of which may be set.
    #[inline]
    pub(crate) fn nulls(&mut self, field: &str, count: usize) -> Result<(), DecodeError> {
        let taken = self.take(field, count)?;
        if taken.iter().all(|&branch| branch == 0) {
            Ok(())
        } else {
            Err(self.field(field, "set beside the field its type names"))
        }
    }

    /// An array, in as many blocks as the writer chose. `item_bytes_min` bounds what is allocated ahead: no more items
    /// than the bytes that are left can hold.
    pub(crate) fn array<T>(
        &mut self,
        field: &str,
        item_bytes_min: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let mut items = Vec::new();
        loop {
            let mut count = self.long(field)?;
            if count == 0 {
                return Ok(items);
            }
            if count < 0 {
                count = count.checked_neg().ok_or_else(|| self.field(field, "no count"))?;
                self.position(field)?; // the block's size in bytes, for those who skip it
            }
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            if count > self.rest.len() / item_bytes_min {
                return Err(self.field(field, "more items than the record has bytes for"));
            }
            items.reserve_exact(count);
            for _ in 0..count {
                items.push(item(self)?);
            }
        }
    }
}
