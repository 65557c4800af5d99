//! Puts a frame together without copying what is already stored.
//!
//! Everything small goes into one buffer. A large chunk of records is only remembered, with the place where it
//! belongs; [`Writer::finish`] cuts the buffer there. The length in front of a frame can therefore be filled in last.

use super::codec::{Cx, Nullable, Wire};
use super::records::Records;
use bytes::{BufMut, Bytes, BytesMut};
use std::fmt;

/// Below this, copying a chunk is cheaper than one more element in the list of slices a socket is given.
const SHARED_BYTES_MIN: usize = 1024;

/// A message (or a frame of header and message) that is being encoded.
#[derive(Debug, Default)]
pub struct Writer {
    small: BytesMut,
    /// Chunks that are not in `small`, each with the length `small` had when it was its turn.
    shared: Vec<(usize, Bytes)>,
    shared_bytes: usize,
    framed: bool,
}

impl Writer {
    /// A writer without anything in front.
    pub fn new() -> Self {
        Self::default()
    }

    /// A writer whose result begins with its own length in four bytes, as a connection's frames do.
    pub fn framed() -> Self {
        let mut small = BytesMut::with_capacity(128);
        small.put_i32(0);
        Self { small, framed: true, ..Self::default() }
    }

    /// How many bytes were written so far, the length in front included.
    pub fn len(&self) -> usize {
        self.small.len() + self.shared_bytes
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The encoded bytes in order, to be written to a socket one after the other.
    pub fn finish(mut self) -> Result<Vec<Bytes>, EncodeError> {
        if self.framed {
            let len = i32::try_from(self.len() - 4).map_err(|_| EncodeError::new(EncodeProblem::TooLong))?;
            self.small[..4].copy_from_slice(&len.to_be_bytes());
        }
        let mut small = self.small.freeze();
        let mut chunks = Vec::with_capacity(2 * self.shared.len() + 1);
        let mut cut = 0;
        for (at, chunk) in self.shared {
            if at > cut {
                chunks.push(small.split_to(at - cut));
                cut = at;
            }
            chunks.push(chunk);
        }
        if !small.is_empty() {
            chunks.push(small);
        }
        Ok(chunks)
    }

    /// The encoded bytes in one piece, without a length in front; copies when there is more than one chunk.
    pub fn into_bytes(mut self) -> Bytes {
        self.framed = false;
        if self.shared.is_empty() {
            return self.small.freeze();
        }
        let mut all = BytesMut::with_capacity(self.len());
        let mut from = 0;
        for (at, chunk) in &self.shared {
            all.put_slice(&self.small[from..*at]);
            all.put_slice(chunk);
            from = *at;
        }
        all.put_slice(&self.small[from..]);
        all.freeze()
    }

    #[inline]
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.small.put_slice(bytes);
    }

    pub(super) fn records(&mut self, records: &Records) {
        for chunk in records.chunks() {
            if chunk.len() < SHARED_BYTES_MIN {
                self.small.put_slice(chunk);
            } else {
                self.shared.push((self.small.len(), chunk.clone()));
                self.shared_bytes += chunk.len();
            }
        }
    }

