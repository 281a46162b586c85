//! The auditor: judges from what clients did and saw whether the promises of design §1 were kept.
//!
//! It knows nothing of how Hubbub works, only what it promises, so it judges a simulation, a cluster in a process and a
//! load run on real sockets alike. It never reports a violation that a correct system could show (recorded moments are
//! taken on the weak side), and each check has a history in the tests that makes it fail.

mod checks;
mod history;
mod report;

pub use checks::audit;
pub use history::{ClientHistory, End, FinalChannel, History, Moment, Op, Recorded, SeenEvent, Stay, Via};
pub use report::{Check, LookedAt, Report, VIOLATIONS_PER_CHECK_MAX, Violation};

#[cfg(test)]
mod tests;
