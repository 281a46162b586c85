//! A random model of one partition around the real decider and the real void rule: commands → owners → event log → readers,
//! writer, store (design §4).
//!
//! A seeded scheduler finds the interleavings: owners that crash, stall and come back as zombies; appends that land late or
//! never; two owners that claim one epoch; people who send again at any time, flagged or not, with wrong clocks or another
//! body; append times that step back; a writer that lags and crashes; heads that leave memory; commands parked on the store
//! while others pass; readers that restart; a commands log that is lost with its process.
//!
//! Checks: *decided* (every command exactly once in the valid log), *dense* (seq), *running* (ordinal and members version),
//! *ids* (rise), *time* (T never steps back, is never behind its command or an id), *once* (one accepted event per id, every
//! repeat is told its seq), *access* (members post, nobody else), *readers* (restarted = uninterrupted), *base* (what an owner
//! recovers or reads from the store = the fold of the valid log).
//!
//! A failing seed is printed. `SEED=7 cargo test -p domain --test ownership_model <test> -- --nocapture` replays it with a
//! trace, planted faults included.

mod chance;
mod faults;
mod owner;
mod reader;
mod world;

use domain::{Answer, RejectCause, TimelineRecord, Verdict};
use faults::Fault;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use world::World;

const SEEDS: u64 = 2_000;
/// A planted fault is found within this many seeds.
const FAULT_SEEDS: u64 = 2_000;

fn seed() -> Option<u64> {
    std::env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"))
}

#[test]
fn the_ownership_rules_hold_under_every_interleaving_found() {
    if let Some(seed) = seed() {
        let world = world::run(seed, None, true);
        assert!(world.bad.is_empty(), "{:?}", world.bad);
        return;
    }
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 0..SEEDS {
        // An assertion of the real code is reported with its seed like any check.
        let world = catch_unwind(|| world::run(seed, None, false)).unwrap_or_else(|_| panic!("SEED={seed} panicked"));
        assert!(world.bad.is_empty(), "SEED={seed} violates {:?}", world.bad);
        count(&world, &mut seen);
    }
    println!("{SEEDS} seeds, records seen: {seen:?}");
    for what in [
        "void claim",
        "void outcome",
        "accepted",
        "duplicate",
        "conflict",
        "clock",
        "not a member",
        "retry_later",
        "poison",
    ] {
        assert!(seen.get(what).is_some_and(|times| *times >= 50), "the model hardly reaches `{what}`: {seen:?}");
    }
}

fn count(world: &World, seen: &mut BTreeMap<&'static str, usize>) {
    let mut reader = reader::Reader::default();
    for record in &world.log {
        let valid = reader.accept(&record.value, None);
        let what = match &record.value {
            TimelineRecord::Claim { .. } => {
                if valid {
                    "claim"
                } else {
                    "void claim"
                }
            }
            TimelineRecord::Outcome(_) if !valid => "void outcome",
            TimelineRecord::Outcome(outcome) => match &outcome.verdict {
                Verdict::Accepted(_) => "accepted",
                Verdict::Answered(Answer::Duplicate { .. }) => "duplicate",
                Verdict::Answered(Answer::Conflict { .. }) => "conflict",
                Verdict::Answered(Answer::Rejected(RejectCause::Clock)) => "clock",
                Verdict::Answered(Answer::Rejected(RejectCause::NotMember)) => "not a member",
                Verdict::Answered(Answer::Rejected(_)) => "rejected",
                Verdict::Answered(Answer::RetryLater) => "retry_later",
                Verdict::Answered(Answer::Poison) => "poison",
            },
        };
        *seen.entry(what).or_default() += 1;
    }
}

/// A fault shows by one of `checks`; an assertion of the real code that trips over it first is told apart and not enough.
fn must_be_caught(fault: Fault, checks: &[&str]) {
    if let Some(seed) = seed() {
        let world = world::run(seed, Some(fault), true);
        println!("{fault:?}, SEED={seed}: {:?}", world.bad);
        return;
    }
    let caught = (0..FAULT_SEEDS).find_map(|seed| {
        let world = catch_unwind(AssertUnwindSafe(|| world::run(seed, Some(fault), false))).ok()?;
        checks.iter().find(|check| world.bad.contains(*check)).map(|check| (seed, *check))
    });
    let Some((seed, check)) = caught else {
        panic!("{fault:?} is not caught by {checks:?} within {FAULT_SEEDS} seeds")
    };
    println!("{fault:?} is caught by `{check}` at SEED={seed}");
}

macro_rules! planted {
    ($($name:ident: $fault:ident, $checks:expr;)*) => {
        $(
            #[test]
            fn $name() {
                must_be_caught(Fault::$fault, &$checks);
            }
        )*
    };
}

planted! {
    accepting_records_of_a_lower_epoch_is_caught: NoVoid, ["decided"];
    restarting_a_reader_without_its_epoch_is_caught: ProgressWithoutEpoch, ["readers"];
    evicting_a_head_before_the_writer_has_passed_it_is_caught: HeadEvictedEarly, ["base"];
    forgetting_ids_after_the_window_though_the_writer_lags_is_caught: ShortWindow, ["once"];
    two_owners_of_one_epoch_are_caught: SameEpoch, ["base", "decided", "dense", "once"];
    going_on_behind_the_last_command_is_caught: LastOffset, ["decided"];
    recovering_a_window_of_log_time_is_caught: LogWindow, ["once"];
    starting_a_recovery_without_an_epoch_is_caught: StartWithoutEpoch, ["base"];
    recovering_without_t_and_the_last_id_is_caught: BareProgress, ["ids"];
    trusting_the_retry_flag_and_every_clock_is_caught: TrustFlag, ["once"];
    several_records_for_one_command_are_caught: SplitEvents, ["decided"];
    accepting_records_behind_a_lost_append_is_caught: NoN, ["decided", "dense"];
    an_owner_that_goes_on_behind_a_void_record_is_caught: NoStepDown, ["decided"];
    restarting_a_reader_without_its_n_is_caught: ProgressWithoutN, ["readers"];
    using_a_look_up_without_asking_the_memory_is_caught: StaleLookup, ["once"];
}
