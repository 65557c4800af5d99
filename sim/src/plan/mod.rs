//! What will happen, decided before anything does: the workload and the faults of one run, as a flat list of lines.
//!
//! ```text
//! rehearsal plan 1
//! seed 7
//! chaos 60s
//! settle 120s
//! brokers 3
//! topic orders partitions 6 replicas 3 #t-orders
//! group billing reads orders reset earliest isolation read-committed retries 3 base 1s max 60s jitter 0.1 session 45s #g-billing
//! publisher pub-1 acks all idempotent yes #n-pub-1
//! worker worker-1 in billing #n-worker-1
//! at 1.2s publish 5 of A17 by pub-1 to orders every 200ms #w17
//! on w17/3 in billing fail 2 times #h3
//! at 12.5s crash broker 2 for 4s #f3
//! ```
//!
//! A plan is drawn from a seed by [`swarm`](crate::swarm), saved as this text, replayed, edited by hand, and made small
//! by [`shrink`](crate::shrink). Three things make it keep its meaning over the years:
//!
//! - Every line has a **label**, and lines name each other by label or by name, never by position: taking one line
//!   away changes nothing about the others.
//! - What chance a line needs while it runs comes from a stream named after its label ([`Plan::chance`]), not from one
//!   that all lines share.
//! - A line says everything in full; a default that changes later changes no saved plan.
//!
//! `mod.rs` has the plan and what can be done with one; `entry.rs` says what lines there are; `field.rs` what they are
//! made of; `text.rs` reads and prints.
//!
//! ```
//! use rehearsal_sim::plan::Plan;
//!
//! let text = "rehearsal plan 1\nseed 7\nchaos 60s\nsettle 120s\nbrokers 3\nat 12.5s crash broker 2 for 4s #f3\n";
//! let plan: Plan = text.parse()?;
//! assert_eq!(plan.faults().count(), 1);
//! assert_eq!(plan.to_string(), text);
//!
//! let error = text.replace("broker 2", "broker 4").parse::<Plan>().unwrap_err();
//! assert_eq!(error.to_string(), "line 6, column 23: expected a broker from 1 to 3, found `4`");
//! # Ok::<(), rehearsal_sim::plan::ParseError>(())
//! ```

mod entry;
mod field;
mod text;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

pub use entry::{Behaviour, Family, Fault, Setup, Work};
pub use field::{
    Acks, Api, Broker, Client, Damage, ErrorName, Group, Isolation, Lasting, Node, Nodes, Partition, Records,
    Reference, Reset, Share, Shift, Switch, Time, Topic, parse_time,
};
pub use text::ParseError;

use crate::chance::Chance;
use crate::history::{GroupTerms, Terms};
use crate::name::Name;

/// The workload and the faults of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Where all chance of the run comes from.
    pub seed: u64,
    /// How long faults may rage; all are healed by then.
    pub chaos: Duration,
    /// How long the run may then take to come to rest, before it counts as stuck.
    pub settle: Duration,
    /// How many brokers there are, numbered from 1.
    pub brokers: u32,
    /// Everything else, in the order in which it is read.
    pub lines: Vec<Line>,
}

/// One line of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its name; no other line has it.
    pub label: Name,
    /// What it says.
    pub entry: Entry,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// What there is from the start.
    Setup(Setup),
    /// What publishers do, and when, since the start of the run.
    Work {
        /// When.
        at: Duration,
        /// What.
        work: Work,
    },
    /// What goes wrong, and when.
    Fault {
        /// When.
        at: Duration,
        /// What.
        fault: Fault,
    },
    /// What handlers do with some records.
    Behaviour {
        /// Which records.
        records: Records,
        /// In which group; in all of them when absent.
        group: Option<Group>,
        /// What.
        behaviour: Behaviour,
    },
}

