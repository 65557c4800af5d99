//! What a `#[test]` calls: a simulation described by a closure, run with many seeds.

use crate::host::{self, Brokers};
use crate::runner::{self, Describe, Run};
use crate::world::{self, Runtime, ServiceNode, World};
use rehearsal_mockbroker::config::{ClusterConfig, TopicConfig};
use rehearsal_sim_kernel::config::Config;
use rehearsal_sim_kernel::front::{self, reexec};
use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::process::Output;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Describes a simulation: what there is, what happens when, what must hold at the end. The closure given to [`check`]
/// gets one for every seed.
pub struct Setup {
    seed: u64,
    seeds: u64,
    duration: Duration,
    twice: bool,
    kernel: Config,
    cluster: Option<ClusterConfig>,
    nodes: Vec<(String, ServiceNode)>,
    actions: Vec<(Duration, Action)>,
    done: Option<Condition>,
    finally: Vec<Action>,
    report: Option<Reporter>,
}

/// Something that happens in a running simulation.
pub type Action = Box<dyn FnOnce(&World)>;

type Condition = Box<dyn Fn(&World) -> bool>;
type Reporter = Box<dyn FnOnce(&World) -> Vec<u8>>;

/// A Kafka cluster to be simulated.
#[derive(Debug, Clone)]
pub struct Kafka {
    config: ClusterConfig,
}

impl Kafka {
    /// So many brokers, with ids from 1, on nodes `broker-1`, `broker-2` ….
    pub fn brokers(count: i32) -> Self {
        Self { config: ClusterConfig::with_brokers(count) }
    }

    /// Any cluster. Hosts, ports and the seed are set by the simulation.
    pub fn from_config(config: ClusterConfig) -> Self {
        Self { config }
    }

    /// With a topic of so many partitions.
    pub fn topic(mut self, name: &str, partitions: i32) -> Self {
        self.config.topics.push(TopicConfig::new(name, partitions));
        self
    }

    /// With a broker config by Kafka's name, e.g. `group.initial.rebalance.delay.ms`.
    pub fn config(mut self, key: &str, value: &str) -> Self {
        self.config.configs.insert(key.into(), value.into());
        self
    }

    fn bootstrap_servers(&self) -> String {
        let addresses = self.config.nodes.iter().map(|node| format!("{}:{}", host::name_of(node.id), host::PORT));
        addresses.collect::<Vec<_>>().join(",")
    }
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes: Vec<_> = self.nodes.iter().map(|(name, _)| name).collect();
        f.debug_struct("Setup").field("seed", &self.seed).field("nodes", &nodes).finish_non_exhaustive()
    }
}

