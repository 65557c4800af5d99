//! How a value of each type is read and written. The generated structs implement [`Wire`] field by field.

use super::reader::{DecodeError, DecodeProblem, Reader};
use super::records::Records;
use super::text::Str;
use super::uuid::Uuid;
use super::walk::Walk;
use super::writer::{EncodeError, EncodeProblem, Writer};
use bytes::Bytes;
use std::ops::RangeInclusive;

/// How many bytes of memory one byte of the wire may turn into. An empty compact string is one byte there and the
/// four words of a [`Str`] here; structs with fields that only other versions have are up to twice as bad.
pub const AMPLIFICATION_MAX: usize = 64;

/// A whole message: a request, a response or a header.
pub trait Message: Wire + Walk + Default {
    /// Its name in the schemas, e.g. `ProduceRequest`.
    const NAME: &'static str;
    /// The versions it can be encoded in.
    const VERSIONS: RangeInclusive<i16>;
    /// The first version with compact lengths and tagged fields; `i16::MAX` when there is none.
    const FLEXIBLE_FROM: i16;

    /// Reads the message from where `reader` stands, and leaves it behind the message.
    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        if !Self::VERSIONS.contains(&version) {
            return Err(reader.error(DecodeProblem::Version(version)).within(Self::NAME));
        }
        reader.field(Self::NAME, Cx { version, flexible: version >= Self::FLEXIBLE_FROM })
    }

    /// Appends the message. It fails when a field has a value that `version` can neither carry nor leave out,
    /// as Kafka does; what was written until then stays in `writer`.
    fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {
        if !Self::VERSIONS.contains(&version) {
            return Err(EncodeError::new(EncodeProblem::Version(version)).within(Self::NAME));
        }
        writer.field(Self::NAME, self, Cx { version, flexible: version >= Self::FLEXIBLE_FROM })
    }
}

/// The message's version, and whether that is one with compact lengths and tagged fields.
#[derive(Debug, Clone, Copy)]
pub struct Cx {
    /// The version.
    pub version: i16,
    /// Whether lengths are varints and structs end with tagged fields.
    pub flexible: bool,
}

impl Cx {
    /// The same version with lengths as before flexible versions: the client id in a request's header.
    pub(super) fn inflexible(self) -> Self {
        Self { flexible: false, ..self }
    }
}

/// A value that has bytes.
pub trait Wire: Sized {
    /// The fewest bytes a value takes, in any version. At least one.
    const MIN_SIZE: usize;

    /// Reads a value.
    fn read(r: &mut Reader, cx: Cx) -> Result<Self, DecodeError>;

    /// Appends the value.
    fn write(&self, w: &mut Writer, cx: Cx) -> Result<(), EncodeError>;
}

/// A value whose encoding has room for null.
pub trait Nullable: Wire {
    /// Reads a value or null.
    fn read_nullable(r: &mut Reader, cx: Cx) -> Result<Option<Self>, DecodeError>;

    /// Appends a value or null.
    fn write_nullable(value: Option<&Self>, w: &mut Writer, cx: Cx) -> Result<(), EncodeError>;

    /// Reads a value where null is not allowed.
    fn read_not_null(r: &mut Reader, cx: Cx) -> Result<Self, DecodeError> {
        match Self::read_nullable(r, cx)? {
            Some(value) => Ok(value),
            None => Err(r.error(DecodeProblem::Null)),
        }
    }
}

impl<T: Nullable> Wire for Option<T> {
    const MIN_SIZE: usize = 1;

    #[inline]
    fn read(r: &mut Reader, cx: Cx) -> Result<Self, DecodeError> {
        T::read_nullable(r, cx)
    }

    #[inline]
    fn write(&self, w: &mut Writer, cx: Cx) -> Result<(), EncodeError> {
        T::write_nullable(self.as_ref(), w, cx)
    }
}

macro_rules! numbers {
    ($($type:ty)*) => {$(
        impl Wire for $type {
            const MIN_SIZE: usize = size_of::<$type>();

            #[inline]
            fn read(r: &mut Reader, _: Cx) -> Result<Self, DecodeError> {
                r.array().map(Self::from_be_bytes)
            }

            #[inline]
            fn write(&self, w: &mut Writer, _: Cx) -> Result<(), EncodeError> {
                w.bytes(&self.to_be_bytes());
                Ok(())
            }
        }
    )*};
}

numbers! { i8 i16 u16 i32 u32 i64 f64 }

impl Wire for bool {
    const MIN_SIZE: usize = 1;

    fn read(r: &mut Reader, _: Cx) -> Result<Self, DecodeError> {
        r.array().map(|[byte]| byte != 0)
    }

    fn write(&self, w: &mut Writer, _: Cx) -> Result<(), EncodeError> {
        w.bytes(&[u8::from(*self)]);
        Ok(())
    }
}

impl Wire for Uuid {
    const MIN_SIZE: usize = 16;

