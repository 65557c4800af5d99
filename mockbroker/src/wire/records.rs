//! Record batches as they are on the wire and in the log.

use bytes::Bytes;
use std::fmt;

/// The bytes of a `records` field, in one chunk or several.
///
/// A decoded field is one chunk, a slice of its frame. A fetch answers with as many stored batches as fit, each a
/// chunk of its own, so that none is copied. Two are equal when their bytes are, however they are cut.
#[derive(Clone, Default)]
pub struct Records(Chunks);

#[derive(Clone)]
enum Chunks {
    One(Bytes),
    Many { chunks: Vec<Bytes>, len: usize },
}

impl Default for Chunks {
    fn default() -> Self {
        Self::One(Bytes::new())
    }
}

impl Records {
    /// How many bytes there are.
    pub fn len(&self) -> usize {
        match &self.0 {
            Chunks::One(chunk) => chunk.len(),
            Chunks::Many { len, .. } => *len,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The chunks in order.
    pub fn chunks(&self) -> impl Iterator<Item = &Bytes> {
        match &self.0 {
            Chunks::One(chunk) => std::slice::from_ref(chunk).iter(),
            Chunks::Many { chunks, .. } => chunks.iter(),
        }
    }

    /// Appends a chunk.
    pub fn push(&mut self, chunk: Bytes) {
        if self.is_empty() {
            self.0 = Chunks::One(chunk);
            return;
        }
        match &mut self.0 {
            Chunks::Many { chunks, len } => {
                *len += chunk.len();
                chunks.push(chunk);
            }
            Chunks::One(first) => {
                let len = first.len() + chunk.len();
                self.0 = Chunks::Many { chunks: vec![std::mem::take(first), chunk], len };
            }
        }
    }

    /// All bytes in one piece; copies when there is more than one chunk.
    pub fn to_bytes(&self) -> Bytes {
        match &self.0 {
            Chunks::One(chunk) => chunk.clone(),
            Chunks::Many { chunks, .. } => chunks.concat().into(),
        }
    }
}

impl From<Bytes> for Records {
    fn from(chunk: Bytes) -> Self {
        Self(Chunks::One(chunk))
    }
}

impl FromIterator<Bytes> for Records {
    fn from_iter<I: IntoIterator<Item = Bytes>>(chunks: I) -> Self {
        let mut records = Self::default();
        for chunk in chunks {
            records.push(chunk);
        }
        records
    }
}

impl PartialEq for Records {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Chunks::One(a), Chunks::One(b)) => a == b,
            _ => self.len() == other.len() && self.chunks().flatten().eq(other.chunks().flatten()),
        }
    }
}

impl Eq for Records {}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Records({} bytes)", self.len())
    }
}