impl Setup {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            seeds: 20,
            duration: Duration::from_secs(60),
            twice: false,
            kernel: Config::with_seed(seed),
            cluster: None,
            nodes: Vec::new(),
            actions: Vec::new(),
            done: None,
            finally: Vec::new(),
            report: None,
        }
    }

    /// The seed of this run: draw whatever is to differ between runs from it.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// How many seeds to run, from 0 on. Default 20; the environment variable `REHEARSAL_SEEDS` overrides it, and
    /// `REHEARSAL_SEED` runs a single one.
    pub fn seeds(&mut self, seeds: u64) -> &mut Self {
        self.seeds = seeds;
        self
    }

    /// Virtual time after which a run ends. Default 60 s.
    pub fn duration(&mut self, duration: Duration) -> &mut Self {
        self.duration = duration;
        self
    }

    /// Ends a run before its duration, once this holds; looked at every 100 virtual milliseconds after the last action.
    pub fn ends_when(&mut self, done: impl Fn(&World) -> bool + 'static) -> &mut Self {
        self.done = Some(Box::new(done));
        self
    }

    /// Runs every seed twice, and fails unless both runs took the same steps. Default once.
    pub fn twice(&mut self) -> &mut Self {
        self.twice = true;
        self
    }

    /// The kernel's settings – preemption, splitting of what is sent, limits – to be changed. The seed is set already.
    pub fn kernel(&mut self) -> &mut Config {
        &mut self.kernel
    }

    /// There is this cluster, one at most. Returns its `bootstrap.servers`.
    pub fn kafka(&mut self, mut kafka: Kafka) -> String {
        kafka.config.seed = self.seed;
        let bootstrap = kafka.bootstrap_servers();
        self.cluster = Some(kafka.config);
        bootstrap
    }

    /// There is a node of this name which runs an ordinary async program, on a tokio runtime with two worker threads.
    /// The program is called when the simulation begins, and anew when the node restarts after a crash. Other nodes reach
    /// it by its name; a panic of the program's own future ends the run.
    ///
    /// # Panics
    /// There is a node of this name already.
    pub fn node<F: Future<Output = ()> + 'static>(
        &mut self,
        name: &str,
        main: impl Fn() -> F + Send + Sync + 'static,
    ) -> &mut Self {
        self.node_on(name, Runtime::MultiThread(2), main)
    }

    /// The same on another runtime.
    ///
    /// # Panics
    /// There is a node of this name already.
    pub fn node_on<F: Future<Output = ()> + 'static>(
        &mut self,
        name: &str,
        runtime: Runtime,
        main: impl Fn() -> F + Send + Sync + 'static,
    ) -> &mut Self {
        assert!(self.nodes.iter().all(|(taken, _)| taken != name), "there are two nodes '{name}'");
        let main = Arc::new(move || -> Pin<Box<dyn Future<Output = ()>>> { Box::pin(main()) });
        self.nodes.push((name.to_owned(), ServiceNode { main, runtime }));
        self
    }

    /// So many nodes of the same program, `name-1`, `name-2` …; it is told which it is, from 1.
    pub fn nodes<F: Future<Output = ()> + 'static>(
        &mut self,
        name: &str,
        count: usize,
        main: impl Fn(usize) -> F + Send + Sync + 'static,
    ) -> &mut Self {
        let main = Arc::new(main);
        for number in 1..=count {
            let main = Arc::clone(&main);
            self.node(&format!("{name}-{number}"), move || main(number));
        }
        self
    }

    /// At this virtual time after the beginning, this happens: usually a fault. Actions of one moment happen in the
    /// order they were given. A run lasts at least until its last action.
    pub fn at(&mut self, time: Duration, action: impl FnOnce(&World) + 'static) -> &mut Self {
        self.actions.push((time, Box::new(action)));
        self
    }

    /// When the run ends, this looks at what became of it and panics if something is wrong.
    pub fn finally(&mut self, look: impl FnOnce(&World) + 'static) -> &mut Self {
        self.finally.push(Box::new(look));
        self
    }

    /// When the run ends, this is carried out of it: see [`Run::report`].
    pub fn report(&mut self, report: impl FnOnce(&World) -> Vec<u8> + 'static) -> &mut Self {
        self.report = Some(Box::new(report));
        self
    }

    pub(crate) fn kernel_config(&self) -> Config {
        self.kernel.clone()
    }

    /// The run itself, in the simulation.
    pub(crate) fn run(self) -> Vec<u8> {
        let Self { cluster, nodes, mut actions, done, finally, report, duration, .. } = self;
        let brokers = cluster.map(|config| {
            let installed = front::kernel(|kernel, _| Brokers::install(kernel, config));
            installed.unwrap_or_else(|error| panic!("the cluster cannot be made: {error}"))
        });
        let names: Vec<String> = nodes.iter().map(|(name, _)| name.clone()).collect();
        for name in &names {
            front::kernel(|kernel, _| kernel.add_node(name));
        }
        world::share_signal_pipe();
        let world = World::new(brokers, nodes.into_iter().collect::<BTreeMap<_, _>>());
        for name in &names {
            world.start(name);
        }
        actions.sort_by_key(|(time, _)| *time); // stable: those of one moment stay in order
        for (time, action) in actions {
            sleep_until(&world, time);
            action(&world);
        }
        wait_for_end(&world, duration, done.as_deref());
        for look in finally {
            look(&world);
        }
        report.map_or_else(Vec::new, |report| report(&world))
    }
}

