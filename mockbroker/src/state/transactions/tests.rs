use super::*;

const NOW: i64 = 1_000_000;
const TIMEOUT_MS: i32 = 60_000;

/// Coordinators on their own: no partitions, no markers but those a test says are written.
struct Coordinator {
    transactions: Transactions,
    ids: ProducerIds,
    now_ms: i64,
}

impl Coordinator {
    fn with_version(version: i16) -> Self {
        let settings = Settings {
            max_timeout_ms: 900_000,
            abort_interval_ms: 10_000,
            id_expiration_ms: 604_800_000,
            remove_expired_interval_ms: 3_600_000,
            version,
        };
        Self { transactions: Transactions::new(settings), ids: ProducerIds::default(), now_ms: NOW }
    }

    fn init(&mut self, expected: Option<Identity>) -> Result<Identity, ErrorCode> {
        let result = self.transactions.init(self.now_ms, "pay", TIMEOUT_MS, expected, &mut self.ids);
        result.map_err(|reject| reject.code)
    }

    fn add(&mut self, who: Identity, version: i16) -> Result<(), ErrorCode> {
        let partition = ("orders".to_owned(), 0);
        self.transactions.add(self.now_ms, "pay", who, &[partition], version).map_err(|reject| reject.code)
    }

    fn end(&mut self, who: Identity, outcome: Outcome, version: i16) -> Result<Identity, ErrorCode> {
        let result = self.transactions.end(self.now_ms, "pay", who, outcome, version, &mut self.ids);
        result.map_err(|reject| reject.code)
    }

    fn write_markers(&mut self) {
        self.transactions.marked("pay", &("orders".to_owned(), 0));
        assert!(self.transactions.complete(self.now_ms, "pay"), "something else is missing");
    }

    fn status(&self) -> Status {
        self.transactions.get("pay").expect("the id is known").status()
    }

    fn exhaust(&mut self) -> Identity {
        let last = Identity { id: 0, epoch: i16::MAX - 1 };
        self.transactions
            .change("pay", |transaction| {
                transaction.set_producer(last);
                Ok(())
            })
            .expect("the id is known");
        last
    }
}

fn id(id: i64, epoch: i16) -> Identity {
    Identity { id, epoch }
}

#[test]
fn every_producer_that_comes_raises_the_epoch_and_fences_the_one_before() {
    let mut kafka = Coordinator::with_version(0);
    assert_eq!(kafka.init(None), Ok(id(0, 0)));
    assert_eq!(kafka.init(None), Ok(id(0, 1)));
    assert_eq!(kafka.add(id(0, 0), 0), Err(ErrorCode::ProducerFenced));
    assert_eq!(kafka.add(id(9, 1), 0), Err(ErrorCode::InvalidProducerIdMapping));
    assert_eq!(kafka.add(id(0, 1), 0), Ok(()));
}

#[test]
fn a_producer_goes_on_after_an_error_unless_another_came_in_between() {
    let mut kafka = Coordinator::with_version(0);
    let first = kafka.init(None).expect("a producer");
    let second = kafka.init(Some(first)).expect("it goes on");
    assert_eq!(second, id(0, 1));
    assert_eq!(kafka.init(Some(first)), Ok(second), "the answer got lost, so it asks again");
    assert_eq!(kafka.init(None), Ok(id(0, 2)));
    assert_eq!(kafka.init(Some(second)), Err(ErrorCode::ProducerFenced));
}

