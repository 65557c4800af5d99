//! The kernel proper without any thread, clock or socket of the real system: calls go in, answers come out.
#![cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]

use rehearsal_sim_kernel::config::Config;
use rehearsal_sim_kernel::machine::{
    Connection, Errno, Half, Kernel, Latency, Mark, Moment, Next, Node, ObjectId, Patience, Service, ServiceNet, Sink,
    Step, Stop, ThreadId, Woken,
};
use std::net::SocketAddrV4;
use std::time::Duration;

const TEST: Mark = Mark::new("test");

/// Buffers of the program, as the kernel sees them.
struct Buffer(Vec<u8>, usize);

impl Sink for Buffer {
    fn room(&self) -> usize {
        self.1
    }

    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        self.1 -= bytes.len();
    }
}

/// A machine with one thread on the control node, which makes all calls.
struct Machine {
    kernel: Kernel,
    me: ThreadId,
}

impl Machine {
    fn new() -> Self {
        let mut kernel = Kernel::new(Config::default());
        let me = kernel.spawn(Node::CONTROL);
        assert_eq!(kernel.who_runs(), Next::Run(me));
        Self { kernel, me }
    }

    /// Makes a call until it has an answer, as a front end does.
    fn call<T>(&mut self, mut attempt: impl FnMut(&mut Kernel, ThreadId) -> Step<T>) -> Result<T, Errno> {
        loop {
            match attempt(&mut self.kernel, self.me) {
                Ok(answer) => return Ok(answer),
                Err(Stop::Fail(errno)) => return Err(errno),
                Err(Stop::Block) => {
                    assert_eq!(self.kernel.who_runs(), Next::Run(self.me), "it waits for ever");
                    self.kernel.resumed(self.me);
                }
            }
        }
    }

    fn sleep(&mut self, span: Duration) {
        let until = self.kernel.now().after(span);
        self.kernel.wait_until(self.me, TEST, until);
        assert_eq!(self.kernel.who_runs(), Next::Run(self.me));
        assert_eq!(self.kernel.resumed(self.me), Woken::TimeUp);
    }

    fn connect(&mut self, to: SocketAddrV4) -> Result<ObjectId, Errno> {
        let socket = self.kernel.tcp_socket(Node::CONTROL, false);
        self.kernel.connect(socket, to)?;
        self.call(|kernel, me| kernel.connected(me, socket)).map(|()| socket)
    }

    fn send(&mut self, socket: ObjectId, bytes: &[u8]) -> Result<usize, Errno> {
        self.call(|kernel, me| kernel.write(me, socket, bytes, Patience::default()))
    }

    fn receive(&mut self, socket: ObjectId) -> Result<Vec<u8>, Errno> {
        self.receive_within(socket, None)
    }

    fn receive_within(&mut self, socket: ObjectId, limit: Option<Duration>) -> Result<Vec<u8>, Errno> {
        let deadline = limit.map(|limit| self.kernel.now().after(limit));
        let how = Patience { deadline, ..Patience::default() };
        let mut buffer = Buffer(Vec::new(), 100);
        self.call(|kernel, me| kernel.read(me, socket, &mut buffer, how))?;
        Ok(buffer.0)
    }
}

/// Answers whatever comes with the same, and greets once a minute whoever is there.
#[derive(Default)]
struct Echo {
    connections: Vec<Connection>,
}

const PORT: u16 = 7;

impl Service for Echo {
    fn connected(&mut self, net: &mut ServiceNet<'_>, connection: Connection, _: Node, _: SocketAddrV4) {
        self.connections.push(connection);
        net.wake_at(Some(net.now().after(Duration::from_secs(60))));
    }

    fn readable(&mut self, net: &mut ServiceNet<'_>, connection: Connection) {
        let mut arrived = Vec::new();
        let ended = net.read(connection, |bytes| arrived.extend_from_slice(bytes));
        net.send(connection, &arrived);
        if ended {
            net.close(connection);
        }
    }

    fn due(&mut self, net: &mut ServiceNet<'_>) {
        for connection in &self.connections {
            net.send(*connection, b"still there?");
        }
    }
}

fn with_echo() -> (Machine, Node, SocketAddrV4) {
    let mut machine = Machine::new();
    let node = machine.kernel.add_node("echo");
    let service = machine.kernel.add_service(Box::new(Echo::default()));
    let listening = machine.kernel.with_service(service, |_: &mut Echo, net| net.listen(node, PORT));
    assert_eq!(listening, Some(Ok(())));
    (machine, node, SocketAddrV4::new(node.ip(), PORT))
}

#[test]
fn a_service_answers_from_its_node() {
    let (mut machine, _, address) = with_echo();
    let socket = machine.connect(address).expect("it listens");
    machine.send(socket, b"hello").expect("a connection");
    assert_eq!(machine.receive(socket), Ok(b"hello".to_vec()));
    assert_eq!(machine.receive(socket), Ok(b"still there?".to_vec()));
    assert!(machine.kernel.now().since(Moment::START) >= Duration::from_secs(60));
    assert_eq!(machine.kernel.shutdown(socket, Half::Write), Ok(()));
    assert_eq!(machine.receive(socket), Ok(Vec::new()), "it closes too");
}

