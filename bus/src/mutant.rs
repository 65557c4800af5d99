//! Bugs to plant, to see that the simulator finds them: a checker is trusted after it has caught one.
//!
//! Each is a mistake that real projects have made. The place of a bug asks `is` whether it is planted: without the feature
//! `mutants`, which only tests switch on, the answer is a constant, and nothing is left of the question.

#[cfg(feature = "mutants")]
use std::sync::atomic::{AtomicUsize, Ordering};

macro_rules! mutants {
    ($($(#[doc = $doc:literal])+ $mutant:ident = $name:literal;)*) => {
        /// A bug to be planted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Mutant { $($(#[doc = $doc])+ $mutant),* }

        impl Mutant {
            /// All of them, those of one part of the bus together.
            pub const ALL: &'static [Self] = &[$(Self::$mutant),*];

            /// Its name: `commits-before-handling`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$mutant => $name),* }
            }

            /// What is wrong with it, in a sentence.
            pub const fn about(self) -> &'static str {
                match self { $(Self::$mutant => concat!($($doc),+).trim_ascii()),* }
            }

            /// The one of this name.
            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|mutant| mutant.name() == name)
            }
        }
    };
}

mutants! {
    // ── commits ─────────────────────────────────────────────────────────────────────────────────────────────────
    /// What was delivered is committed, whether it is handled or not.
    CommitsBeforeHandling = "commits-before-handling";
    /// The client commits by itself what it has handed out.
    CommitsByItself = "commits-by-itself";
    /// The highest finished offset is committed, over lower ones that are not.
    CommitsOverGaps = "commits-over-gaps";
    /// A record that waits for a retry counts as done.
    CommitsOverRetries = "commits-over-retries";
    /// The offset of the last record is committed instead of the one after it.
    CommitsTheLastHandled = "commits-the-last-handled";
    /// The offset after the next one is committed.
    CommitsPastTheEnd = "commits-past-the-end";
    /// A commit that failed is not repeated.
    NeverRepeatsFailedCommits = "never-repeats-failed-commits";
    /// A commit is taken for confirmed whatever the brokers answered.
    AssumesCommitsSucceed = "assumes-commits-succeed";
    /// Nothing wakes the engine when it is time to commit.
    ForgetsTheCommitTimer = "forgets-the-commit-timer";
    /// Gaps between finished records are taken for finished by the next owner.
    SkipsWhatWasNotFinished = "skips-what-was-not-finished";

    // ── rebalances ──────────────────────────────────────────────────────────────────────────────────────────────
    /// A new assignment forgets what is unfinished in the partitions there were.
    LosesTheLedger = "loses-the-ledger";
    /// A revoked partition commits where it began.
    RewindsOnRevoke = "rewinds-on-revoke";
    /// A record that waits for a retry is forgotten when its partition goes.
    ForgetsRetriesOnRevoke = "forgets-retries-on-revoke";
    /// Partitions are given up without waiting for what is in work.
    RevokesWithoutDraining = "revokes-without-draining";
    /// Partitions are given up without a last commit.
    RevokesWithoutCommitting = "revokes-without-committing";
    /// A member leaves without a last commit.
    StopsWithoutCommitting = "stops-without-committing";
    /// Partitions are handed back first and committed afterwards.
    GivesBackBeforeCommitting = "gives-back-before-committing";
    /// Revoked partitions are never handed back.
    NeverGivesBack = "never-gives-back";
    /// Nothing is polled while a handler runs.
    PollsBetweenHandlers = "polls-between-handlers";
    /// When it cannot learn where the group was, it goes to the end.
    ResetsOnErrors = "resets-on-errors";
    /// Partitions that were lost are worked on as if they were not.
    HandlesWhatItLost = "handles-what-it-lost";
    /// Handlers run on when their partition goes.
    KeepsHandlersOverRevocation = "keeps-handlers-over-revocation";
    /// What an old assignment finishes late counts for the new one.
    CountsLateCompletions = "counts-late-completions";
    /// The end of an old drain releases partitions that were given anew meanwhile.
    ReleasesWhatWasGivenAnew = "releases-what-was-given-anew";

    // ── order and flow ──────────────────────────────────────────────────────────────────────────────────────────
    /// Records of one key run side by side.
    RunsKeysSideBySide = "runs-keys-side-by-side";
    /// A record to be retried goes to the end of its lane.
    RetriesBehindTheLane = "retries-behind-the-lane";
    /// What is over a bound is dropped.
    DropsWhenFull = "drops-when-full";
    /// A paused partition is never resumed.
    NeverResumes = "never-resumes";
    /// Records are dropped when the engine is busy.
    DropsBatchesWhenBusy = "drops-batches-when-busy";
    /// A group without offsets begins at the end.
    StartsAtTheEnd = "starts-at-the-end";

    // ── retries ─────────────────────────────────────────────────────────────────────────────────────────────────
    /// Retries do not wait.
    RetriesAtOnce = "retries-at-once";
    /// Every wait is as long as the first.
    BackoffDoesNotGrow = "backoff-does-not-grow";
    /// Waits are read in the wrong unit.
    BackoffInTheWrongUnit = "backoff-in-the-wrong-unit";
    /// Waits vary three times as much as they may.
    JitterOutOfRange = "jitter-out-of-range";
    /// Nothing wakes the engine when it is time for a retry.
    ForgetsTheRetryTimer = "forgets-the-retry-timer";
    /// There is one attempt more than the policy gives.
    RetriesOnceTooOften = "retries-once-too-often";
    /// There is one attempt less than the policy gives.
    RetriesOnceTooFew = "retries-once-too-few";
    /// A poison pill is never given up.
    RetriesForEver = "retries-for-ever";
    /// A retry asks no handler, and so succeeds.
    RetriesAskNobody = "retries-ask-nobody";
    /// A record that succeeded at its second attempt is handled once more.
    RetriesAfterSuccess = "retries-after-success";
    /// A handler that panics counts as content.
    PanicsAreSuccess = "panics-are-success";
    /// A handler that takes too long counts as content.
    TimeoutsAreSuccess = "timeouts-are-success";
    /// A handler that hangs is never cut off.
    WaitsForHandlersForEver = "waits-for-handlers-for-ever";

    // ── dead letters ────────────────────────────────────────────────────────────────────────────────────────────
    /// Records that are given up are dropped.
    LosesDeadLetters = "loses-dead-letters";
    /// A record that failed as often as it may counts as done.
    GivesUpWithoutALetter = "gives-up-without-a-letter";
    /// The offset of a dead letter's record is committed before the letter is written.
    DoesNotAwaitDeadLetters = "does-not-await-dead-letters";
    /// A letter the brokers did not take counts as written.
    TakesRefusedLettersForWritten = "takes-refused-letters-for-written";
    /// A letter the brokers did not take is given up.
    GivesUpOnRefusedLetters = "gives-up-on-refused-letters";
    /// The offset of a dead letter's record is never committed.
    NeverCommitsDeadLetters = "never-commits-dead-letters";
    /// A record that cannot be read is dropped.
    DropsPoison = "drops-poison";
    /// A record that cannot be read is tried again for ever.
    RetriesPoison = "retries-poison";
    /// A letter is written without the headers of its record.
    LettersLoseTheirHeaders = "letters-lose-their-headers";
    /// A letter is written without the key of its record.
    LettersLoseTheirKey = "letters-lose-their-key";
    /// A letter is written without the value of its record.
    LettersLoseTheirValue = "letters-lose-their-value";

    // ── publishing and closing ──────────────────────────────────────────────────────────────────────────────────
    /// The producer is not idempotent.
    PublishesWithoutIdempotence = "publishes-without-idempotence";
    /// The leader's acknowledgement is enough.
    WaitsForTheLeaderOnly = "waits-for-the-leader-only";
    /// A delivery that failed counts as acknowledged.
    TakesErrorsForAcknowledgements = "takes-errors-for-acknowledgements";
    /// Records are published without their key.
    PublishesWithoutKey = "publishes-without-key";
    /// A shutdown waits for the client as long as that takes.
    ClosesWithoutDeadline = "closes-without-deadline";
}

/// Which is planted: its number, from 1.
#[cfg(feature = "mutants")]
static PLANTED: AtomicUsize = AtomicUsize::new(0);

/// Whether bugs can be planted in this build.
pub const PLANTABLE: bool = cfg!(feature = "mutants");

/// Plants this bug into every bus of this process, in place of what was planted before. Does nothing unless bugs are
/// [`PLANTABLE`].
pub fn plant(mutant: Option<Mutant>) {
    #[cfg(feature = "mutants")]
    PLANTED.store(mutant.map_or(0, |mutant| mutant as usize + 1), Ordering::Relaxed);
    #[cfg(not(feature = "mutants"))]
    let _ = mutant;
}

/// Whether this bug is planted.
#[cfg(feature = "mutants")]
pub(crate) fn is(mutant: Mutant) -> bool {
    PLANTED.load(Ordering::Relaxed) == mutant as usize + 1
}

/// Whether this bug is planted: never, in this build.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub(crate) const fn is(_: Mutant) -> bool {
    false
}
