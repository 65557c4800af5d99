//! Sets of watched descriptors, as epoll(7) has them: level and edge triggered, one-shot, in the order things happened.

use super::node::Node;
use super::object::{Kind, ObjectId, ready};
use super::{Errno, Kernel, Mark, Moment, Step, Stop, ThreadId};
use std::collections::{BTreeMap, VecDeque};

const EDGE_TRIGGERED: u32 = 1 << 31;
const ONE_SHOT: u32 = 1 << 30;
/// What is not a kind of readiness.
const FLAGS: u32 = 0xf << 28;

const WAIT: Mark = Mark::new("epoll_wait");

#[derive(Debug, Default)]
pub(crate) struct Epoll {
    /// By descriptor and what it stood for: closing one of two descriptors of an object leaves it watched.
    watched: BTreeMap<Entry, Watched>,
    /// Those about which something changed, first come first served.
    stirred: VecDeque<Entry>,
}

type Entry = (i32, ObjectId);

#[derive(Debug)]
struct Watched {
    interest: u32,
    data: u64,
    /// Whether it is among the stirred.
    queued: bool,
}

/// What `epoll_ctl` is asked to do.
#[derive(Debug, Clone, Copy)]
pub enum Watch {
    /// Begin to watch.
    Add {
        /// Which readiness, and how to report it.
        interest: u32,
        /// What to report it with.
        data: u64,
    },
    /// Watch for something else.
    Modify {
        /// Which readiness, and how to report it.
        interest: u32,
        /// What to report it with.
        data: u64,
    },
    /// No longer watch.
    Remove,
}

/// One ready descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// What could be done.
    pub events: u32,
    /// What it was watched with.
    pub data: u64,
}

impl Kernel {
    /// A new, empty set.
    pub fn epoll(&mut self, node: Node) -> ObjectId {
        self.create(node, Kind::Epoll(Epoll::default()), false)
    }

    fn epoll_of(&mut self, object: ObjectId) -> Result<&mut Epoll, Errno> {
        match &mut self.objects[object.index()].kind {
            Kind::Epoll(epoll) => Ok(epoll),
            _ => Err(Errno::INVAL),
        }
    }

    /// Changes what a set watches.
    pub fn epoll_control(&mut self, set: ObjectId, fd: i32, watch: Watch) -> Result<(), Errno> {
        // Real files cannot be watched either.
        let object = self.object_of(fd).ok_or(Errno::PERM)?;
        let epoll = self.epoll_of(set)?;
        if object == set {
            return Err(Errno::INVAL);
        }
        match watch {
            Watch::Add { interest, data } => {
                if epoll.watched.contains_key(&(fd, object)) {
                    return Err(Errno::EXIST);
                }
                let interest = interest | ready::ALWAYS;
                epoll.watched.insert((fd, object), Watched { interest, data, queued: false });
                self.objects[object.index()].watchers.push((set, fd));
            }
            Watch::Modify { interest, data } => {
                let watched = epoll.watched.get_mut(&(fd, object)).ok_or(Errno::NOENT)?;
                watched.interest = interest | ready::ALWAYS;
                watched.data = data;
            }
            Watch::Remove => {
                epoll.watched.remove(&(fd, object)).ok_or(Errno::NOENT)?;
                epoll.stirred.retain(|stirred| *stirred != (fd, object));
                self.objects[object.index()].watchers.retain(|watcher| *watcher != (set, fd));
                return Ok(());
            }
        }
        self.watched_changed(set, (fd, object));
        Ok(())
    }

    /// Something changed about what a set watches.
    pub(crate) fn watched_changed(&mut self, set: ObjectId, entry: (i32, ObjectId)) {
        let readiness = self.readiness(entry.1);
        let Ok(epoll) = self.epoll_of(set) else { return };
        let Some(watched) = epoll.watched.get_mut(&entry) else { return };
        if watched.queued || readiness & wanted(watched) == 0 {
            return;
        }
        watched.queued = true;
        epoll.stirred.push_back(entry);
        self.changed(set);
    }

    /// What a set watched is gone.
    pub(crate) fn forget_watched(&mut self, set: ObjectId, entry: (i32, ObjectId)) {
        if let Ok(epoll) = self.epoll_of(set) {
            epoll.watched.remove(&entry);
            epoll.stirred.retain(|stirred| *stirred != entry);
        }
    }

    pub(crate) fn epoll_released(&mut self, set: ObjectId, epoll: Epoll) {
        for (fd, object) in epoll.watched.into_keys() {
            self.objects[object.index()].watchers.retain(|watcher| *watcher != (set, fd));
        }
    }

    pub(crate) fn epoll_readiness(&self, epoll: &Epoll) -> u32 {
        let ready = |entry: &Entry| {
            epoll.watched.get(entry).is_some_and(|watched| self.readiness(entry.1) & wanted(watched) != 0)
        };
        if epoll.stirred.iter().any(ready) { ready::READABLE } else { 0 }
    }

    /// Up to `max` ready descriptors. Blocks while there is none, until the deadline; `max` is at least one.
    pub fn epoll_wait(
        &mut self,
        thread: ThreadId,
        set: ObjectId,
        max: usize,
        deadline: Option<Moment>,
    ) -> Step<Vec<Ready>> {
        let ready = self.take_ready(set, max)?;
        if ready.is_empty() && deadline.is_none_or(|deadline| deadline > self.now) {
            self.wait_on_objects(thread, WAIT, [set], deadline);
            return Err(Stop::Block);
        }
        Ok(ready)
    }

    fn take_ready(&mut self, set: ObjectId, max: usize) -> Result<Vec<Ready>, Errno> {
        let mut found = Vec::new();
        let mut again = Vec::new();
        while found.len() < max {
            let Some(entry) = self.epoll_of(set)?.stirred.pop_front() else { break };
            let readiness = self.readiness(entry.1);
            let Some(watched) = self.epoll_of(set)?.watched.get_mut(&entry) else { continue };
            let events = readiness & wanted(watched);
            watched.queued = false;
            if events == 0 {
                continue;
            }
            found.push(Ready { events, data: watched.data });
            if watched.interest & ONE_SHOT != 0 {
                watched.interest = 0;
            } else if watched.interest & EDGE_TRIGGERED == 0 {
                watched.queued = true; // level triggered: it is looked at again next time
                again.push(entry);
            }
        }
        self.epoll_of(set)?.stirred.extend(again);
        Ok(found)
    }
}

fn wanted(watched: &Watched) -> u32 {
    watched.interest & !FLAGS
}