const LOOK_EVERY: Duration = Duration::from_millis(100);

fn wait_for_end(world: &World, duration: Duration, done: Option<&dyn Fn(&World) -> bool>) {
    let Some(done) = done else { return sleep_until(world, duration) };
    while world.elapsed() < duration && !done(world) {
        sleep_until(world, duration.min(world.elapsed() + LOOK_EVERY));
    }
}

#[expect(clippy::disallowed_methods, reason = "virtual time passes by sleeping")]
pub(crate) fn sleep_until(world: &World, time: Duration) {
    std::thread::sleep(time.saturating_sub(world.elapsed()));
}

/// Marks a process as one that runs simulations, and says which.
const ROLE: &str = "REHEARSAL_SIM";
/// How many seeds to run instead of what the test says.
const SEEDS: &str = "REHEARSAL_SEEDS";
/// The single seed to run.
const SEED: &str = "REHEARSAL_SEED";
/// What comes before the verdict on the standard output of such a process.
const VERDICT: &str = "\u{1}rehearsal verdict\n";

/// Runs a simulation with many seeds and panics at the first that fails, saying why and how to run it again.
///
/// The test binary runs itself again for this test, with fixed addresses and an empty environment, so that runs do not
/// depend on either; it works under `cargo test` and `cargo nextest`. Each seed then has a process of its own.
///
/// The description runs once for every seed, in its simulation, and once more outside to see what it asks for.
///
/// This module is there where [`SUPPORTED`](crate::SUPPORTED) is true; elsewhere, leave such tests out.
///
/// ```no_run
/// use rehearsal_sim::check::{Kafka, check};
/// use std::time::Duration;
///
/// // In a `#[test]`:
/// check("workers keep up", |setup| {
///     let bootstrap = setup.kafka(Kafka::brokers(3).topic("orders", 6));
///     setup.seeds(200).duration(Duration::from_secs(120));
///     setup.nodes("worker", 3, move |_| work(bootstrap.clone()));
///     setup.at(Duration::from_secs(30), |world| world.cut("worker-1", "broker-2"));
///     setup.at(Duration::from_secs(50), |world| world.heal("worker-1", "broker-2"));
///     setup.finally(|world| assert_eq!(world.view().groups, ["workers"]));
/// });
/// # async fn work(_: String) {}
/// ```
///
/// # Panics
/// A seed fails; two runs of a seed differ, if [`Setup::twice`] asked for them; or the system gives no process.
#[track_caller]
pub fn check<F: Fn(&mut Setup) + Sync>(name: &str, describe: F) {
    in_a_process_of_its_own(name, &test_path::<F>(), || judge(name, &describe));
}

/// Runs part of a test as [`check`] does its seeds: the test binary runs itself again for this test, with fixed addresses
/// and an empty environment, and there `body` is called, which may run simulations. It returns a sentence to be shown
/// when all is well, or why it is not.
///
/// # Panics
/// With what `body` says is wrong; or when the system gives no process.
#[track_caller]
pub fn alone<F: Fn() -> Result<String, String>>(name: &str, body: F) {
    in_a_process_of_its_own(name, &test_path::<F>(), body);
}

/// A command that runs a program in which seeds are to run: with fixed addresses and an empty environment, so that the
/// same seed gives the same run whatever shell it was asked for in. Arguments are as they are given to it; give none
/// that differ from run to run.
pub fn again(program: &std::path::Path) -> std::process::Command {
    let mut command = reexec::command(program);
    command.env("TZ", "UTC");
    command
}

#[track_caller]
fn in_a_process_of_its_own(name: &str, test: &str, body: impl FnOnce() -> Result<String, String>) {
    match std::env::var(ROLE) {
        Ok(role) if role == name => {
            let verdict = body();
            say(&format!("{VERDICT}{}", verdict.as_ref().unwrap_or_else(|failure| failure)));
            std::process::exit(i32::from(verdict.is_err()))
        }
        Ok(_) => {} // another check of the same test runs here
        Err(_) => match run_again(name, test) {
            Ok(summary) => say(&summary),
            Err(failure) => panic!("{failure}"),
        },
    }
}

