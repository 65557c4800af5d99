//! Takes a frame apart without trusting it.
//!
//! What decoding may cost is bounded by the bytes that were received:
//! - Nothing is reserved for an array before its claimed length was checked against the bytes left: every element
//!   has a smallest encoding of at least one byte ([`Wire::MIN_SIZE`]), so a frame never holds more elements than bytes.
//! - Reserving starts small and doubles, never beyond the claimed length, so a lie costs what was decoded until then.
//! - An element is at most [`AMPLIFICATION_MAX`](super::codec::AMPLIFICATION_MAX) times larger in memory than on the
//!   wire; the compiler checks this for every array there is.
//! - Nesting is bounded because the schemas do not recurse; unknown tagged fields are skipped, not kept.

use super::codec::{Cx, Nullable, Wire};
use bytes::Bytes;
use std::fmt;

/// A place in a frame, and what is left of it.
#[derive(Debug, Clone)]
pub struct Reader {
    frame: Bytes,
    offset: usize,
}

impl Reader {
    /// Reads from the first byte of `frame`; offsets in errors count from there.
    pub fn new(frame: impl Into<Bytes>) -> Self {
        Self { frame: frame.into(), offset: 0 }
    }

    /// How many bytes were read so far.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.frame.len() - self.offset
    }

    /// The next `N` bytes, by value.
    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.frame[self.offset..].first_chunk::<N>() {
            Some(bytes) => {
                self.offset += N;
                Ok(*bytes)
            }
            None => Err(self.truncated(N)),
        }
    }

    /// The next `len` bytes, as a slice of the frame.
    #[inline]
    pub(super) fn slice(&mut self, len: usize) -> Result<Bytes, DecodeError> {
        if len > self.remaining() {
            return Err(self.truncated(len));
        }
        let start = self.offset;
        self.offset += len;
        Ok(self.frame.slice(start..self.offset))
    }

    /// An unsigned varint of at most 32 bits.
    #[inline]
    pub(super) fn varint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.error(DecodeProblem::VarintTooLong))
    }

    /// The length in front of a string; `None` is null.
    #[inline]
    pub(super) fn string_len(&mut self, cx: Cx) -> Result<Option<usize>, DecodeError> {
        if cx.flexible { self.compact_len() } else { Ok(usize::try_from(i16::from_be_bytes(self.array()?)).ok()) }
    }

    /// The length in front of bytes, records or an array; `None` is null.
    #[inline]
    pub(super) fn long_len(&mut self, cx: Cx) -> Result<Option<usize>, DecodeError> {
        if cx.flexible { self.compact_len() } else { Ok(usize::try_from(i32::from_be_bytes(self.array()?)).ok()) }
    }

    /// Flexible versions write the length plus one, and zero for null.
    fn compact_len(&mut self) -> Result<Option<usize>, DecodeError> {
        Ok(self.varint()?.checked_sub(1).map(|len| len as usize))
    }

    /// One field; an error is told which.
    #[inline]
    pub(super) fn field<T: Wire>(&mut self, name: &'static str, cx: Cx) -> Result<T, DecodeError> {
        T::read(self, cx).map_err(|error| error.within(name))
    }

    /// One field that only some versions allow to be null.
    #[inline]
    pub(super) fn nullable_if<T: Nullable>(
        &mut self,
        nullable: bool,
        name: &'static str,
        cx: Cx,
    ) -> Result<Option<T>, DecodeError> {
        if nullable { self.field(name, cx) } else { self.field(name, cx).map(Some) }
    }

    /// The tagged fields at the end of a struct. `known` reads the field of a tag it knows and returns true.
    pub(super) fn tags(
        &mut self,
        cx: Cx,
        mut known: impl FnMut(&mut Self, u32) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        if !cx.flexible {
            return Ok(());
        }
        for _ in 0..self.varint()? {
            let tag = self.varint()?;
            let size = self.varint()? as usize;
            if size > self.remaining() {
                return Err(self.truncated(size));
            }
            let end = self.offset + size;
            if !known(self, tag)? {
                self.offset = end;
            }
            if self.offset != end {
                return Err(self.error(DecodeProblem::TagSize { tag }));
            }
        }
        Ok(())
    }

    /// The tagged fields of a struct that knows none.
    #[inline]
    pub(super) fn no_tags(&mut self, cx: Cx) -> Result<(), DecodeError> {
        self.tags(cx, |_, _| Ok(false))
    }

    #[cold]
    pub(super) fn error(&self, problem: DecodeProblem) -> DecodeError {
        DecodeError(Box::new(Details { path: Vec::new(), offset: self.offset, problem }))
    }

    #[cold]
    fn truncated(&self, needed: usize) -> DecodeError {
        self.error(DecodeProblem::Truncated { needed, left: self.remaining() })
    }
}

/// A frame that could not be understood: which field, at which byte, and why.
#[derive(Clone, PartialEq, Eq)]
pub struct DecodeError(Box<Details>);

#[derive(Clone, PartialEq, Eq)]
struct Details {
    /// Innermost first: it grows while the error makes its way out, so a frame without an error pays nothing.
    path: Vec<Step>,
    offset: usize,
    problem: DecodeProblem,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Field(&'static str),
    Index(usize),
}

/// What is wrong with the bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeProblem {
    /// The frame ends before the value does.
    #[error("{needed} bytes needed, {left} left")]
    Truncated {
        /// How many the value takes.
        needed: usize,
        /// How many there are.
        left: usize,
    },
    /// More elements are claimed than can follow.
    #[error("an array of {claimed} elements cannot fit into the {left} bytes left")]
    ArrayTooLong {
        /// The claimed number of elements.
        claimed: usize,
        /// How many bytes there are.
        left: usize,
    },
    /// Null, where this version has no null.
    #[error("null is not allowed in this version")]
    Null,
    /// A string that is not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// A string longer than Kafka allows one to be.
    #[error("a string of {0} bytes is longer than 32767")]
    StringTooLong(usize),
    /// A varint of more than 32 bits.
    #[error("a varint does not end within 32 bits")]
    VarintTooLong,
    /// A tagged field that is shorter or longer than its size says.
    #[error("tagged field {tag} does not have the size it claims")]
    TagSize {
        /// The field's number.
        tag: u32,
    },
    /// A version the message never had, or has no longer.
    #[error("version {0} is not supported")]
    Version(i16),
}

impl DecodeError {
    /// Where: the message, its fields and indices, such as `ProduceRequest.topic_data[2].name`.
    pub fn path(&self) -> String {
        let mut path = String::new();
        for step in self.0.path.iter().rev() {
            match step {
                Step::Field(name) if path.is_empty() => path.push_str(name),
                Step::Field(name) => path.extend([".", name]),
                Step::Index(index) => path.push_str(&format!("[{index}]")),
            }
        }
        path
    }

    /// How many bytes had been read.
    pub fn offset(&self) -> usize {
        self.0.offset
    }

    /// What was wrong there.
    pub fn problem(&self) -> &DecodeProblem {
        &self.0.problem
    }

    #[cold]
    pub(super) fn within(mut self, field: &'static str) -> Self {
        self.0.path.push(Step::Field(field));
        self
    }

    #[cold]
    pub(super) fn at(mut self, index: usize) -> Self {
        self.0.path.push(Step::Index(index));
        self
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}: {}", self.path(), self.offset(), self.problem())
    }
}

impl fmt::Debug for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DecodeError({self})")
    }
}

impl std::error::Error for DecodeError {}