/// One record a plan publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned<'a> {
    /// Its name in the history: `w17/3`.
    pub message: Name,
    /// When it is to be published.
    pub at: Duration,
    /// The line it comes from.
    pub line: &'a Name,
    /// Its key.
    pub aggregate: &'a Name,
    /// Who publishes it.
    pub publisher: &'a Name,
    /// Where.
    pub topic: &'a Name,
}

/// Something that is due at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due<'a> {
    /// A record is to be published.
    Publish(Planned<'a>),
    /// The fault of this label begins; that is all if it [lasts](Fault::lasts) no time.
    Begins(&'a Name, &'a Fault),
    /// It is over, and is healed.
    Ends(&'a Name, &'a Fault),
}

/// A line that contradicts the rest of its plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {label}: expected {expected}, found `{word}`")]
pub struct Contradiction {
    /// Which line, counted from 0 among [`Plan::lines`].
    pub line: usize,
    /// Its label.
    pub label: Name,
    /// What is wrong in it.
    pub word: String,
    /// What would be right.
    pub expected: String,
}

impl Plan {
    /// The chance of one line while it runs: the same whatever other lines there are.
    pub fn chance(&self, label: &str) -> Chance {
        Chance::of(self.seed, label)
    }

    /// What is there from the start.
    pub fn setup(&self) -> impl Iterator<Item = &Setup> {
        self.lines.iter().filter_map(|line| if let Entry::Setup(setup) = &line.entry { Some(setup) } else { None })
    }

    /// What goes wrong at a moment: label, when, what. In the order of the text, not of time.
    pub fn faults(&self) -> impl Iterator<Item = (&Name, Duration, &Fault)> {
        self.lines.iter().filter_map(|line| match &line.entry {
            Entry::Fault { at, fault } => Some((&line.label, *at, fault)),
            _ => None,
        })
    }

