//! What the nodes of a run do: programs as a user writes them, on the real bus, that publish what the plan says and
//! handle as it says.

use super::Room;
use super::evidence::{Evidence, place};
use crate::history::{Handled as How, Place, TopicPartition, What};
use crate::name::Name;
use crate::plan::{self, Acks, Behaviour, Isolation, Plan, Reset, Switch};
use crate::world;
use rehearsal_bus::config::{AutoOffsetReset, ClientProperties, KafkaEventBusConfig, TopicNaming};
use rehearsal_bus::hooks::{Hooks, Step};
use rehearsal_bus::{AggregateId, KafkaEventBus, NotAcknowledged, RetryPolicy, prelude::*};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;
use uuid::Uuid;

/// A handler that takes longer has failed, unless its group says otherwise; without this one that hangs would hold its
/// aggregate for ever.
const HANDLER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a handler of this group may take.
pub(super) fn handler_timeout(group: &plan::Setup) -> Duration {
    match group {
        plan::Setup::Group { handler, .. } => handler.unwrap_or(HANDLER_TIMEOUT),
        _ => HANDLER_TIMEOUT,
    }
}

/// What a worker that leaves may take for it, and what the client may take after that to let go of the group.
const SHUTDOWN: Duration = Duration::from_secs(30);
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);

/// How long a node waits before it tries again what the brokers did not let it do.
const PAUSE: Duration = Duration::from_secs(1);

/// What all publishers publish.
#[derive(Debug, Clone, Serialize, Deserialize, DomainEvent)]
#[event(aggregate = "Aggregate")]
pub(super) struct Message {
    #[event(aggregate_id)]
    aggregate: String,
    message: String,
}

/// What they publish where a record is to be unreadable: one of another schema under the same name.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Unreadable {
    aggregate: [String; 1],
    message: String,
}

impl DomainEvent for Unreadable {
    const EVENT_TYPE: &'static str = Message::EVENT_TYPE;
    const AGGREGATE_TYPE: &'static str = Message::AGGREGATE_TYPE;

    fn aggregate_id(&self) -> AggregateId {
        self.aggregate[0].as_str().into()
    }
}

/// What a node that publishes is told.
#[derive(Debug)]
pub(super) struct Publisher {
    pub(super) name: Name,
    pub(super) bootstrap: String,
    pub(super) acks: Acks,
    pub(super) idempotent: Switch,
    /// By topic, in the order of time.
    pub(super) records: BTreeMap<Name, Vec<Due>>,
    pub(super) evidence: Evidence,
}

/// A record to be published.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) at: Duration,
    pub(super) message: Name,
    pub(super) aggregate: Name,
    /// Whether nobody can read it.
    pub(super) unreadable: bool,
}

/// What a node that handles is told.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) name: Name,
    pub(super) bootstrap: String,
    pub(super) group: plan::Setup,
    pub(super) instance: Option<Name>,
    /// When it works; outside of these times it has left its group.
    pub(super) shifts: Vec<Shift>,
    /// When another process has its place.
    pub(super) taken_over: Vec<Shift>,
    /// What handlers do: the lines about it, and no others.
    pub(super) behaviours: Plan,
    pub(super) room: Room,
    pub(super) evidence: Evidence,
}

/// From when until when; the last one has no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shift {
    pub(super) from: Duration,
    pub(super) until: Option<Duration>,
}

async fn sleep_until(time: Duration) {
    tokio::time::sleep(time.saturating_sub(world::now())).await;
}

fn naming() -> TopicNaming {
    TopicNaming::custom(str::to_owned)
}

/// Publishes for ever; one bus a topic.
pub(super) async fn publish(publisher: Arc<Publisher>) {
    publisher.evidence.record(&publisher.name, What::NodeStarted);
    let topics = publisher.records.keys().cloned().collect::<Vec<_>>();
    let publishing = topics.into_iter().map(|topic| publish_to(Arc::clone(&publisher), topic));
    futures::future::join_all(publishing).await;
    std::future::pending().await
}

