//! CloudEvents 1.0 headers of a record (Kafka binding, binary mode). They follow from the value, so they are made where a
//! record leaves Hubbub and are not kept beside it.

use crate::records::{self, DecodeError, SessionRecord};
use crate::{avro, registry};
use bytes::Bytes;
use domain::{LogTime, TimelineRecord};
use uuid::Uuid;

/// Header names and values.
pub type Headers = Vec<(&'static str, String)>;

/// The UUIDv5 namespace of records that have no id of their own.
const CONTENT_NAMESPACE: Uuid = Uuid::from_bytes(*b"hubbub/record/v1");

/// The headers of a value of a topic. `ce_id` is the record's own `event_id`, a command's `client_msg_id`, or for whole states and
/// passing signs the UUIDv5 of their bytes; `ce_time` is T, where the record has one.
pub fn cloud_events(topic: &str, value: &Bytes) -> Result<Headers, DecodeError> {
    let (schema_id, _) = avro::split(value)?;
    let schema =
        registry::by_id(schema_id).ok_or_else(|| DecodeError::Foreign(format!("schema id {schema_id} is unknown")))?;
    let mut id = None;
    let mut time = None;
    let mut subject = None;
    match schema_id {
        registry::OWNERSHIP_TAKEN | registry::EVENTS_DECIDED | registry::COMMAND_ANSWERED => {
            match records::decode_timeline(value)? {
                TimelineRecord::Claim { nonce, .. } => id = Some(Uuid::from_u128(nonce)),
                TimelineRecord::Outcome(outcome) => {
                    id = Some(records::event_id(outcome.channel, outcome.epoch, outcome.n));
                    time = Some(outcome.time);
                    subject = Some(outcome.channel.to_string());
                }
            }
        }
        registry::COMMAND => {
            let command = records::decode_command(value)?;
            id = Some(command.id.0);
            time = command.id.time();
            subject = Some(command.channel.to_string());
        }
        registry::SIGNAL => subject = Some(records::decode_signal(value)?.channel.to_string()),
        registry::SESSION => {
            let SessionRecord { user, opened, .. } = records::decode_session(value)?;
            time = Some(opened);
            subject = Some(user.to_string());
        }
        registry::GATEWAY => subject = Some(records::decode_gateway(value)?.process.into()),
        registry::PROFILE => subject = Some(records::decode_profile(value)?.user.to_string()),
        _ => {
            records::decode_delivery(value)?;
        }
    }
    let id = id.unwrap_or_else(|| Uuid::new_v5(&CONTENT_NAMESPACE, value));
    let mut headers = vec![
        ("ce_specversion", "1.0".to_owned()),
        ("ce_id", id.to_string()),
        ("ce_source", format!("/hubbub/{topic}")),
        ("ce_type", format!("{}.{}", registry::NAMESPACE, schema.record)),
        ("ce_dataschema", format!("/schemas/ids/{schema_id}")),
        ("content-type", "application/avro".to_owned()),
    ];
    headers.extend(time.map(|time| ("ce_time", rfc3339(time))));
    headers.extend(subject.map(|subject| ("ce_subject", subject)));
    Ok(headers)
}

/// A time as RFC 3339 in UTC with milliseconds; times beyond the year 9999 as its end.
pub fn rfc3339(time: LogTime) -> String {
    /// 9999-12-31T23:59:59.999Z.
    const LAST_MS: u64 = 253_402_300_799_999;
    let ms = time.0.min(LAST_MS);
    let (days, in_day) = (ms / 86_400_000, ms % 86_400_000);
    // The civil calendar from days, in years that start with March, so that the leap day is the last of its year.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (in_day / 3_600_000, in_day / 60_000 % 60, in_day / 1_000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", in_day % 1_000)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::records::{ProfileRecord, encode_profile, encode_timeline};
    use domain::{Answer, ChannelId, ClientMsgId, CommandPosition, Epoch, Outcome, OwnerSeq, UserId, Verdict};

    #[test]
    fn times_are_written_as_the_calendar_has_them() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_735_689_600_001, "2025-01-01T00:00:00.001Z"),
            (u64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(rfc3339(LogTime(ms)), text);
        }
    }

    #[test]
    fn headers_follow_from_the_value() {
        let outcome = Outcome {
            epoch: Epoch(2),
            n: OwnerSeq(3),
            time: LogTime(1_735_689_600_001),
            command: CommandPosition::default(),
            channel: ChannelId::from_bytes([1; 16]),
            sender: UserId::from_bytes([2; 16]),
            id: ClientMsgId::from_bytes([3; 16]),
            digest: 0,
            reply: None,
            verdict: Verdict::Answered(Answer::Poison),
        };
        let value = Bytes::from(encode_timeline(&TimelineRecord::Outcome(outcome)));
        let headers = cloud_events("chat.messages", &value).unwrap();
        let of = |name| headers.iter().find(|header| header.0 == name).map(|header| header.1.as_str());
        assert_eq!(of("ce_type"), Some("hubbub.v1.CommandAnswered"));
        assert_eq!(of("ce_source"), Some("/hubbub/chat.messages"));
        assert_eq!(of("ce_time"), Some("2025-01-01T00:00:00.001Z"));
        assert_eq!(of("ce_subject"), Some("01010101-0101-0101-0101-010101010101"));
        assert_eq!(of("ce_dataschema"), Some("/schemas/ids/3"));
        assert_eq!(
            of("ce_id"),
            Some(records::event_id(ChannelId::from_bytes([1; 16]), Epoch(2), OwnerSeq(3)).to_string()).as_deref()
        );
    }

    #[test]
    fn every_record_has_the_headers_that_cloud_events_requires() {
        let record =
            ProfileRecord { user: UserId::from_bytes([1; 16]), username: "ann".into(), display_name: "Ann".into() };
        let headers = cloud_events("chat.users", &encode_profile(&record).into()).unwrap();
        for required in ["ce_specversion", "ce_id", "ce_source", "ce_type"] {
            assert!(headers.iter().any(|header| header.0 == required), "{required}");
        }
        assert!(cloud_events("chat.users", &Bytes::from_static(b"nonsense")).unwrap_err().is_foreign());
    }
}