    fn read(r: &mut Reader, _: Cx) -> Result<Self, DecodeError> {
        r.array().map(Self::from_bytes)
    }

    fn write(&self, w: &mut Writer, _: Cx) -> Result<(), EncodeError> {
        w.bytes(self.as_bytes());
        Ok(())
    }
}

/// The half of [`Wire`] that follows from [`Nullable`].
macro_rules! not_null {
    () => {
        const MIN_SIZE: usize = 1;

        #[inline]
        fn read(r: &mut Reader, cx: Cx) -> Result<Self, DecodeError> {
            Self::read_not_null(r, cx)
        }

        #[inline]
        fn write(&self, w: &mut Writer, cx: Cx) -> Result<(), EncodeError> {
            Self::write_nullable(Some(self), w, cx)
        }
    };
}

impl Wire for Str {
    not_null!();
}

impl Nullable for Str {
    fn read_nullable(r: &mut Reader, cx: Cx) -> Result<Option<Self>, DecodeError> {
        match r.string_len(cx)? {
            Some(len) if len > i16::MAX as usize => Err(r.error(DecodeProblem::StringTooLong(len))),
            Some(len) => match Self::from_utf8(r.slice(len)?) {
                Ok(text) => Ok(Some(text)),
                Err(_) => Err(r.error(DecodeProblem::NotUtf8)),
            },
            None => Ok(None),
        }
    }

    fn write_nullable(value: Option<&Self>, w: &mut Writer, cx: Cx) -> Result<(), EncodeError> {
        w.string_len(value.map(|text| text.len()), cx)?;
        w.bytes(value.map_or(&[], |text| text.as_bytes()));
        Ok(())
    }
}

impl Wire for Bytes {
    not_null!();
}

impl Nullable for Bytes {
    fn read_nullable(r: &mut Reader, cx: Cx) -> Result<Option<Self>, DecodeError> {
        r.long_len(cx)?.map(|len| r.slice(len)).transpose()
    }

    fn write_nullable(value: Option<&Self>, w: &mut Writer, cx: Cx) -> Result<(), EncodeError> {
        w.long_len(value.map(Bytes::len), cx)?;
        w.bytes(value.map_or(&[], |bytes| bytes));
        Ok(())
    }
}

impl Wire for Records {
    not_null!();
}

impl Nullable for Records {
    fn read_nullable(r: &mut Reader, cx: Cx) -> Result<Option<Self>, DecodeError> {
        Ok(Bytes::read_nullable(r, cx)?.map(Self::from))
    }

    fn write_nullable(value: Option<&Self>, w: &mut Writer, cx: Cx) -> Result<(), EncodeError> {
        w.long_len(value.map(Self::len), cx)?;
        if let Some(records) = value {
            w.records(records);
        }
        Ok(())
    }
}

impl<T: Wire> Wire for Vec<T> {
    not_null!();
}

impl<T: Wire> Nullable for Vec<T> {
    fn read_nullable(r: &mut Reader, cx: Cx) -> Result<Option<Self>, DecodeError> {
        const {
            assert!(T::MIN_SIZE > 0 && size_of::<T>() <= AMPLIFICATION_MAX * T::MIN_SIZE, "too large for its bytes");
        }
        let Some(claimed) = r.long_len(cx)? else { return Ok(None) };
        if claimed > r.remaining() / T::MIN_SIZE {
            return Err(r.error(DecodeProblem::ArrayTooLong { claimed, left: r.remaining() }));
        }
        let mut elements = Self::new();
        for index in 0..claimed {
            if elements.len() == elements.capacity() {
                elements.reserve_exact(index.max(RESERVED_FIRST).min(claimed - index));
            }
            elements.push(T::read(r, cx).map_err(|error| error.at(index))?);
        }
        Ok(Some(elements))
    }

    fn write_nullable(value: Option<&Self>, w: &mut Writer, cx: Cx) -> Result<(), EncodeError> {
        w.long_len(value.map(Self::len), cx)?;
        value.into_iter().flatten().try_for_each(|element| element.write(w, cx))
    }
}

/// How many elements an array reserves before the first one was decoded.
const RESERVED_FIRST: usize = 4;

/// Null for a struct is one byte in front of it, in every version.
macro_rules! nullable_struct {
    ($type:ty) => {
        impl Nullable for $type {
            fn read_nullable(r: &mut Reader, cx: Cx) -> Result<Option<Self>, DecodeError> {
                if i8::read(r, cx)? < 0 { Ok(None) } else { Self::read(r, cx).map(Some) }
            }

            fn write_nullable(value: Option<&Self>, w: &mut Writer, cx: Cx) -> Result<(), EncodeError> {
                w.bytes(&[if value.is_some() { 1 } else { 0xff }]);
                value.map_or(Ok(()), |value| value.write(w, cx))
            }
        }
    };
}
pub(super) use nullable_struct;
