//! What there is around a program that is run as it is: a cluster on the simulated network, and the faults of a plan.
//!
//! [`Settings`] go from the process that wants a program run – which [checks](Settings::check) them, and hands them to
//! [`program::start`](rehearsal_sim_kernel::front::program::start) – to the library in the program's own process, where
//! [`Settings::read`] makes a simulation of them.

use crate::drive::evidence::Evidence;
use crate::drive::faults::{self, Faults};
use crate::drive::topics_of;
use crate::host::{self, Brokers};
use crate::plan::{Due, Entry, Fault, Plan, Setup};
use crate::{check, world::World};
use rehearsal_mockbroker::config::{ClusterConfig, TopicConfig};
use rehearsal_mockbroker::state::nodes::NodeId;
use rehearsal_sim_kernel::config::{Config, HandOver};
use rehearsal_sim_kernel::front::{self, program::Program};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// What a run of a program follows from, besides the program itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Settings {
    /// Where all chance comes from, also where the plan names another seed.
    pub seed: u64,
    /// How many brokers there are, with ids from 1; what the plan says, or 1, when absent.
    pub brokers: Option<u32>,
    /// Topics and their partitions, besides those of the plan.
    pub topics: Vec<(String, u32)>,
    /// A plan as text, of which topics and faults count.
    pub plan: Option<String>,
    /// The run is given up after so many seconds of real time.
    pub wall_seconds: u64,
    /// Whether to keep a line for every step, to find where two runs part.
    pub log_steps: bool,
}

/// The program's node, where no plan names it.
const NAME: &str = "program";

/// Settings that make sense.
#[derive(Debug)]
pub struct Checked {
    settings: Settings,
    plan: Option<Plan>,
}

impl Settings {
    /// Whether the plan can be carried out around a program, and the cluster exists.
    ///
    /// # Errors
    /// In one sentence, what is wrong.
    pub fn check(self) -> Result<Checked, String> {
        let plan: Option<Plan> = match &self.plan {
            Some(text) => Some(text.parse().map_err(|error| format!("in the plan: {error}"))?),
            None => None,
        };
        if let Some(plan) = &plan {
            suits(plan)?;
        }
        let checked = Checked { settings: self, plan };
        // Only to see whether it can be made.
        rehearsal_mockbroker::cluster::Cluster::new(&checked.cluster()).map_err(|error| error.to_string())?;
        Ok(checked)
    }

    /// As [`check`](Self::check), from what [`Checked::text`] wrote.
    ///
    /// # Errors
    /// In one sentence, what is wrong.
    pub fn read(text: &str) -> Result<Checked, String> {
        let settings: Self = serde_json::from_str(text).map_err(|error| {
            format!(
                "the preloaded library does not understand the program that preloads it; build both together: {error}"
            )
        })?;
        settings.check()
    }
}

/// Whether a plan only says what can be done around a program.
fn suits(plan: &Plan) -> Result<(), String> {
    let programs = plan.setup().filter(|setup| matches!(setup, Setup::Program { .. })).count();
    if programs > 1 {
        return Err("the plan has more than one `program`, and a run carries one".into());
    }
    for line in &plan.lines {
        let why = match &line.entry {
            Entry::Setup(Setup::Topic { .. } | Setup::Group { .. } | Setup::Program { .. }) => None,
            Entry::Fault { fault: Fault::Kill { .. }, .. } => {
                Some("a program that is run as it is cannot be killed and started again; `pause` it instead".to_owned())
            }
            Entry::Fault { fault, .. } => faults::why_not(plan, fault),
            _ => Some("the program does the work, so its plan holds topics, groups and faults only".to_owned()),
        };
        if let Some(why) = why {
            return Err(format!("line #{} of the plan cannot be carried out: {why}", line.label));
        }
    }
    Ok(())
}

impl Checked {
    /// For [`Settings::read`]: one line.
    pub fn text(&self) -> String {
        serde_json::to_string(&self.settings).unwrap_or_default()
    }

    fn brokers(&self) -> u32 {
        self.settings.brokers.or(self.plan.as_ref().map(|plan| plan.brokers)).unwrap_or(1)
    }

