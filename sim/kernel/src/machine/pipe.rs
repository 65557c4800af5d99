//! Pipes, as pipe(7) has them: 16 pages, writes of up to a page are whole or not at all. As in Linux's `pipe_write`, a
//! write begins on the last page only if its odd end fits there whole.

use super::node::Node;
use super::object::{Kind, ObjectId, Patience, Sink, ready};
use super::{Errno, Kernel, Mark, Step, ThreadId};
use std::collections::VecDeque;

const PAGES: usize = 16;
const PAGE: usize = 4_096;

const READ: Mark = Mark::new("pipe read");
const WRITE: Mark = Mark::new("pipe write");

#[derive(Debug)]
pub(crate) struct PipeReader {
    bytes: VecDeque<u8>,
    /// The pages in use.
    pages: VecDeque<Page>,
    /// The other end; gone once that object is.
    pub(crate) writer: ObjectId,
}

#[derive(Debug, Clone, Copy)]
struct Page {
    /// How much was ever written to it.
    filled: usize,
    /// How much of that is not read yet.
    unread: usize,
}

impl PipeReader {
    /// Takes in as much as there is room for.
    fn fill(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        let odd = bytes.len() % PAGE;
        if let Some(last) = self.pages.back_mut()
            && odd > 0
            && last.filled + odd <= PAGE
        {
            (last.filled, last.unread, taken) = (last.filled + odd, last.unread + odd, odd);
        }
        while taken < bytes.len() && self.pages.len() < PAGES {
            let some = PAGE.min(bytes.len() - taken);
            self.pages.push_back(Page { filled: some, unread: some });
            taken += some;
        }
        self.bytes.extend(&bytes[..taken]);
        taken
    }

    /// So much was read.
    fn free(&mut self, mut read: usize) {
        while let (1.., Some(first)) = (read, self.pages.front_mut()) {
            let some = read.min(first.unread);
            first.unread -= some;
            read -= some;
            if first.unread == 0 {
                self.pages.pop_front();
            }
        }
    }
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
        self.create(
            node,
            Kind::PipeReader(PipeReader { bytes: VecDeque::new(), pages: VecDeque::new(), writer }),
            nonblocking,
        );
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
            Kind::PipeReader(reader) if reader.pages.len() < PAGES => ready::WRITABLE,
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
            reader.free(given);
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
        let Kind::PipeReader(pipe) = &mut self.objects[reader.index()].kind else {
            return Err(Errno::PIPE.into());
        };
        if bytes.is_empty() {
            return Ok(0);
        }
        let taken = pipe.fill(bytes);
        if taken > 0 {
            self.changed(reader);
            return Ok(taken);
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