    #[inline]
    pub(super) fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.small.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.small.put_u8(value as u8);
    }

    /// The length in front of a string.
    #[inline]
    pub(super) fn string_len(&mut self, len: Option<usize>, cx: Cx) -> Result<(), EncodeError> {
        // Kafka refuses longer strings in flexible versions as well.
        let short =
            len.map_or(Ok(-1), |len| i16::try_from(len).map_err(|_| EncodeError::new(EncodeProblem::TooLong)))?;
        if cx.flexible {
            self.varint((i32::from(short) + 1) as u32);
        } else {
            self.small.put_i16(short);
        }
        Ok(())
    }

    /// The length in front of bytes, records or an array.
    #[inline]
    pub(super) fn long_len(&mut self, len: Option<usize>, cx: Cx) -> Result<(), EncodeError> {
        let long =
            len.map_or(Ok(-1), |len| i32::try_from(len).map_err(|_| EncodeError::new(EncodeProblem::TooLong)))?;
        if cx.flexible {
            self.varint(long.wrapping_add(1) as u32);
        } else {
            self.small.put_i32(long);
        }
        Ok(())
    }

    /// One field; an error is told which.
    #[inline]
    pub(super) fn field<T: Wire>(&mut self, name: &'static str, value: &T, cx: Cx) -> Result<(), EncodeError> {
        value.write(self, cx).map_err(|error| error.within(name))
    }

    /// One field that only some versions allow to be null.
    #[inline]
    pub(super) fn nullable_if<T: Nullable>(
        &mut self,
        nullable: bool,
        name: &'static str,
        value: &Option<T>,
        cx: Cx,
    ) -> Result<(), EncodeError> {
        match value {
            Some(value) if !nullable => self.field(name, value, cx),
            None if !nullable => Err(EncodeError::new(EncodeProblem::Null).within(name)),
            value => self.field(name, value, cx),
        }
    }

    /// A field this version does not have and that must not be dropped silently.
    #[inline]
    pub(super) fn absent(&self, name: &'static str, is_default: bool, cx: Cx) -> Result<(), EncodeError> {
        if is_default { Ok(()) } else { Err(EncodeError::new(EncodeProblem::Absent(cx.version)).within(name)) }
    }

    /// How many of a struct's tagged fields follow.
    #[inline]
    pub(super) fn tag_count(&mut self, present: &[bool], cx: Cx) {
        if cx.flexible {
            self.varint(present.iter().map(|&present| u32::from(present)).sum());
        }
    }

    /// One tagged field: its number, its size, its value.
    pub(super) fn tag<T: Wire>(&mut self, tag: u32, name: &'static str, value: &T, cx: Cx) -> Result<(), EncodeError> {
        self.varint(tag);
        let start = self.small.len();
        self.field(name, value, cx)?;
        let size = self.small.len() - start;
        // The size goes in front of the value, and only now it is known.
        self.varint(u32::try_from(size).map_err(|_| EncodeError::new(EncodeProblem::TooLong).within(name))?);
        let prefix = self.small.len() - start - size;
        self.small[start..].rotate_right(prefix);
        Ok(())
    }
}

/// A message that cannot be put into the bytes of a version: which field, and why.
#[derive(Clone, PartialEq, Eq)]
pub struct EncodeError(Box<Details>);

#[derive(Clone, PartialEq, Eq)]
struct Details {
    /// Innermost first.
    path: Vec<&'static str>,
    problem: EncodeProblem,
}

/// Why a value cannot be encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeProblem {
    /// The field has a value, but the version does not have the field, and dropping it would change the meaning.
    #[error("version {0} cannot carry this field")]
    Absent(i16),
    /// Null, where this version has no null.
    #[error("null is not allowed in this version")]
    Null,
    /// Longer than its length field can say.
    #[error("longer than the protocol allows")]
    TooLong,
    /// A version the message never had, or has no longer.
    #[error("version {0} is not supported")]
    Version(i16),
}

impl EncodeError {
    #[cold]
    pub(super) fn new(problem: EncodeProblem) -> Self {
        Self(Box::new(Details { path: Vec::new(), problem }))
    }

    #[cold]
    pub(super) fn within(mut self, field: &'static str) -> Self {
        self.0.path.push(field);
        self
    }

    /// Where: the message and its fields, such as `FetchResponse.responses.partitions.preferred_read_replica`.
    pub fn path(&self) -> String {
        self.0.path.iter().rev().copied().collect::<Vec<_>>().join(".")
    }

    /// Why.
    pub fn problem(&self) -> &EncodeProblem {
        &self.0.problem
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path(), self.problem())
    }
}

impl fmt::Debug for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncodeError({self})")
    }
}

impl std::error::Error for EncodeError {}
