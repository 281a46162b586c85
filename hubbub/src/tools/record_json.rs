//! Any record as JSON, by the schema it was written with: for people who look at topics without an Avro reader.

use anyhow::{Context as _, Result, bail};
use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Avro;
use schemas::registry::{self, SchemaRow};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// The largest whole number that every JSON reader keeps exactly: 2^53 − 1.
const EXACT_MAX: u64 = (1 << 53) - 1;

static SCHEMAS: LazyLock<BTreeMap<u32, Schema>> = LazyLock::new(|| {
    let parse = |row: &SchemaRow| {
        let schema = Schema::parse_str(row.avsc).expect("the schemas compiled into this program are schemas");
        (row.id, schema)
    };
    registry::SCHEMAS.iter().map(parse).collect()
});

/// The fields of a record by their names. Ids are strings as elsewhere in JSON, bytes are text where they are UTF-8 and else
/// hexadecimal, whole numbers beyond 2^53 are strings. Slow beside decoding: not for the way of a message.
pub(super) fn as_json(value: &[u8]) -> Result<Value> {
    // The Confluent wire format: a zero, the schema's id, the datum.
    let [0, a, b, c, d, datum @ ..] = value else { bail!("not in the wire format of our records") };
    let id = u32::from_be_bytes([*a, *b, *c, *d]);
    let schema = SCHEMAS.get(&id).with_context(|| format!("schema id {id} is unknown"))?;
    Ok(convert(GenericDatumReader::builder(schema).build()?.read_value(&mut &*datum)?))
}

fn convert(value: Avro) -> Value {
    match value {
        Avro::Null => Value::Null,
        Avro::Boolean(truth) => truth.into(),
        Avro::Int(number) => number.into(),
        Avro::Long(number) | Avro::TimestampMillis(number) if number.unsigned_abs() > EXACT_MAX => {
            number.to_string().into()
        }
        Avro::Long(number) | Avro::TimestampMillis(number) => number.into(),
        Avro::Float(number) => number.into(),
        Avro::Double(number) => number.into(),
        Avro::String(text) | Avro::Enum(_, text) => text.into(),
        Avro::Uuid(id) => id.to_string().into(),
        Avro::Fixed(16, bytes) if bytes.len() == 16 => {
            uuid::Uuid::from_slice(&bytes).unwrap_or_default().to_string().into()
        }
        Avro::Bytes(bytes) | Avro::Fixed(_, bytes) => match String::from_utf8(bytes) {
            Ok(text) => text.into(),
            Err(error) => hexadecimal(error.as_bytes()).into(),
        },
        Avro::Union(_, inner) => convert(*inner),
        Avro::Array(items) => items.into_iter().map(convert).collect(),
        Avro::Map(entries) => {
            entries.into_iter().map(|(name, value)| (name, convert(value))).collect::<Map<_, _>>().into()
        }
        Avro::Record(fields) => {
            fields.into_iter().map(|(name, value)| (name, convert(value))).collect::<Map<_, _>>().into()
        }
        // No schema of ours has another type.
        other => format!("{other:?}").into(),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::UserId;
    use schemas::records::{ProfileRecord, encode_profile};

    #[test]
    fn a_record_reads_as_its_fields_with_ids_as_text() {
        let user = UserId::from_bytes([7; 16]);
        let profile = ProfileRecord { user, username: "alice".into(), display_name: "Alice 👋".into() };
        let read = as_json(&encode_profile(&profile)).expect("it is a record of ours");
        assert_eq!(read["user_id"], user.to_string());
        assert_eq!(read["display_name"], "Alice 👋");
    }

    #[test]
    fn what_is_no_record_of_ours_is_an_error() {
        for bytes in [&b""[..], b"{}", &[0, 0, 0, 3, 0xe8, 1], &[0, 0, 0, 0, 1]] {
            assert!(as_json(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn numbers_that_json_readers_would_round_are_text() {
        assert_eq!(convert(Avro::Long(1 << 53)), "9007199254740992");
        assert_eq!(convert(Avro::Long((1 << 53) - 1)), 9_007_199_254_740_991_u64);
        assert_eq!(convert(Avro::Bytes(vec![0xff, 0x00])), "ff00");
    }
}
