//! Which requests are meant.

use super::{Effect, Fault, ImpossibleFault, Lie, Times, When, names};
use crate::error::ErrorCode;
use crate::journal::ReceivedRequest;
use crate::output::Frame;
use crate::state::State;
use crate::state::nodes::NodeId;
use crate::wire::{ApiKey, Request, Response};
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

type Predicate = Arc<dyn Fn(&Request) -> bool + Send + Sync>;

/// Says which requests are meant: all that fit every word said. Used to plan a [`Fault`], to look requests up and to
/// wait for them.
#[derive(Clone, Default)]
pub struct Requests {
    pub(super) api: Option<ApiKey>,
    pub(super) versions: Option<RangeInclusive<i16>>,
    pub(super) client_id: Option<String>,
    pub(super) node: Option<NodeId>,
    pub(super) topic: Option<String>,
    pub(super) partition: Option<i32>,
    pub(super) name: Option<String>,
    pub(super) predicate: Option<Predicate>,
    pub(crate) skip: u64,
}

impl Requests {
    /// Every request.
    pub fn any() -> Self {
        Self::default()
    }

    /// Requests of this API.
    pub fn of(api: ApiKey) -> Self {
        Self { api: Some(api), ..Self::default() }
    }

    /// Only in these versions.
    pub fn versions(mut self, versions: RangeInclusive<i16>) -> Self {
        self.versions = Some(versions);
        self
    }

    /// Only from clients with this `client.id`.
    pub fn client(mut self, client_id: impl Into<String>) -> Self {
        self.client_id = Some(client_id.into());
        self
    }

    /// Only to this broker.
    pub fn broker(mut self, id: i32) -> Self {
        self.node = Some(NodeId(id));
        self
    }

    /// Only those that name this topic, by name or id. An incremental fetch names every partition of its session.
    pub fn topic(mut self, name: impl Into<String>) -> Self {
        self.topic = Some(name.into());
        self
    }

    /// Only those that name this partition.
    pub fn partition(mut self, index: i32) -> Self {
        self.partition = Some(index);
        self
    }

    /// Only those that name this group.
    pub fn group(self, id: impl Into<String>) -> Self {
        self.naming(id)
    }