#[expect(clippy::print_stdout, reason = "the test harness shows it when asked")]
fn say(text: &str) {
    println!("{text}");
}

/// Runs this test alone in a fresh process of the same binary.
fn run_again(name: &str, test: &str) -> Result<String, String> {
    let binary = std::env::current_exe().map_err(|error| format!("cannot find the test binary: {error}"))?;
    let mut command = reexec::command(&binary);
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(ROLE, name).env("TZ", "UTC");
    for variable in [SEED, SEEDS] {
        if let Ok(value) = std::env::var(variable) {
            command.env(variable, value);
        }
    }
    let Output { status, stdout, stderr } =
        command.output().map_err(|error| format!("cannot run {}: {error}", binary.display()))?;
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    match stdout.split_once(VERDICT) {
        Some((_, verdict)) if status.success() => Ok(verdict.trim_end().to_owned()),
        Some((said, verdict)) => Err(format!("{}\n{}", verdict.trim_end(), tail(&format!("{said}{stderr}")))),
        None => Err(format!(
            "the simulation '{name}' did not run: the test '{test}' of {} ended with {status}. A check must be called \
             from the test's own thread, with a closure written in the test.\n{}",
            binary.display(),
            tail(&format!("{stdout}{stderr}"))
        )),
    }
}

/// The last lines a program wrote, where a failure's reason usually is.
fn tail(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// The name of the running test: the thread's in libtest, unless tests run one at a time; then it is in the path of
/// the closure that describes the simulation.
fn test_path<F>() -> String {
    match std::thread::current().name() {
        Some(name) if name != "main" => name.to_owned(),
        _ => {
            let path = std::any::type_name::<F>();
            let path = path.split_once("::").map_or(path, |(_crate, path)| path);
            path.split("::{{closure}}").next().unwrap_or(path).to_owned()
        }
    }
}

/// Runs the seeds. The summary, or the first failure.
fn judge(name: &str, describe: Describe<'_>) -> Result<String, String> {
    let number = |variable| std::env::var(variable).ok().and_then(|value| value.parse::<u64>().ok());
    let settings = runner::settings(describe, 0);
    let seeds = match number(SEED) {
        Some(seed) => seed..seed + 1,
        None => 0..number(SEEDS).unwrap_or(settings.seeds),
    };
    let (started, mut virtual_time, mut count, mut hash) = (Instant::now(), Duration::ZERO, 0_u64, 0_u64);
    let mut failure = None;
    let _ = runner::run_many(describe, seeds, runner::jobs(), |run| {
        failure = failure_of(name, describe, &run, settings.twice);
        count += 1;
        hash = hash.wrapping_add(run.stats.map_or(0, |stats| stats.hash)); // in whatever order they end
        virtual_time += Duration::from_nanos(run.stats.map_or(0, |stats| stats.virtual_ns));
        if failure.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    match failure {
        Some(failure) => Err(failure),
        None => Ok(format!(
            "{name}: {count} seeds, {virtual_time:.0?} of virtual time in {:.1?}, hash {hash:016x}",
            started.elapsed()
        )),
    }
}

fn failure_of(name: &str, describe: Describe<'_>, run: &Run, twice: bool) -> Option<String> {
    let seed = run.seed;
    let again = format!("to see it again: {SEED}={seed} cargo test, with the name of this test");
    if let Some(failure) = &run.failure {
        return Some(format!("'{name}' fails with seed {seed}: {failure}\n{again}"));
    }
    if twice && runner::run_one(describe, seed).stats != run.stats {
        let parts = runner::divergence(describe, seed);
        let parts = parts.unwrap_or_else(|| "not when every step was logged".into());
        return Some(format!("'{name}' is not deterministic: two runs of seed {seed} part at {parts}\n{again}"));
    }
    None
}

pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}