    /// Where the program finds the cluster: all its brokers.
    pub fn bootstrap_servers(&self) -> String {
        let brokers = 1..=i32::try_from(self.brokers()).unwrap_or(i32::MAX);
        let addresses = brokers.map(|id| format!("{}:{}", host::name_of(NodeId(id)), host::PORT));
        addresses.collect::<Vec<_>>().join(",")
    }

    fn cluster(&self) -> ClusterConfig {
        let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        let mut config = ClusterConfig::with_brokers(number(self.brokers()));
        config.seed = self.settings.seed;
        config.requests_kept = 0;
        config.topics.extend(self.plan.iter().flat_map(topics_of));
        for (name, partitions) in &self.settings.topics {
            config.topics.push(TopicConfig::new(name, number(*partitions)));
        }
        config
    }

    /// The kernel's settings.
    pub fn kernel_config(&self) -> Config {
        Config {
            wall_max: Duration::from_secs(self.settings.wall_seconds),
            // Somebody's runtime may have an idea of its own of what a thread is, such as where its signals are handled.
            hand_over: HandOver::Wake,
            log_steps: self.settings.log_steps,
            ..Config::with_seed(self.settings.seed)
        }
    }

    /// Directs the run, on the simulation's first thread: sets the cluster up, begins the program, carries the plan out.
    ///
    /// # Panics
    /// The cluster cannot be made, which [`Settings::check`] has seen to.
    pub fn direct(self, program: Program) {
        let config = self.cluster();
        let installed = front::kernel(|kernel, _| Brokers::install(kernel, config));
        let brokers = installed.unwrap_or_else(|error| panic!("the cluster cannot be made: {error}"));
        let node = front::kernel(|kernel, _| kernel.add_node(self.name()));
        program.start(node);
        if let Some(plan) = &self.plan {
            carry_out(plan, &World::new(Some(brokers), BTreeMap::new()));
        }
    }

    fn name(&self) -> &str {
        let named = self.plan.iter().flat_map(Plan::setup).find_map(|setup| match setup {
            Setup::Program { name } => Some(&**name),
            _ => None,
        });
        named.unwrap_or(NAME)
    }
}

fn carry_out(plan: &Plan, world: &World) {
    let faults = Faults::of(plan, Evidence::default());
    for (at, due) in plan.agenda() {
        check::sleep_until(world, at);
        match due {
            Due::Begins(label, fault) => faults.begin(world, label, fault),
            Due::Ends(label, fault) => faults.end(world, label, fault),
            Due::Publish(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(plan: &str) -> Settings {
        let plan = Some(format!("rehearsal plan 1\nseed 1\nchaos 60s\nsettle 60s\nbrokers 3\n{plan}"));
        Settings {
            seed: 7,
            brokers: None,
            topics: vec![("orders".into(), 4)],
            plan,
            wall_seconds: 60,
            log_steps: false,
        }
    }

    #[test]
    fn a_plan_gives_brokers_names_and_faults() {
        let plan = "program shop #n\nat 20s cut broker-1,broker-2,broker-3 from shop for 20s #f1\n";
        let checked = settings(plan).check().expect("a good plan");
        assert_eq!(checked.bootstrap_servers(), "broker-1:9092,broker-2:9092,broker-3:9092");
        assert_eq!(checked.name(), "shop");
        let read = Settings::read(&checked.text()).expect("what was written can be read");
        assert_eq!(read.cluster().topics, checked.cluster().topics);
    }

    #[test]
    fn what_a_program_cannot_be_put_through_is_refused_by_its_line() {
        let killed = settings("program shop #n\nat 1s kill shop for 5s #f1\n").check().expect_err("a kill");
        assert!(killed.starts_with("line #f1 of the plan cannot be carried out: a program that"), "{killed}");
        let unknown = settings("at 1s pause shop for 5s #f1\n").check().expect_err("no such node");
        assert!(unknown.starts_with("in the plan: line 6, column 13: expected the name of a publisher"), "{unknown}");
    }

    #[test]
    fn a_topic_that_cannot_be_is_refused() {
        let mut twice = settings("topic orders partitions 1 replicas 1 #t\n");
        twice.plan = twice.plan.map(|plan| plan + "program shop #n\n");
        assert!(twice.check().is_err());
    }
}
