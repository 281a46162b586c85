//! `docs/topics.md`: the table of topics and the schemas, for data engineers.

use crate::registry::SCHEMAS;
use crate::topics::{Kept, Partitions, TABLE, TopicRow};
use std::fmt::{self, Write as _};

const OPENING: &str = "\
# Topics

<!-- Written by `make docs` from `schemas/src/topics.rs` and `schemas/src/registry.rs`. -->

Values are Avro in the Confluent wire format: a zero byte, the schema id (32 bits, big endian), the datum. Ids are fixed for ever in
`schemas/avro/ids.json`; subjects follow TopicRecordNameStrategy. Schemas change FULL_TRANSITIVE only: every version reads what
every other wrote. Record keys are ids as lower-case hyphenated text; the partition is murmur2 of the partition key. Delivery is at least
once: deduplicate by `event_id`. Records that leave Hubbub carry CloudEvents 1.0 headers (`ce_id`, `ce_type`, …), all of which follow
from the value.

## Void records

Several processes may try to write one partition of `chat.messages`; the log itself says which of their records count. Fold each
partition in offset order with the state (epoch, n), starting at (0, 0):

- `OwnershipTaken` counts if its `epoch` is above the current one; the state becomes (its epoch, 0).
- Any other record counts if its `epoch` is the current one and its `n` is the last `n` + 1; the state becomes (epoch, n).
- All else is void: it never happened. A void record of a higher epoch is worth an alarm.

So nobody may start at an offset without its (epoch, n). `epoch` and `n` are the first two fields of every record there.

## Kinds of event

`EventsDecided` holds all events of one command. In each, `event_type` says which of the optional fields is set. A new kind is a new
symbol and a new optional field: older readers see `UNKNOWN` and pass it over, without losing their place.
";

/// The page.
pub fn markdown() -> String {
    let mut page = OPENING.to_owned();
    write(&mut page).expect("a string takes every write");
    page
}

fn write(page: &mut String) -> fmt::Result {
    page.push_str("\n## The topics\n\n| topic | record key | partitioned by | partitions | kept | embedded |\n|---|---|---|---|---|---|\n");
    for row in TABLE {
        let partitions = match row.partitions {
            Partitions::Timelines => "as configured",
            Partitions::One => "1",
        };
        let embedded = if row.in_memory_when_embedded { "in memory" } else { "on disk" };
        let (name, kept) = (name(row), kept(row.kept));
        writeln!(page, "| `{name}` | {} | {} | {partitions} | {kept} | {embedded} |", row.key, row.partitioned_by)?;
    }
    for row in TABLE {
        writeln!(page, "\n### `{}`\n\n{}.\n", name(row), row.holds)?;
        writeln!(page, "- written by: {}", row.owner)?;
        writeln!(page, "- order: {}", row.order)?;
        writeln!(
            page,
            "- kept: {}; compaction: {}",
            kept(row.kept),
            if row.kept == Kept::Compacted { "by key" } else { "none" }
        )?;
        writeln!(page, "- read again from the start, it gives: {}", row.replay)?;
        writeln!(page, "- personal data: {}", row.personal_data)?;
        writeln!(page, "- largest record: {} KiB", row.record_bytes_max / 1024)?;
        for schema in SCHEMAS.iter().filter(|schema| schema.topic == row.name) {
            let (record, version) = (schema.record, schema.version);
            writeln!(
                page,
                "- schema {}: `{record}` version {version} (`schemas/avro/history/{record}/{version}.avsc`)",
                schema.id
            )?;
        }
    }
    Ok(())
}

fn name(row: &TopicRow) -> String {
    if row.name.ends_with('.') { format!("{}<process>", row.name) } else { row.name.to_owned() }
}

fn kept(kept: Kept) -> String {
    match kept {
        Kept::Forever => "for ever".to_owned(),
        Kept::Compacted => "the newest of each key".to_owned(),
        Kept::Seconds { seconds, .. } if seconds % 86_400 == 0 => format!("{} days", seconds / 86_400),
        Kept::Seconds { seconds, .. } if seconds % 3_600 == 0 => format!("{} hours", seconds / 3_600),
        Kept::Seconds { seconds, .. } => format!("{} minutes", seconds.div_ceil(60)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn the_topics_page_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/topics.md");
        if std::env::var_os("WRITE_DOCS").is_some() {
            std::fs::write(&path, super::markdown()).expect("the page can be written");
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(written == super::markdown(), "docs/topics.md is out of date: run `make docs`");
    }
}