#[test]
fn latency_is_what_it_was_set_to() {
    let (mut machine, node, address) = with_echo();
    let latency = Latency { base: Duration::from_millis(40), jitter: Duration::ZERO };
    machine.kernel.set_latency(Node::CONTROL, node, latency);
    machine.kernel.set_latency(node, Node::CONTROL, latency);
    let before = machine.kernel.now();
    let socket = machine.connect(address).expect("it listens");
    assert_eq!(machine.kernel.now().since(before), Duration::from_millis(80));
    machine.send(socket, b"x").expect("a connection");
    machine.receive(socket).expect("an answer");
    assert_eq!(machine.kernel.now().since(before), Duration::from_millis(160));
}

#[test]
fn what_is_sent_over_a_cut_link_arrives_in_order_after_it_heals() {
    let (mut machine, node, address) = with_echo();
    let socket = machine.connect(address).expect("it listens");
    machine.kernel.cut(Node::CONTROL, node);
    machine.send(socket, b"one ").expect("it is kept");
    machine.sleep(Duration::from_secs(30));
    machine.send(socket, b"two ").expect("it is kept");
    let silence = machine.receive_within(socket, Some(Duration::from_secs(5)));
    assert_eq!(silence, Err(Errno::AGAIN));
    machine.kernel.heal(Node::CONTROL, node);
    machine.send(socket, b"three").expect("it is sent");
    let mut heard = Vec::new();
    while heard.len() < 13 {
        heard.extend(machine.receive(socket).expect("an answer"));
    }
    assert_eq!(heard, b"one two three");
}

#[test]
fn a_connection_over_a_cut_link_is_tried_again_and_given_up_after_two_minutes() {
    let (mut machine, node, address) = with_echo();
    machine.kernel.cut(Node::CONTROL, node);
    let before = machine.kernel.now();
    assert_eq!(machine.connect(address), Err(Errno::TIMEDOUT));
    assert_eq!(machine.kernel.now().since(before).as_secs(), 127);
    machine.kernel.heal(Node::CONTROL, node);
    assert!(machine.connect(address).is_ok());
}

#[test]
fn nobody_listens_on_another_port() {
    let (mut machine, _, address) = with_echo();
    assert_eq!(machine.connect(SocketAddrV4::new(*address.ip(), 8)), Err(Errno::CONNREFUSED));
    assert_eq!(machine.connect(SocketAddrV4::new([8, 8, 8, 8].into(), 8)), Err(Errno::NETUNREACH));
}

#[test]
fn a_paused_node_hears_later_what_it_missed() {
    let (mut machine, node, address) = with_echo();
    let socket = machine.connect(address).expect("it listens");
    machine.kernel.pause(node);
    machine.send(socket, b"hello").expect("its system takes it");
    let silence = machine.receive_within(socket, Some(Duration::from_secs(20)));
    assert_eq!(silence, Err(Errno::AGAIN));
    machine.kernel.resume(node);
    assert_eq!(machine.receive(socket), Ok(b"hello".to_vec()));
}

#[test]
fn a_crashed_node_resets_and_does_not_answer() {
    let (mut machine, node, address) = with_echo();
    let socket = machine.connect(address).expect("it listens");
    machine.kernel.crash(node);
    assert_eq!(machine.receive(socket), Err(Errno::CONNRESET));
    assert_eq!(machine.receive(socket), Ok(Vec::new()));
    assert_eq!(machine.connect(address), Err(Errno::TIMEDOUT), "the whole machine is gone");
}

#[test]
fn threads_of_a_crashed_life_never_run_but_for_a_lock_all_need() {
    let mut machine = Machine::new();
    let node = machine.kernel.add_node("short-lived");
    let (doomed, holder) = (machine.kernel.spawn(node), machine.kernel.spawn(node));
    machine.kernel.took_shared_lock(holder);
    machine.kernel.crash(node);
    machine.kernel.restart(node);
    let reborn = machine.kernel.spawn(node);
    let mut ran = [machine.kernel.who_runs(), machine.kernel.who_runs()];
    ran.sort_by_key(|next| matches!(next, Next::Run(thread) if *thread == reborn));
    assert_eq!(ran, [Next::Run(holder), Next::Run(reborn)]);
    assert!(machine.kernel.freed_shared_lock(holder), "now it must stop");
    machine.kernel.yield_now(holder);
    assert_eq!(machine.kernel.who_runs(), Next::Stuck);
    assert!(!machine.kernel.has_ended(doomed));
}

#[test]
fn those_who_can_run_are_woken_before_those_whose_node_stands_still() {
    let mut machine = Machine::new();
    let node = machine.kernel.add_node("still");
    let still = machine.kernel.spawn(node);
    assert_eq!(machine.kernel.who_runs(), Next::Run(still));
    let key = rehearsal_sim_kernel::machine::Key(1);
    machine.kernel.wait_on_key(still, TEST, key, None);
    machine.kernel.wait_on_key(machine.me, TEST, key, None);
    machine.kernel.pause(node);
    assert_eq!(machine.kernel.wake_key(key, 1), 1);
    assert_eq!(machine.kernel.who_runs(), Next::Run(machine.me));
}
