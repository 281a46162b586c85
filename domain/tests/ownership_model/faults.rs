//! Faults that can be planted around the real code. Each breaks one rule of design §4 and must be caught.

/// A planted fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Records of a lower epoch are accepted.
    NoVoid,
    /// A reader restarts with its offset only and learns the epoch from what it sees.
    ProgressWithoutEpoch,
    /// A head leaves memory before the writer's progress has passed it.
    HeadEvictedEarly,
    /// Ids are forgotten after the window though the writer lags.
    ShortWindow,
    /// The loser of two claims of one epoch believes that it won.
    SameEpoch,
    /// A new owner goes on behind the last valid record's command; parked ones were passed.
    LastOffset,
    /// Recovery replays the window in *log* time before the end, not in command time.
    LogWindow,
    /// Recovery starts at an offset found by time, where no epoch is known.
    StartWithoutEpoch,
    /// Progress is (offset, epoch, n): last id and T are unknown when the replayed range is empty.
    BareProgress,
    /// Looked up only if flagged or the id looks old; ids from the future are let in.
    TrustFlag,
    /// The events of one command are several records.
    SplitEvents,
    /// Records behind a lost append are accepted: n is not checked.
    NoN,
    /// An owner whose own record reads void goes on.
    NoStepDown,
    /// A reader restarts with (offset, epoch) and takes n as 0.
    ProgressWithoutN,
    /// The answer of a look-up is used without asking the memory.
    StaleLookup,
}