    /// Only those that name this transactional id, coordinator key, config resource or member.
    pub fn naming(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Only those whose decoded body fits.
    pub fn matching(mut self, predicate: impl Fn(&Request) -> bool + Send + Sync + 'static) -> Self {
        self.predicate = Some(Arc::new(predicate));
        self
    }

    /// Not the first `count` that fit everything else: `.skip(2)` begins with the third.
    pub fn skip(mut self, count: u64) -> Self {
        self.skip = count;
        self
    }

    // ---- what happens ----

    /// The request does nothing and is answered with this error, in the field the API has for it: of the named
    /// partition or topic, else of the whole. Kafka's rows for what is not named are as without the fault.
    pub fn error(self, code: ErrorCode) -> Fault {
        self.suffers(Effect::Refuse(code))
    }

    /// The request takes effect, and the client is told this error all the same: a retry does it twice.
    pub fn error_after_effect(self, code: ErrorCode) -> Fault {
        self.suffers(Effect::Misreport(code))
    }

    /// The request does nothing, and is answered as if it had: an acknowledged write that is nowhere, a commit that a
    /// failing coordinator never had on disk. For Produce and OffsetCommit.
    pub fn acknowledge_without_effect(self) -> Fault {
        self.suffers(Effect::Pretend)
    }

    /// The request waits so long before the broker looks at it. It takes effect then even if its connection is gone,
    /// as what a broker has received does.
    pub fn delay(self, by: Duration) -> Fault {
        self.suffers(Effect::Delay(When::Before, by))
    }

    /// The request takes effect at once; its answer comes so much later.
    pub fn delay_answer(self, by: Duration) -> Fault {
        self.suffers(Effect::Delay(When::After, by))
    }

    /// The request waits until the fault is released. It takes effect then even if its connection is gone.
    pub fn hold(self) -> Fault {
        self.suffers(Effect::Hold(When::Before))
    }

    /// The request takes effect at once; its answer waits until the fault is released.
    pub fn hold_answer(self) -> Fault {
        self.suffers(Effect::Hold(When::After))
    }

    /// The connection closes, and the request has done nothing.
    pub fn disconnect(self) -> Fault {
        self.suffers(Effect::Disconnect(When::Before))
    }

    /// The request takes effect, then the connection closes without an answer.
    pub fn disconnect_after_effect(self) -> Fault {
        self.suffers(Effect::Disconnect(When::After))
    }

    /// The request does nothing and is never answered; its connection stays open.
    pub fn ignore(self) -> Fault {
        self.suffers(Effect::Silence(When::Before))
    }

    /// The request takes effect and is never answered; its connection stays open.
    pub fn never_answer(self) -> Fault {
        self.suffers(Effect::Silence(When::After))
    }

    /// The answer says `throttle_time_ms`, and the connection's next request is looked at only after that (KIP-219).
    pub fn throttle(self, by: Duration) -> Fault {
        self.suffers(Effect::Throttle(by))
    }

    /// Some bytes of the answer are others, chosen by the cluster's seed; its length is right.
    pub fn garble(self) -> Fault {
        self.suffers(Effect::Frame(Frame::Garbled { seed: 0 }))
    }

    /// Half of the answer is sent, then the connection closes.
    pub fn cut_short(self) -> Fault {
        self.suffers(Effect::Frame(Frame::CutShort))
    }

    /// The answer is sent twice.
    pub fn duplicate(self) -> Fault {
        self.suffers(Effect::Frame(Frame::Twice))
    }

    /// The first batch of a fetch's answer (of the named partition) fails its checksum; the log keeps the right bytes.
    pub fn corrupt_batch(self) -> Fault {
        self.suffers(Effect::CorruptBatch)
    }

    /// Metadata that is not so.
    pub fn lie(mut self, lie: Lie) -> Fault {
        self.api.get_or_insert(ApiKey::Metadata);
        self.suffers(Effect::Lie(lie))
    }

    /// Metadata as it was when the fault was planned.
    pub fn stale_metadata(self) -> Fault {
        self.lie(Lie::Stale)
    }

    /// The answer as this leaves it.
    pub fn rewrite(self, edit: impl Fn(&mut Response) + Send + Sync + 'static) -> Fault {
        self.suffers(Effect::Rewrite(Arc::new(edit)))
    }

    fn suffers(self, effect: Effect) -> Fault {
        Fault { which: self, effect, times: Times::Exactly(1), probability: 1.0, may_not_fire: false }
    }

    // ---- whether it fits ----

    /// Whether this request is meant; [`Requests::skip`] is for who counts.
    pub(crate) fn covers(&self, request: &ReceivedRequest, state: &State) -> bool {
        self.api.is_none_or(|api| request.api() == api)
            && self.versions.as_ref().is_none_or(|versions| versions.contains(&request.version))
            && self.client_id.as_deref().is_none_or(|id| request.client_id.as_str() == id)
            && self.node.is_none_or(|node| request.node == node)
            && self.names_fit(request, state)
            && self.predicate.as_ref().is_none_or(|predicate| predicate(&request.body))
    }

    fn names_fit(&self, request: &ReceivedRequest, state: &State) -> bool {
        if self.topic.is_none() && self.partition.is_none() && self.name.is_none() {
            return true;
        }
        let names = names::of(request, state);
        let topic_fits = match (&self.topic, self.partition) {
            (None, None) => true,
            (topic, partition) => names.has(topic.as_deref(), partition),
        };
        topic_fits && self.name.as_deref().is_none_or(|name| names.others.iter().any(|other| other == name))
    }

    /// Whether requests like this can come at all.
    pub(crate) fn check(&self, state: &State, words: &dyn Fn() -> String) -> Result<(), ImpossibleFault> {
        if let Some(api) = self.api {
            let Some((min, max)) = crate::handlers::versions_of(api) else {
                return Err(ImpossibleFault::NotServed { fault: words(), api });
            };
            if self.versions.as_ref().is_some_and(|asked| *asked.start() > max || *asked.end() < min) {
                return Err(ImpossibleFault::Version { fault: words(), api, min, max });
            }
            let without = |what| Err(ImpossibleFault::NamesNone { fault: words(), api, what });
            if self.topic.is_some() && !names::has_topics(api) {
                return without("topic");
            }
            if self.partition.is_some() && !names::has_partitions(api) {
                return without("partition");
            }
            if self.name.is_some() && !names::has_others(api) {
                return without("group or other name");
            }
        }
        if let Some(node) = self.node.filter(|node| state.nodes.get(*node).is_none()) {
            return Err(ImpossibleFault::NoBroker { fault: words(), node });
        }
        self.check_topic(state, words)
    }

    fn check_topic(&self, state: &State, words: &dyn Fn() -> String) -> Result<(), ImpossibleFault> {
        let Some(name) = &self.topic else { return Ok(()) };
        // Whoever creates or asks after a topic names one that is not there yet.
        let creates = self.api.is_some_and(names::may_name_what_is_not_there);
        match (state.topics.get(name), self.partition) {
            (None, _) if creates || state.configs.broker_settings().auto_create_topics => Ok(()),
            (None, _) => {
                let present = state.topics.iter().filter(|topic| !topic.is_internal());
                let present: Vec<_> = present.map(|topic| topic.name.as_str()).collect();
                let present = if present.is_empty() { "none".to_owned() } else { present.join(", ") };
                Err(ImpossibleFault::NoTopic { fault: words(), topic: name.clone(), present })
            }
            (Some(topic), Some(index)) if topic.partition(index).is_none() => Err(ImpossibleFault::NoPartition {
                fault: words(),
                topic: name.clone(),
                last: topic.partitions.len() as i32 - 1,
            }),
            (Some(_), _) => Ok(()),
        }
    }
}

impl fmt::Display for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.api {
            Some(api) => f.write_str(api.name())?,
            None => f.write_str("any request")?,
        }
        if let Some(versions) = &self.versions {
            write!(f, " v{}–{}", versions.start(), versions.end())?;
        }
        match (&self.topic, self.partition) {
            (Some(topic), Some(partition)) => write!(f, " to '{topic}' partition {partition}")?,
            (Some(topic), None) => write!(f, " to '{topic}'")?,
            (None, Some(partition)) => write!(f, " to partition {partition}")?,
            (None, None) => {}
        }
        if let Some(name) = &self.name {
            write!(f, " for '{name}'")?;
        }
        if let Some(client_id) = &self.client_id {
            write!(f, " from client '{client_id}'")?;
        }
        if let Some(node) = self.node {
            write!(f, " at {node}")?;
        }
        if self.predicate.is_some() {
            f.write_str(" that fits a predicate")?;
        }
        if self.skip > 0 {
            write!(f, " after the first {}", self.skip)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
