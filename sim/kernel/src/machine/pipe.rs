//! Pipes, as pipe(7) has them: 64 KiB, writes of up to a page are whole or not at all.

use super::node::Node;
use super::object::{Kind, ObjectId, Patience, Sink, ready};
use super::{Errno, Kernel, Mark, Step, ThreadId};
use std::collections::VecDeque;

const CAPACITY: usize = 65_536;
/// `PIPE_BUF`: what is written whole.
const ATOMIC: usize = 4_096;

const READ: Mark = Mark::new("pipe read");
const WRITE: Mark = Mark::new("pipe write");

#[derive(Debug)]
pub(crate) struct PipeReader {
    bytes: VecDeque<u8>,
    /// The other end; gone once that object is.
    pub(crate) writer: ObjectId,
}

#[derive(Debug)]
pub(crate) struct PipeWriter {
    pub(crate) reader: ObjectId,
}

impl Kernel {
    /// The two ends of a pipe: for reading, for writing.
    pub fn pipe(&mut self, node: Node, nonblocking: bool) -> (ObjectId, ObjectId) {
        let reader = ObjectId::from_index(self.objects.len());
        let writer = ObjectId::from_index(self.objects.len() + 1);
        self.create(node, Kind::PipeReader(PipeReader { bytes: VecDeque::new(), writer }), nonblocking);
        self.create(node, Kind::PipeWriter(PipeWriter { reader }), nonblocking);
        (reader, writer)
    }

    pub(crate) fn pipe_end_released(&mut self, other: ObjectId) {
        self.changed(other);
    }

    fn is_gone(&self, object: ObjectId) -> bool {
        matches!(self.objects[object.index()].kind, Kind::Gone)
    }

    pub(crate) fn pipe_reader_readiness(&self, reader: &PipeReader) -> u32 {
        let bytes = if reader.bytes.is_empty() { 0 } else { ready::READABLE };
        bytes | if self.is_gone(reader.writer) { ready::HUP } else { 0 }
    }

    pub(crate) fn pipe_writer_readiness(&self, writer: &PipeWriter) -> u32 {
        match &self.objects[writer.reader.index()].kind {
            Kind::PipeReader(reader) if reader.bytes.len() < CAPACITY => ready::WRITABLE,
            Kind::PipeReader(_) => 0,
            _ => ready::WRITABLE | ready::ERR,
        }
    }

    pub(crate) fn read_pipe(
        &mut self,
        thread: ThreadId,
        object: ObjectId,
        into: &mut dyn Sink,
        how: Patience,
    ) -> Step<usize> {
        let Kind::PipeReader(reader) = &mut self.objects[object.index()].kind else { return Err(Errno::BADF.into()) };
        let writer = reader.writer;
        if into.room() == 0 {
            return Ok(0);
        }
        if !reader.bytes.is_empty() {
            let given = drain(&mut reader.bytes, into);
            self.changed(writer);
            return Ok(given);
        }
        if self.is_gone(writer) {
            return Ok(0);
        }
        match self.wait_for(thread, READ, object, how)? {}
    }

    pub(crate) fn write_pipe(
        &mut self,
        thread: ThreadId,
        object: ObjectId,
        bytes: &[u8],
        how: Patience,
    ) -> Step<usize> {
        let Kind::PipeWriter(writer) = &self.objects[object.index()].kind else { return Err(Errno::BADF.into()) };
        let reader = writer.reader;
        let Kind::PipeReader(PipeReader { bytes: stored, .. }) = &mut self.objects[reader.index()].kind else {
            return Err(Errno::PIPE.into());
        };
        if bytes.is_empty() {
            return Ok(0);
        }
        let room = CAPACITY - stored.len();
        if room >= bytes.len() || (bytes.len() > ATOMIC && room > 0) {
            let some = room.min(bytes.len());
            stored.extend(&bytes[..some]);
            self.changed(reader);
            return Ok(some);
        }
        match self.wait_for(thread, WRITE, object, how)? {}
    }
}

/// Moves as many bytes as fit.
pub(crate) fn drain(from: &mut VecDeque<u8>, into: &mut dyn Sink) -> usize {
    let given = copy(from, into);
    from.drain(..given);
    given
}

/// Copies as many bytes as fit, and leaves them.
pub(crate) fn copy(from: &VecDeque<u8>, into: &mut dyn Sink) -> usize {
    let mut given = 0;
    let (first, second) = from.as_slices();
    for part in [first, second] {
        let some = part.len().min(into.room());
        into.put(&part[..some]);
        given += some;
    }
    given
}