async fn publish_to(publisher: Arc<Publisher>, topic: Name) {
    let Publisher { name, evidence, .. } = &*publisher;
    let names: Arc<Mutex<BTreeMap<Uuid, Name>>> = Arc::default();
    let config = KafkaEventBusConfig::builder()
        .bootstrap_servers(publisher.bootstrap.clone())
        .topic_prefix(&*topic)
        .topic_naming(naming())
        .consumer_group(&**name)
        .consumer_name(&**name)
        .acks(match publisher.acks {
            Acks::All => rehearsal_bus::config::Acks::All,
            Acks::One => rehearsal_bus::config::Acks::Leader,
            Acks::None => rehearsal_bus::config::Acks::Zero,
        })
        .enable_idempotence(publisher.idempotent == Switch::Yes)
        .enable_metrics(false)
        .compression(rehearsal_bus::config::Compression::None)
        .enable_tracing(false)
        .build();
    let config = config.unwrap_or_else(|error| panic!("{name} cannot be set up: {error}"));
    let bus = KafkaEventBus::builder(config).hooks(acknowledgements(&publisher, &names)).build();
    connect(&bus).await;
    for Due { at, message, aggregate, unreadable } in &publisher.records[&topic] {
        sleep_until(*at).await;
        if evidence.was_attempted(message) {
            continue; // by this node before it died
        }
        let event = record(aggregate, message, *unreadable);
        names.lock().unwrap_or_else(PoisonError::into_inner).insert(event.event_id(), message.clone());
        evidence.record(
            name,
            What::Attempted {
                message: message.clone(),
                topic: topic.clone(),
                aggregate: Some(aggregate.clone()),
                transaction: None,
            },
        );
        let (bus, evidence, name, message) = (bus.clone(), evidence.clone(), name.clone(), message.clone());
        let mut publishing = Box::pin(async move {
            if let Err(error) = bus.publish(event).await {
                evidence.record(&name, What::NotSent { message, unknown: is_unknown(&error) });
            }
        });
        // Asked once, it is on its way in the order of the calls; the answer may come when it will.
        let asked = std::future::poll_fn(|cx| Poll::Ready(publishing.as_mut().poll(cx))).await;
        if asked.is_pending() {
            tokio::spawn(publishing);
        }
    }
    std::future::pending().await
}

fn record(aggregate: &Name, message: &Name, unreadable: bool) -> AnyEvent {
    let (aggregate, message) = (aggregate.to_string(), message.to_string());
    match unreadable {
        true => Event::new(Unreadable { aggregate: [aggregate], message }).into_any(),
        false => Event::new(Message { aggregate, message }).into_any(),
    }
}

fn is_unknown(error: &BusError) -> bool {
    match error {
        BusError::NotPublished { failures, .. } => {
            failures.iter().any(|failure| matches!(failure.why, NotAcknowledged::OutcomeUnknown(_)))
        }
        _ => true,
    }
}

fn acknowledgements(publisher: &Arc<Publisher>, names: &Arc<Mutex<BTreeMap<Uuid, Name>>>) -> Hooks {
    let (publisher, names) = (Arc::clone(publisher), Arc::clone(names));
    Hooks::observed_by(move |step: &Step<'_>| {
        if let Step::Acknowledged { event_id, at } = step {
            let message = names.lock().unwrap_or_else(PoisonError::into_inner).get(event_id).cloned();
            let message = message.unwrap_or_else(|| "nameless".into());
            publisher.evidence.record(&publisher.name, What::Acknowledged { message, at: place(at) });
        }
    })
}

async fn connect(bus: &KafkaEventBus) {
    while bus.connect().await.is_err() {
        tokio::time::sleep(PAUSE).await;
    }
}

/// Works its shifts.
pub(super) async fn work(worker: Arc<Worker>) {
    for shift in &worker.shifts {
        let now = world::now();
        if shift.until.is_some_and(|until| until <= now) {
            continue; // it was dead meanwhile
        }
        sleep_until(shift.from).await;
        worker.evidence.record(&worker.name, What::NodeStarted);
        work_one_shift(&worker, shift.until).await;
    }
    std::future::pending().await
}