#[test]
fn the_end_of_a_transaction_waits_for_its_markers() {
    let mut kafka = Coordinator::with_version(0);
    let who = kafka.init(None).expect("a producer");
    kafka.add(who, 0).expect("a partition");
    assert_eq!(kafka.end(who, Outcome::Commit, 0), Ok(Identity::NONE));
    assert_eq!(kafka.status(), Status::PrepareCommit);
    assert_eq!(kafka.add(who, 0), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(kafka.init(None), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(kafka.end(who, Outcome::Commit, 0), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(kafka.end(who, Outcome::Abort, 0), Err(ErrorCode::InvalidTxnState));
    assert_eq!(kafka.transactions.unfinished().count(), 1);

    kafka.write_markers();
    assert_eq!(kafka.status(), Status::CompleteCommit);
    assert_eq!(kafka.end(who, Outcome::Commit, 0), Ok(Identity::NONE), "again, for the answer may have got lost");
    assert_eq!(kafka.end(who, Outcome::Abort, 0), Err(ErrorCode::InvalidTxnState));
    assert_eq!(kafka.transactions.unfinished().count(), 0);
}

#[test]
fn before_version_2_an_end_without_a_beginning_is_refused() {
    let mut kafka = Coordinator::with_version(0);
    let who = kafka.init(None).expect("a producer");
    for outcome in [Outcome::Commit, Outcome::Abort] {
        assert_eq!(kafka.end(who, outcome, 0), Err(ErrorCode::InvalidTxnState));
    }
}

#[test]
fn from_version_2_on_every_end_raises_the_epoch_and_a_retry_is_told_from_the_next_end() {
    let mut kafka = Coordinator::with_version(2);
    let who = kafka.init(None).expect("a producer");
    kafka.add(who, 2).expect("a partition");
    let next = kafka.end(who, Outcome::Commit, 2).expect("it ends");
    assert_eq!(next, id(0, 1));
    assert_eq!(kafka.end(who, Outcome::Commit, 2), Err(ErrorCode::ConcurrentTransactions));
    kafka.write_markers();

    assert_eq!(kafka.end(who, Outcome::Commit, 2), Ok(next), "the answer got lost");
    assert_eq!(kafka.end(who, Outcome::Abort, 2), Err(ErrorCode::InvalidTxnState), "it was committed");
    assert_eq!(kafka.end(next, Outcome::Commit, 2), Err(ErrorCode::InvalidTxnState), "nothing has begun");
    assert_eq!(kafka.add(who, 2), Err(ErrorCode::ProducerFenced));
    assert_eq!(kafka.add(next, 2), Ok(()));
}

#[test]
fn from_version_2_on_nothing_can_be_aborted_but_not_committed() {
    let mut kafka = Coordinator::with_version(2);
    let who = kafka.init(None).expect("a producer");
    assert_eq!(kafka.end(who, Outcome::Commit, 2), Err(ErrorCode::InvalidTxnState));
    assert_eq!(kafka.end(who, Outcome::Abort, 2), Ok(id(0, 1)));
    assert!(kafka.transactions.complete(NOW, "pay"), "there is no partition to wait for");
    assert_eq!(kafka.end(id(0, 1), Outcome::Abort, 2), Ok(id(0, 2)));
}

#[test]
fn a_producer_that_comes_aborts_what_the_one_before_left_open() {
    for (version, epoch_after) in [(0, 2), (2, 2)] {
        let mut kafka = Coordinator::with_version(version);
        let who = kafka.init(None).expect("a producer");
        kafka.add(who, version).expect("a partition");
        assert_eq!(kafka.init(None), Err(ErrorCode::ConcurrentTransactions));
        assert_eq!(kafka.status(), Status::PrepareAbort);
        kafka.write_markers();
        assert_eq!(kafka.init(None), Ok(id(0, epoch_after)), "version {version}");
    }
}

#[test]
fn an_exhausted_epoch_gives_way_to_a_new_producer_id() {
    let mut kafka = Coordinator::with_version(2);
    kafka.init(None).expect("a producer");
    let last = kafka.exhaust();
    kafka.add(last, 2).expect("a partition");
    assert_eq!(kafka.end(last, Outcome::Commit, 2), Ok(id(1, 0)));
    kafka.write_markers();
    assert_eq!(kafka.end(last, Outcome::Commit, 2), Ok(id(1, 0)), "the answer got lost");
    assert_eq!(kafka.add(id(1, 0), 2), Ok(()));

    let mut kafka = Coordinator::with_version(0);
    kafka.init(None).expect("a producer");
    let last = kafka.exhaust();
    assert_eq!(kafka.init(Some(last)), Ok(id(1, 0)));
    assert_eq!(kafka.init(Some(last)), Ok(id(1, 0)), "the answer got lost");
}

#[test]
fn a_transaction_that_is_open_for_too_long_comes_up_at_the_next_look() {
    let mut kafka = Coordinator::with_version(2);
    let who = kafka.init(None).expect("a producer");
    kafka.add(who, 2).expect("a partition");
    let at = kafka.transactions.next_deadline_ms().expect("a timeout");
    assert_eq!(at, 1_070_000, "the first multiple of ten seconds after a minute");
    assert_eq!(kafka.transactions.take_due(at - 1), None);
    assert_eq!(kafka.transactions.take_due(at), Some(("pay".into(), Due::TimedOut)));

    kafka.transactions.abort(at, "pay", &mut kafka.ids);
    assert_eq!(kafka.status(), Status::PrepareAbort);
    assert_eq!(kafka.transactions.next_deadline_ms(), None);
    kafka.write_markers();
    assert_eq!(kafka.end(who, Outcome::Commit, 2), Err(ErrorCode::InvalidTxnState), "its end came too late");
}

#[test]
fn an_id_nobody_uses_expires() {
    let mut kafka = Coordinator::with_version(2);
    kafka.init(None).expect("a producer");
    let at = kafka.transactions.next_deadline_ms().expect("an expiration");
    assert!(at >= NOW + 604_800_000);
    assert_eq!(kafka.transactions.take_due(at), Some(("pay".into(), Due::Expired)));
    kafka.transactions.remove("pay");
    assert_eq!(kafka.transactions.iter().count(), 0);
    assert_eq!(kafka.init(None), Ok(id(1, 0)));
}

#[test]
fn timeouts_have_a_limit() {
    let kafka = Coordinator::with_version(2);
    assert_eq!(kafka.transactions.check_timeout(900_000), Ok(()));
    for bad in [0, -1, 900_001] {
        let refused = kafka.transactions.check_timeout(bad).expect_err("a refusal");
        assert_eq!(refused.code, ErrorCode::InvalidTransactionTimeout);
    }
}
