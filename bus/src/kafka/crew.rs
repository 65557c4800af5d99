//! Those who carry attempts out: as many workers as the runtime has threads, taking from one queue.
//!
//! Most handlers are done when they are called, so an attempt is polled where it is taken and costs no task of its
//! own. One that must wait keeps its worker, and another worker takes its place: handlers that wait never hold up
//! those that need not, and a handler that blocks its thread holds up no other thread.

use super::Shared;
use super::consume::attempt;
use super::record::Record;
use crate::engine::{Input, Outcome, Start, Ticket};
use futures::FutureExt;
use futures::future::{AbortHandle, AbortRegistration, Abortable};
use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A worker lets other tasks run after so many attempts, or as soon as they have taken this long: the driver may wait
/// for the same thread, and a handler's own budget within the runtime is one turn's.
const ATTEMPTS_PER_TURN: usize = 64;
const TURN: Duration = Duration::from_micros(500);

/// What came of work, on its way to the driver, which takes all there is at once.
#[derive(Default)]
pub(super) struct Reports {
    inputs: Mutex<Vec<Input<Arc<Record>>>>,
    arrived: Notify,
}

impl Reports {
    pub(super) fn send(&self, input: Input<Arc<Record>>) {
        // Bounded by what the engine lets be in work.
        let mut inputs = self.inputs.lock().unwrap_or_else(PoisonError::into_inner);
        inputs.push(input);
        if inputs.len() == 1 {
            drop(inputs);
            self.arrived.notify_one();
        }
    }

    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Exchanges the reports there are for an empty list.
    pub(super) fn take(&self, into: &mut Vec<Input<Arc<Record>>>) {
        std::mem::swap(&mut *self.inputs.lock().unwrap_or_else(PoisonError::into_inner), into);
    }
}

/// Cloning shares it.
#[derive(Clone)]
pub(super) struct Crew(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    reports: Arc<Reports>,
    cancellation: Arc<CancellationToken>,
    runtime: Handle,
    places: usize,
    board: Mutex<Board>,
}

#[derive(Default)]
struct Board {
    waiting: VecDeque<Start<Arc<Record>>>,
    /// Workers that take from the queue.
    working: usize,
    /// The attempts they are polling for the first time.
    polling: Vec<Ticket>,
    /// Attempts that had to wait, and how to end them.
    slow: HashMap<Ticket, AbortHandle>,
    /// Attempts that must not go on once their first poll is over.
    abandoned: HashSet<Ticket>,
}

impl Crew {
    /// A crew on the current runtime.
    pub(super) fn new(shared: Arc<Shared>, reports: Arc<Reports>, cancellation: CancellationToken) -> Self {
        let runtime = Handle::current();
        let places = runtime.metrics().num_workers().max(1);
        let (board, cancellation) = (Mutex::default(), Arc::new(cancellation));
        Self(Arc::new(Inner { shared, reports, cancellation, runtime, places, board }))
    }

    /// Has these attempts made, and leaves the list empty.
    pub(super) fn hand_over(&self, starts: &mut Vec<Start<Arc<Record>>>) {
        let mut board = self.0.board();
        board.waiting.extend(starts.drain(..));
        let wanted = self.0.places.min(board.working + board.waiting.len());
        let missing = wanted.saturating_sub(board.working);
        board.working += missing;
        drop(board);
        for _ in 0..missing {
            self.0.runtime.spawn(work(self.0.clone()));
        }
    }

    /// Cuts an attempt off. Its report, should it still come, is the engine's to ignore.
    pub(super) fn abandon(&self, ticket: Ticket) {
        let mut board = self.0.board();
        if let Some(attempt) = board.slow.remove(&ticket) {
            attempt.abort();
        } else if board.polling.contains(&ticket) {
            board.abandoned.insert(ticket);
        } else {
            board.waiting.retain(|start| start.ticket != ticket);
        }
    }
}

/// One worker's life: until nothing is left to take.
async fn work(crew: Arc<Inner>) {
    let (mut before, mut turn, mut attempts) = (None, Instant::now(), 0);
    while let Some(start) = crew.next(before.take()) {
        let Start { ticket, payload: record, only_handlers } = start;
        let attempt = attempt(&crew.shared, &record, ticket, only_handlers.as_ref(), &crew.cancellation);
        // Handlers' panics are caught where they are called; this is for those of a type's own decoding.
        let attempt = AssertUnwindSafe(attempt).catch_unwind().map(|ended| ended.unwrap_or_else(|_| panicked()));
        let mut attempt = pin!(attempt);
        let first = std::future::poll_fn(|cx| Poll::Ready(attempt.as_mut().poll(cx))).await;
        match first {
            Poll::Ready(outcome) => {
                before = Some(ticket);
                crew.reports.send(Input::Finished { ticket, outcome });
            }
            Poll::Pending => {
                let Some(abort) = crew.step_aside(ticket) else { return };
                let Ok(outcome) = Abortable::new(attempt, abort).await else { return };
                crew.reports.send(Input::Finished { ticket, outcome });
                if !crew.step_in(ticket) {
                    return;
                }
            }
        }
        attempts += 1;
        if attempts >= ATTEMPTS_PER_TURN || turn.elapsed() > TURN {
            tokio::task::yield_now().await;
            (turn, attempts) = (Instant::now(), 0);
        }
    }
}

fn panicked() -> Outcome {
    Outcome::Poison { error_type: "Panic".into(), message: "reading the event panicked".into() }
}

impl Inner {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next attempt to make, after `before`; a worker for whom there is none leaves.
    fn next(&self, before: Option<Ticket>) -> Option<Start<Arc<Record>>> {
        let mut board = self.board();
        if let Some(before) = before {
            board.polled(before);
        }
        match board.waiting.pop_front() {
            Some(start) => {
                board.polling.push(start.ticket);
                Some(start)
            }
            None => {
                board.working -= 1;
                None
            }
        }
    }

    /// The attempt must wait, so its worker is not there for others; `None` when it is not to go on at all.
    fn step_aside(self: &Arc<Self>, ticket: Ticket) -> Option<AbortRegistration> {
        let mut board = self.board();
        let abandoned = board.polled(ticket);
        let registration = (!abandoned).then(|| {
            let (handle, registration) = AbortHandle::new_pair();
            board.slow.insert(ticket, handle);
            registration
        });
        let substitute = !board.waiting.is_empty();
        board.working -= usize::from(!substitute);
        drop(board);
        if substitute {
            self.runtime.spawn(work(self.clone()));
        }
        registration
    }

    /// The attempt is over; whether its worker may go on with others.
    fn step_in(&self, ticket: Ticket) -> bool {
        let mut board = self.board();
        board.slow.remove(&ticket);
        let needed = board.working < self.places && !board.waiting.is_empty();
        board.working += usize::from(needed);
        needed
    }
}

impl Board {
    /// The first poll of an attempt is over; whether it was abandoned meanwhile.
    fn polled(&mut self, ticket: Ticket) -> bool {
        self.polling.retain(|polling| *polling != ticket);
        self.abandoned.remove(&ticket)
    }
}