async fn work_one_shift(worker: &Arc<Worker>, until: Option<Duration>) {
    let mut over = Box::pin(async {
        match until {
            Some(until) => sleep_until(until).await,
            None => std::future::pending().await,
        }
    });
    loop {
        let bus = KafkaEventBus::builder(config(worker)).hooks(watch(worker)).build();
        let handling = Arc::clone(worker);
        let subscribed = bus.subscribe(move |event: Event<Message>, cx: Ctx| handle(Arc::clone(&handling), event, cx));
        if let Err(error) = subscribed {
            panic!("{} cannot subscribe: {error}", worker.name);
        }
        let consuming = async {
            connect(&bus).await;
            match bus.start_consuming_in_background() {
                Ok(consuming) => drop(consuming.ended().await),
                Err(error) => tracing::warn!(%error, "cannot consume"),
            }
        };
        tokio::select! {
            biased;
            () = &mut over => {
                worker.evidence.record(&worker.name, What::ShutdownBegan { within: SHUTDOWN + SHUTDOWN_GRACE });
                // What is cut off is delivered again, to somebody else.
                let _ = bus.shutdown(SHUTDOWN).await;
                worker.evidence.record(&worker.name, What::ShutdownDone);
                return;
            }
            () = consuming => {
                // Somebody else has its place, or its client gave up: from the start, once the place is free.
                let _ = bus.shutdown(SHUTDOWN).await;
                let now = world::now();
                let taken = worker.taken_over.iter().filter(|taken| taken.from <= now).filter_map(|taken| taken.until);
                sleep_until(taken.max().unwrap_or_default()).await;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn config(worker: &Worker) -> KafkaEventBusConfig {
    let plan::Setup::Group { name, topic, reset, isolation, retries, base, max, jitter, session, poll, .. } =
        &worker.group
    else {
        panic!("{} works in no group", worker.name);
    };
    let isolation = match isolation {
        Isolation::ReadCommitted => "read_committed",
        Isolation::ReadUncommitted => "read_uncommitted",
    };
    let mut client = vec![("isolation.level".to_owned(), isolation.to_owned())];
    client.extend(worker.instance.iter().map(|instance| ("group.instance.id".to_owned(), instance.to_string())));
    let config = KafkaEventBusConfig::builder()
        .bootstrap_servers(worker.bootstrap.clone())
        .topic_prefix(&*topic.0)
        .topic_naming(naming())
        .consumer_group(&**name)
        .consumer_name(&*worker.name)
        .auto_offset_reset(match reset {
            Reset::Earliest => AutoOffsetReset::Earliest,
            Reset::Latest => AutoOffsetReset::Latest,
        })
        .enable_metrics(false)
        .session_timeout_ms(u32::try_from(session.as_millis()).unwrap_or(u32::MAX))
        .retry(RetryPolicy::exponential(*base, *max).max_retries(*retries).jitter(jitter.get()))
        .maybe_max_poll_interval_ms(poll.map(|poll| u32::try_from(poll.as_millis()).unwrap_or(u32::MAX)))
        .handler_timeout(handler_timeout(&worker.group))
        .limits(worker.room.limits)
        .compression(rehearsal_bus::config::Compression::None)
        .client_properties(client.into_iter().collect::<ClientProperties>())
        .enable_tracing(false)
        .build();
    config.unwrap_or_else(|error| panic!("{} cannot be set up: {error}", worker.name))
}

/// What the bus tells of its work; the handler tells of itself.
fn watch(worker: &Arc<Worker>) -> Hooks {
    let worker = Arc::clone(worker);
    Hooks::observed_by(move |step: &Step<'_>| {
        let plan::Setup::Group { name: group, .. } = &worker.group else { return };
        let group = group.clone();
        let one = |topic: &str, partition: i32| vec![TopicPartition::new(topic, partition)];
        let what = match step {
            Step::Delivered { at, .. } => What::Delivered {
                group,
                at: place(at),
                message: "".into(),
                poll: worker.evidence.next_poll(),
                transaction: None,
            },
            Step::Committed { at } => {
                let Place { tp, offset } = place(at);
                What::Committed { group, partition: tp, offset }
            }
            Step::DeadLettered { at, to, attempts, .. } => {
                let (to, attempts) = (Some(place(to)), Some(*attempts));
                What::DeadLettered { group, at: place(at), to, message: "".into(), attempts }
            }
            Step::Assigned { topic, partition } => {
                What::Assigned { group, partitions: one(topic, *partition), generation: -1 }
            }
            Step::Revoked { topic, partition, lost, .. } => {
                What::Revoked { group, partitions: one(topic, *partition), lost: *lost }
            }
            _ => return,
        };
        worker.evidence.record(&worker.name, what);
    })
}

/// One attempt at a record.
async fn handle(worker: Arc<Worker>, event: Event<Message>, cx: Ctx) -> Handled {
    let mut handling = Handling::begin(&worker, &event, &cx);
    let done = behave(&mut handling).await;
    handling.how = Some(if done.is_ok() { How::Well } else { How::Failed });
    done
}

/// An attempt that runs. However it ends – it returns, panics, or is dropped half way – it says so.
struct Handling {
    worker: Arc<Worker>,
    group: Name,
    at: Place,
    message: Name,
    aggregate: Name,
    attempt: u32,
    began: Duration,
    how: Option<How>,
    /// The lines of the plan that say what it does.
    told: Vec<Name>,
}

impl Handling {
    fn begin(worker: &Arc<Worker>, event: &Event<Message>, cx: &Ctx) -> Self {
        let handling = Self {
            worker: Arc::clone(worker),
            group: cx.group().unwrap_or_default().into(),
            at: cx.source().map_or_else(|| Place::new("", -1, -1), place),
            message: event.message.as_str().into(),
            aggregate: event.aggregate.as_str().into(),
            attempt: cx.attempt(),
            began: world::now(),
            how: None,
            told: Vec::new(),
        };
        let Self { group, at, message, aggregate, attempt, .. } = &handling;
        handling.say(What::Started {
            group: group.clone(),
            at: at.clone(),
            message: message.clone(),
            aggregate: Some(aggregate.clone()),
            attempt: *attempt,
        });
        handling
    }

    fn say(&self, what: What) {
        self.worker.evidence.record(&self.worker.name, what);
    }
}

impl Drop for Handling {
    fn drop(&mut self) {
        let unfinished = || match () {
            () if std::thread::panicking() => How::Panicked,
            () if world::now().saturating_sub(self.began) >= handler_timeout(&self.worker.group) => How::Failed,
            () => How::Cancelled,
        };
        let how = self.how.unwrap_or_else(unfinished);
        let Self { group, at, message, aggregate, attempt, .. } = &*self;
        // First, so that what comes of it is not taken for a part of it.
        for label in &self.told {
            self.say(What::FaultEnded { label: label.clone() });
        }
        self.say(What::Finished {
            group: group.clone(),
            at: at.clone(),
            message: message.clone(),
            aggregate: Some(aggregate.clone()),
            attempt: *attempt,
            how,
        });
    }
}

/// As the plan says; at once and well when it says nothing.
async fn behave(handling: &mut Handling) -> Handled {
    let worker = Arc::clone(&handling.worker);
    let message = handling.message.clone();
    let group = handling.group.clone();
    for (label, behaviour) in worker.behaviours.behaviours(&group, &message) {
        let attempt = handling.attempt;
        let acts = match behaviour {
            Behaviour::Slow { .. } | Behaviour::FailAlways {} => true,
            // It is unreadable from the start; one that comes here was read.
            Behaviour::Unreadable {} => false,
            Behaviour::Fail { times }
            | Behaviour::Panic { times }
            | Behaviour::Hang { times }
            | Behaviour::Cancel { times } => attempt <= *times,
        };
        if !acts {
            continue;
        }
        let nodes = vec![worker.name.clone()];
        handling.say(What::FaultBegan { label: label.clone(), family: behaviour.family(), nodes });
        handling.say(What::FaultHit { label: label.clone() });
        handling.told.push(label.clone());
        match behaviour {
            Behaviour::Slow { by } => tokio::time::sleep(*by).await,
            Behaviour::Fail { .. } | Behaviour::FailAlways {} | Behaviour::Unreadable {} => {
                return Err(HandlerError::retry(format!("planned: {label}")));
            }
            // Without the panic hook: what is planned is no news.
            Behaviour::Panic { .. } => std::panic::resume_unwind(Box::new(format!("planned: {label}"))),
            Behaviour::Hang { .. } => std::future::pending().await,
            Behaviour::Cancel { .. } => {
                tokio::time::sleep(Duration::from_millis(500)).await;
                return Err(HandlerError::retry(format!("gave up half way, planned: {label}")));
            }
        }
    }
    Ok(())
}
