//! The void rule and `low`, against plain models of them.

use domain::{
    Answer, ChannelId, ClientMsgId, CommandPosition, Epoch, Judgement, LogCursor, LogTime, Outcome, OwnerSeq,
    TimelineRecord, UserId, Verdict,
};
use proptest::prelude::*;
use std::collections::BTreeSet;
use uuid::Uuid;

fn claim(epoch: u64, incarnation: u64, offset: u64) -> TimelineRecord {
    let commands_start = CommandPosition { incarnation, offset };
    TimelineRecord::Claim { epoch: Epoch(epoch), nonce: 0, owner: "owner".into(), commands_start }
}

fn outcome(epoch: u64, n: u64, command: CommandPosition) -> TimelineRecord {
    TimelineRecord::Outcome(Outcome {
        epoch: Epoch(epoch),
        n: OwnerSeq(n),
        time: LogTime(n),
        command,
        channel: ChannelId(Uuid::nil()),
        sender: UserId(Uuid::nil()),
        id: ClientMsgId(Uuid::nil()),
        digest: 0,
        reply: None,
        verdict: Verdict::Answered(Answer::RetryLater),
    })
}

#[test]
fn a_lost_append_voids_what_was_pipelined_behind_it_and_a_claim_what_a_zombie_says() {
    use Judgement::{Valid, Void, VoidOfHigherEpoch};
    let at = |offset| CommandPosition { incarnation: 1, offset };
    let log = [
        (outcome(1, 1, at(0)), VoidOfHigherEpoch),
        (claim(1, 1, 0), Valid),
        (claim(1, 1, 0), Void),
        (outcome(1, 1, at(0)), Valid),
        (outcome(1, 1, at(0)), Void),
        (outcome(1, 3, at(2)), Void),
        (outcome(1, 4, at(3)), Void),
        (claim(3, 1, 0), Valid),
        (outcome(1, 2, at(1)), Void),
        (claim(2, 1, 0), Void),
        (outcome(2, 1, at(1)), Void),
        (outcome(3, 1, at(1)), Valid),
    ];
    let mut cursor = LogCursor::default();
    for (offset, (record, expected)) in log.iter().enumerate() {
        assert_eq!(cursor.accept(offset as u64, record), *expected, "at {offset}");
        assert_eq!(cursor.offset, offset as u64 + 1);
    }
    assert_eq!((cursor.epoch, cursor.n, cursor.low), (Epoch(3), OwnerSeq(1), at(2)));
}

proptest! {
    #[test]
    fn low_and_what_is_decided_above_it_know_every_decided_command(
        steps in prop::collection::vec((0_u8..12, 0_u64..30), 1..200),
    ) {
        let mut cursor = LogCursor::default();
        cursor.accept(0, &claim(1, 1, 0));
        let (mut epoch, mut incarnation, mut start) = (1, 1, 0);
        let mut decided: BTreeSet<u64> = BTreeSet::new();
        for (i, (what, offset)) in steps.into_iter().enumerate() {
            match what {
                0 => {
                    (epoch, incarnation, start) = (epoch + 1, incarnation + 1, offset);
                    decided.clear();
                    cursor.accept(i as u64, &claim(epoch, incarnation, start));
                }
                1 => {
                    (epoch, start) = (epoch + 1, start.max(offset));
                    cursor.accept(i as u64, &claim(epoch, incarnation, offset));
                }
                _ => {
                    let record = outcome(epoch, cursor.n.0 + 1, CommandPosition { incarnation, offset });
                    prop_assert_eq!(cursor.accept(i as u64, &record), Judgement::Valid);
                    decided.insert(offset);
                }
            }
            for offset in 0..40 {
                let known = cursor.has_decided(CommandPosition { incarnation, offset });
                prop_assert_eq!(known, offset < start || decided.contains(&offset), "offset {}", offset);
            }
            let (before, after) = (CommandPosition { incarnation: incarnation - 1, offset: 99 }, CommandPosition { incarnation: incarnation + 1, offset: 0 });
            prop_assert!(cursor.has_decided(before) && !cursor.has_decided(after));
            prop_assert!(cursor.decided_above.iter().all(|above| *above > cursor.low.offset), "low is as high as it can be");
        }
    }
}