    /// All records to be published, by time; those of the same time in the order of the text.
    pub fn records(&self) -> Vec<Planned<'_>> {
        let mut records = Vec::new();
        for line in &self.lines {
            let Entry::Work { at, work: Work::Publish { records: count, aggregate, publisher, topic, every } } =
                &line.entry
            else {
                continue;
            };
            records.extend((0..*count).map(|index| Planned {
                message: format!("{}/{index}", line.label).into(),
                at: at.saturating_add(every.saturating_mul(index)),
                line: &line.label,
                aggregate,
                publisher: &publisher.0,
                topic: &topic.0,
            }));
        }
        records.sort_by_key(|record| record.at);
        records
    }

    /// All that happens at a moment, by time: what is due first comes first; at the same time faults end, then others
    /// begin, then records are published.
    pub fn agenda(&self) -> Vec<(Duration, Due<'_>)> {
        let faults = self.faults().flat_map(|(label, at, fault)| {
            let begins = (at, Due::Begins(label, fault));
            let ends = (!fault.lasts().is_zero()).then(|| (at.saturating_add(fault.lasts()), Due::Ends(label, fault)));
            [Some(begins), ends].into_iter().flatten()
        });
        let mut agenda: Vec<(Duration, Due<'_>)> = faults.collect();
        agenda.extend(self.records().into_iter().map(|record| (record.at, Due::Publish(record))));
        let turn = |due: &Due<'_>| match due {
            Due::Ends(..) => 0,
            Due::Begins(..) => 1,
            Due::Publish(_) => 2,
        };
        agenda.sort_by_key(|(at, due)| (*at, turn(due)));
        agenda
    }

    /// What a group's handler does with a record, by the record's name (`w17/3`): all lines that name it, in order.
    pub fn behaviours<'a>(
        &'a self,
        group: &'a str,
        message: &'a str,
    ) -> impl Iterator<Item = (&'a Name, &'a Behaviour)> {
        let (line, index) = message.rsplit_once('/').unwrap_or((message, ""));
        let index = index.parse::<u32>().ok();
        self.lines.iter().filter_map(move |entry| match &entry.entry {
            Entry::Behaviour { records, group: of, behaviour }
                if records.line == line
                    && (records.index.is_none() || records.index == index)
                    && of.as_ref().is_none_or(|of| of.0 == group) =>
            {
                Some((&entry.label, behaviour))
            }
            _ => None,
        })
    }

    /// Which families of faults are in it.
    pub fn families(&self) -> BTreeSet<Family> {
        self.lines.iter().filter_map(|line| line.entry.family()).collect()
    }

    /// The terms of its groups, for the [history](crate::history) of the run.
    pub fn terms(&self) -> Terms {
        let groups = self.setup().filter_map(|setup| match setup {
            Setup::Group { name, topic, reset, isolation, retries, base, max, jitter, session, .. } => Some((
                name.clone(),
                GroupTerms {
                    topics: vec![topic.0.clone()],
                    read_committed: *isolation == Isolation::ReadCommitted,
                    from_earliest: *reset == Reset::Earliest,
                    retries: *retries,
                    base: *base,
                    max: *max,
                    jitter: jitter.get(),
                    session: *session,
                },
            )),
            _ => None,
        });
        Terms { groups: groups.collect(), ..Terms::default() }
    }

    /// The plan without these lines, and without all that only made sense with them: what a publisher publishes, what
    /// handlers do with those records, faults of a node that is gone.
    #[must_use]
    pub fn without(&self, labels: &BTreeSet<Name>) -> Self {
        let mut plan = self.clone();
        plan.lines.retain(|line| !labels.contains(&line.label));
        // A fault of several nodes keeps those that are left.
        let known = Known::of(&plan);
        for line in &mut plan.lines {
            if let Entry::Fault { fault, .. } = &mut line.entry {
                fault.keep_nodes(|node| match node {
                    Node::Broker(number) => *number <= known.brokers,
                    Node::Named(name) => known.nodes.contains(name),
                });
            }
        }
        // Each round takes at least one line away.
        while let Err(wrong) = plan.check() {
            plan.lines.remove(wrong.line);
        }
        plan
    }

    /// Whether everything a line refers to is there, every label and name is given once, and every fault is over when
    /// the chaos is.
    ///
    /// # Errors
    /// The first line that contradicts the rest.
    pub fn check(&self) -> Result<(), Contradiction> {
        let known = Known::of(self);
        let mut labels = BTreeSet::new();
        let mut names = BTreeSet::new();
        for (index, line) in self.lines.iter().enumerate() {
            let wrong = |word: &str, expected: String| {
                Err(Contradiction { line: index, label: line.label.clone(), word: word.to_owned(), expected })
            };
            if !labels.insert(&line.label) {
                return wrong(&line.label, "a label no other line has".to_owned());
            }
            if let Entry::Setup(setup) = &line.entry
                && !names.insert((setup.kind(), setup.name()))
            {
                return wrong(setup.name(), "a name no other line of its kind has".to_owned());
            }
            for reference in line.entry.references() {
                if let Some((word, expected)) = known.lacks(&reference) {
                    return wrong(&word, expected);
                }
            }
            if let Entry::Behaviour { records: Records { line: published, index: Some(record) }, .. } = &line.entry
                && known.records.get(published).is_some_and(|count| record >= count)
            {
                return wrong(
                    &record.to_string(),
                    format!("a record of {published}, which has {}", known.records[published]),
                );
            }
            if let Entry::Fault { at, fault } = &line.entry
                && at.saturating_add(fault.lasts()) > self.chaos
            {
                return wrong(
                    &Time(*at).to_string(),
                    format!("a fault that is over by {}, when the chaos is", Time(self.chaos)),
                );
            }
        }
        Ok(())
    }
}

impl Entry {
    /// What it needs other lines for.
    pub fn references(&self) -> Vec<Reference> {
        match self {
            Self::Setup(setup) => setup.references(),
            Self::Work { work, .. } => work.references(),
            Self::Fault { fault, .. } => fault.references(),
            Self::Behaviour { records, group, behaviour } => {
                let mut references = behaviour.references();
                references.push(Reference::Line(records.line.clone()));
                references.extend(group.iter().map(|group| Reference::Group(group.0.clone())));
                references
            }
        }
    }

