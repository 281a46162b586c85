//! Records against the `.avsc` files: our bytes are what `apache-avro` writes and reads, and hostile bytes are refused.

mod arbitrary;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use arbitrary::{AnyRecord, any_record, runner};
use bytes::Bytes;
use proptest::prelude::*;
use schemas::registry;
use std::collections::HashMap;

/// The schema that a value names, parsed once.
struct Schemas(HashMap<u32, Schema>);

impl Schemas {
    fn parse() -> Self {
        let parse = |row: &registry::SchemaRow| (row.id, Schema::parse_str(row.avsc).expect("a schema that parses"));
        Self(registry::SCHEMAS.iter().map(parse).collect())
    }

    fn read(&self, value: &[u8]) -> (&Schema, Value) {
        let id = u32::from_be_bytes(value[1..5].try_into().expect("four bytes"));
        let schema = &self.0[&id];
        let mut datum = &value[5..];
        let reader = GenericDatumReader::builder(schema).build().expect("a reader");
        let read = reader.read_value(&mut datum).expect("apache-avro reads it");
        assert!(datum.is_empty(), "apache-avro left {} bytes of it", datum.len());
        (schema, read)
    }
}

#[test]
fn every_record_is_what_apache_avro_reads_and_writes_byte_for_byte() {
    let schemas = Schemas::parse();
    runner(4_000)
        .run(&any_record(), |record| {
            let ours = record.encode();
            let (schema, value) = schemas.read(&ours);
            let writer = GenericDatumWriter::builder(schema).build().expect("a writer");
            let theirs = writer.write_value_to_vec(value).expect("apache-avro writes it");
            prop_assert_eq!(&ours[5..], &theirs[..]);
            let read = record.decode_like(&Bytes::from([&ours[..5], &theirs[..]].concat())).expect("we read it");
            prop_assert_eq!(read, record);
            Ok(())
        })
        .expect("every record");
}

#[test]
fn the_position_of_a_timeline_record_is_in_front() {
    use schemas::records::{TimelinePosition, encode_timeline, peek_timeline};
    runner(1_000)
        .run(&arbitrary::timeline(), |record| {
            let position = match &record {
                domain::TimelineRecord::Claim { epoch, .. } => TimelinePosition::Claim(*epoch),
                domain::TimelineRecord::Outcome(outcome) => TimelinePosition::Outcome(outcome.epoch, outcome.n),
            };
            prop_assert_eq!(peek_timeline(&encode_timeline(&record)), Ok(position));
            Ok(())
        })
        .expect("every record");
}

#[test]
fn truncated_records_are_refused() {
    runner(500)
        .run(&any_record(), |record| {
            let whole = Bytes::from(record.encode());
            for end in 0..whole.len() {
                prop_assert!(record.decode_like(&whole.slice(..end)).is_err(), "{} of {} bytes", end, whole.len());
            }
            Ok(())
        })
        .expect("every truncation");
}

#[test]
fn mutated_records_are_refused_or_read_but_never_panic_nor_allocate_more_than_they_hold() {
    let mutation = (any::<prop::sample::Index>(), any::<u8>());
    let mutations = prop::collection::vec(mutation, 1..6);
    runner(20_000)
        .run(&(any_record(), mutations), |(record, mutations)| {
            let mut bytes = record.encode();
            for (at, byte) in mutations {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let bytes = Bytes::from(bytes);
            for read in AnyRecord::decode_all(&bytes).into_iter().flatten() {
                // What reads, can be written and read again as the same.
                prop_assert_eq!(&read.decode_like(&Bytes::from(read.encode())).expect("its own bytes"), &read);
            }
            Ok(())
        })
        .expect("every mutation");
}

#[test]
fn random_bytes_are_refused() {
    runner(20_000)
        .run(&(1_u32..12, prop::collection::vec(any::<u8>(), 0..200)), |(id, datum)| {
            let mut bytes = vec![0];
            bytes.extend_from_slice(&id.to_be_bytes());
            bytes.extend_from_slice(&datum);
            let _ = AnyRecord::decode_all(&Bytes::from(bytes));
            let _ = AnyRecord::decode_all(&Bytes::from(datum));
            Ok(())
        })
        .expect("all bytes");
}
