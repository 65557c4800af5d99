//! Event counters, as eventfd(2) has them.

use super::node::Node;
use super::object::{Kind, ObjectId, Patience, Sink, ready};
use super::{Errno, Kernel, Mark, Step, ThreadId};

const READ: Mark = Mark::new("eventfd read");
const WRITE: Mark = Mark::new("eventfd write");

#[derive(Debug)]
pub(crate) struct EventFd {
    count: u64,
    /// Whether a read takes one instead of all.
    semaphore: bool,
}

impl EventFd {
    pub(crate) fn readiness(&self) -> u32 {
        let readable = if self.count > 0 { ready::IN } else { 0 };
        readable | if self.count < u64::MAX - 1 { ready::OUT } else { 0 }
    }
}

impl Kernel {
    /// A new counter.
    pub fn eventfd(&mut self, node: Node, count: u32, semaphore: bool, nonblocking: bool) -> ObjectId {
        self.create(node, Kind::EventFd(EventFd { count: count.into(), semaphore }), nonblocking)
    }

    pub(crate) fn read_eventfd(
        &mut self,
        thread: ThreadId,
        object: ObjectId,
        into: &mut dyn Sink,
        how: Patience,
    ) -> Step<usize> {
        let Kind::EventFd(event) = &mut self.objects[object.index()].kind else { return Err(Errno::BADF.into()) };
        if into.room() < 8 {
            return Err(Errno::INVAL.into());
        }
        if event.count > 0 {
            let taken = if event.semaphore { 1 } else { event.count };
            event.count -= taken;
            into.put(&taken.to_ne_bytes());
            self.changed(object);
            return Ok(8);
        }
        match self.wait_for(thread, READ, object, how)? {}
    }

    pub(crate) fn write_eventfd(
        &mut self,
        thread: ThreadId,
        object: ObjectId,
        bytes: &[u8],
        how: Patience,
    ) -> Step<usize> {
        let Kind::EventFd(event) = &mut self.objects[object.index()].kind else { return Err(Errno::BADF.into()) };
        let added = bytes.first_chunk().map(|word| u64::from_ne_bytes(*word)).ok_or(Errno::INVAL)?;
        if added == u64::MAX {
            return Err(Errno::INVAL.into());
        }
        if added <= u64::MAX - 1 - event.count {
            event.count += added;
            self.changed(object);
            return Ok(8);
        }
        match self.wait_for(thread, WRITE, object, how)? {}
    }
}
