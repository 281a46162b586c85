//! The harness against a small model: a correct one passes, each planted fault is found, a seed is one trace.

use super::model::{Bug, Model};
use super::seeds::{check_seeds, first_failure};
use super::simulate;
use crate::auditor::Check;
use crate::client::BrokenRule;

/// Within how many seeds a planted fault must be found.
const FOUND_WITHIN_SEEDS: u64 = 1_000;

#[test]
fn a_correct_system_passes() {
    check_seeds::<Model>();
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..10 {
        let (one, two) = (simulate::<Model>(seed, None, None), simulate::<Model>(seed, None, None));
        assert_eq!(one.trace, two.trace, "seed {seed}");
        assert!(one.trace.lines().count() > 100, "seed {seed} does nothing");
    }
    assert_ne!(simulate::<Model>(0, None, None).trace, simulate::<Model>(1, None, None).trace);
}

#[test]
fn every_fault_of_the_system_is_found() {
    let planted = [
        (Bug::AckBeforeSync, Check::Lost),
        (Bug::NoOnceness, Check::Duplicate),
        (Bug::DeliversToFormerMembers, Check::Leak),
        (Bug::NoDigest, Check::UnseenTail),
        (Bug::PageClaimsTooMuch, Check::StalePage),
        (Bug::PageSkips, Check::StalePage),
        (Bug::MembershipUnchecked, Check::Leak),
        (Bug::SeqSkips, Check::Order),
        (Bug::IdsStepBack, Check::Order),
        (Bug::OtherTextOnRetry, Check::Lost),
        (Bug::LosesCommandsForEver, Check::StuckSend),
    ];
    for (bug, check) in planted {
        let found = first_failure::<Model>(FOUND_WITHIN_SEEDS, Some(bug), None);
        let found = found.unwrap_or_else(|| panic!("{bug:?} is not found"));
        assert!(found.has(check), "{bug:?} is found, but not as {check:?}: {found}");
    }
}

#[test]
fn every_broken_rule_of_a_client_is_found() {
    let broken = [
        (BrokenRule::CursorMovesOverHole, Check::UnfilledGap),
        (BrokenRule::NoDedupe, Check::Duplicate),
        (BrokenRule::NewIdForRetry, Check::StuckSend),
        (BrokenRule::DigestIgnored, Check::UnseenTail),
    ];
    for (rule, check) in broken {
        let found = first_failure::<Model>(FOUND_WITHIN_SEEDS, None, Some(rule));
        let found = found.unwrap_or_else(|| panic!("{rule:?} is not found"));
        assert!(found.has(check), "{rule:?} is found, but not as {check:?}: {found}");
    }
}