    /// Of which family of faults it is, if it is one.
    pub const fn family(&self) -> Option<Family> {
        match self {
            Self::Fault { fault, .. } => Some(fault.family()),
            Self::Behaviour { behaviour, .. } => Some(behaviour.family()),
            Self::Setup(_) | Self::Work { .. } => None,
        }
    }

    /// For how long it lasts, to be changed; `None` when it happens at one moment, or is no fault.
    pub(crate) fn lasting_mut(&mut self) -> Option<&mut Duration> {
        match self {
            Self::Fault { fault, .. } => fault.lasting_mut(),
            Self::Behaviour { behaviour, .. } => behaviour.lasting_mut(),
            Self::Setup(setup) => setup.lasting_mut(),
            Self::Work { work, .. } => work.lasting_mut(),
        }
    }
}

impl Setup {
    /// Publishers, workers and programs are all nodes, and no two nodes have one name.
    const fn kind(&self) -> &'static str {
        match self {
            Self::Publisher { .. } | Self::Worker { .. } | Self::Program { .. } => "node",
            Self::Topic { .. } | Self::Group { .. } => self.verb(),
        }
    }

    /// The name of what it sets up.
    pub const fn name(&self) -> &Name {
        match self {
            Self::Topic { name, .. }
            | Self::Group { name, .. }
            | Self::Publisher { name, .. }
            | Self::Worker { name, .. }
            | Self::Program { name } => name,
        }
    }
}

/// What a plan sets up.
#[derive(Default)]
struct Known {
    brokers: u32,
    /// With the most partitions it ever has.
    topics: BTreeMap<Name, u32>,
    groups: BTreeSet<Name>,
    nodes: BTreeSet<Name>,
    /// Lines that publish, with how many records.
    records: BTreeMap<Name, u32>,
}

impl Known {
    fn of(plan: &Plan) -> Self {
        let mut known = Self { brokers: plan.brokers, ..Self::default() };
        for line in &plan.lines {
            match &line.entry {
                Entry::Setup(Setup::Topic { name, partitions, .. }) => {
                    known.topics.insert(name.clone(), *partitions);
                }
                Entry::Setup(Setup::Group { name, .. }) => {
                    known.groups.insert(name.clone());
                }
                Entry::Setup(Setup::Publisher { name, .. } | Setup::Worker { name, .. } | Setup::Program { name }) => {
                    known.nodes.insert(name.clone());
                }
                Entry::Work { work: Work::Publish { records, .. }, .. } => {
                    known.records.insert(line.label.clone(), *records);
                }
                Entry::Fault { .. } | Entry::Behaviour { .. } => {}
            }
        }
        known
    }

    /// The word that names what is not there, and what would be.
    fn lacks(&self, reference: &Reference) -> Option<(String, String)> {
        use field::listed;
        let lacking = |word: &Name, what: &str, there: String| Some((word.to_string(), format!("{what} ({there})")));
        match reference {
            Reference::Broker(number) if *number == 0 || *number > self.brokers => {
                Some((number.to_string(), format!("a broker from 1 to {}", self.brokers)))
            }
            Reference::Node(name) if !self.nodes.contains(name) => {
                lacking(name, "the name of a publisher, worker or program", listed(self.nodes.iter()))
            }
            Reference::Topic(name) | Reference::Partition(name, _) if !self.topics.contains_key(name) => {
                lacking(name, "the name of a topic", listed(self.topics.keys()))
            }
            Reference::Partition(name, index) if *index >= self.topics[name] => {
                Some((index.to_string(), format!("a partition of {name}, which has {} from 0", self.topics[name])))
            }
            Reference::Group(name) if !self.groups.contains(name) => {
                lacking(name, "the name of a group", listed(self.groups.iter()))
            }
            Reference::Line(label) if !self.records.contains_key(label) => {
                lacking(label, "the label of a `publish` line", listed(self.records.keys()))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
