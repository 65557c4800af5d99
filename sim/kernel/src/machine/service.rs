//! Services: programs without threads that sit on the network, one object for all the nodes they have. The stand-in
//! brokers are one.

use super::net::Listener;
use super::node::Node;
use super::object::ObjectId;
use super::timetable::Event;
use super::{Errno, Kernel, Mark, Moment};
use std::any::Any;
use std::net::SocketAddrV4;

/// A service, numbered from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId(u32);

/// One of a service's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Connection(ObjectId);

/// A program without threads. It is called when something happens on its nodes, and never blocks; its calls take no
/// virtual time. While a node of it is paused it hears nothing of that node, and what it sends from there stays.
///
/// It runs on whatever thread made time pass, outside the simulation: it must not take locks which programs hold.
pub trait Service: Any + Send {
    /// Somebody connected to a port it listens on.
    fn connected(&mut self, net: &mut ServiceNet<'_>, connection: Connection, node: Node, peer: SocketAddrV4);
    /// Bytes arrived, or the connection ended: see [`ServiceNet::read`].
    fn readable(&mut self, net: &mut ServiceNet<'_>, connection: Connection);
    /// The time it asked for has come.
    fn due(&mut self, net: &mut ServiceNet<'_>);
}

/// What a service may do while it is called.
pub struct ServiceNet<'a> {
    kernel: &'a mut Kernel,
    service: ServiceId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    Connected { object: ObjectId, peer: SocketAddrV4 },
    Readable(ObjectId),
}

pub(crate) struct ServiceState {
    /// Absent while it is called.
    service: Option<Box<dyn Service>>,
    wakes: u64,
    /// What happened to it while it was called.
    queue: Vec<Notice>,
}

const CALL: Mark = Mark::new("service");

impl ServiceNet<'_> {
    /// Now, on every node's monotonic clock.
    pub fn now(&self) -> Moment {
        self.kernel.now
    }

    /// Accepts connections to a port of a node.
    pub fn listen(&mut self, node: Node, port: u16) -> Result<(), Errno> {
        if self.kernel.listeners.contains_key(&(node, port)) {
            return Err(Errno::ADDRINUSE);
        }
        self.kernel.listeners.insert((node, port), Listener::Service(self.service));
        Ok(())
    }

    /// Refuses connections to a port from now on.
    pub fn stop_listening(&mut self, node: Node, port: u16) {
        if self.kernel.listeners.get(&(node, port)) == Some(&Listener::Service(self.service)) {
            self.kernel.listeners.remove(&(node, port));
        }
    }

    /// Hands over what has arrived. True when nothing more will come: close the connection then.
    pub fn read(&mut self, connection: Connection, mut take: impl FnMut(&[u8])) -> bool {
        self.kernel.service_read(connection.0, &mut take)
    }

    /// Sends all of this, at once or as soon as there is room.
    pub fn send(&mut self, connection: Connection, bytes: &[u8]) {
        self.kernel.service_send(connection.0, bytes);
    }

    /// Closes a connection after what is left to be sent.
    pub fn close(&mut self, connection: Connection) {
        self.kernel.service_close(connection.0);
    }

    /// Resets a connection.
    pub fn reset(&mut self, connection: Connection) {
        self.kernel.abort(connection.0);
    }

    /// Asks for [`Service::due`] at a moment, instead of any asked for before; never, when there is none.
    pub fn wake_at(&mut self, moment: Option<Moment>) {
        let state = &mut self.kernel.services[self.service.index()];
        state.wakes += 1;
        let setting = state.wakes;
        if let Some(at) = moment {
            let at = at.max(self.kernel.now);
            self.kernel.timetable.plan(at, Event::ServiceDue { service: self.service, setting });
        }
    }
}

impl Kernel {
    /// Puts a service on the network. It listens nowhere yet: see [`Kernel::with_service`].
    pub fn add_service(&mut self, service: Box<dyn Service>) -> ServiceId {
        let id = ServiceId(u32::try_from(self.services.len()).expect("fewer than 2^32 services"));
        self.services.push(ServiceState { service: Some(service), wakes: 0, queue: Vec::new() });
        id
    }

    /// Does something with a service, e.g. changes it from outside. `None` when it is not of this type.
    pub fn with_service<S: Service, R>(
        &mut self,
        id: ServiceId,
        act: impl FnOnce(&mut S, &mut ServiceNet<'_>) -> R,
    ) -> Option<R> {
        self.call_service(id, |service, net| {
            let service: &mut dyn Any = service;
            service.downcast_mut::<S>().map(|service| act(service, net))
        })
        .flatten()
    }

    fn call_service<R>(
        &mut self,
        id: ServiceId,
        act: impl FnOnce(&mut dyn Service, &mut ServiceNet<'_>) -> R,
    ) -> Option<R> {
        let mut service = self.services.get_mut(id.index())?.service.take()?;
        self.trace.step(self.now, None, CALL, id.0.into(), 0);
        let result = act(service.as_mut(), &mut ServiceNet { kernel: self, service: id });
        self.services[id.index()].service = Some(service);
        for notice in std::mem::take(&mut self.services[id.index()].queue) {
            self.notify_service(id, notice);
        }
        Some(result)
    }

    pub(crate) fn service_connected(&mut self, id: ServiceId, object: ObjectId, _from: Node, peer: SocketAddrV4) {
        self.give_to_service(object, id);
        self.notify_service(id, Notice::Connected { object, peer });
    }

    pub(crate) fn notify_service(&mut self, id: ServiceId, notice: Notice) {
        let (Notice::Connected { object, .. } | Notice::Readable(object)) = notice;
        let node = self.objects[object.index()].node;
        if !self.runs(node) {
            return self.nodes[node.index()].missed.push(notice);
        }
        let Some(state) = self.services.get_mut(id.index()) else { return };
        if state.service.is_none() {
            return state.queue.push(notice);
        }
        self.call_service(id, |service, net| match notice {
            Notice::Connected { peer, .. } => service.connected(net, Connection(object), node, peer),
            Notice::Readable(_) => service.readable(net, Connection(object)),
        });
    }

    pub(crate) fn service_due(&mut self, id: ServiceId, setting: u64) {
        if self.services[id.index()].wakes == setting {
            self.call_service(id, |service, net| service.due(net));
        }
    }

    /// A node goes on after a pause: its services hear what they missed, and what they sent leaves.
    pub(crate) fn catch_up(&mut self, node: Node) {
        for notice in std::mem::take(&mut self.nodes[node.index()].missed) {
            let (Notice::Connected { object, .. } | Notice::Readable(object)) = notice;
            if let Some(service) = self.service_of(object) {
                self.notify_service(service, notice);
            }
        }
        for number in 0..self.objects.len() {
            let object = ObjectId::from_index(number);
            if self.objects[number].node == node && self.service_of(object).is_some() {
                self.send_unsent(object);
            }
        }
    }
}

impl ServiceId {
    fn index(self) -> usize {
        self.0 as usize
    }
}
