//! Visits any message, field by field, without knowing its type.
//!
//! A walk sees the fields that exist in the given version, in the order of the schema. The visitor hears the name of a
//! field before its value, and the index of an element before the element.

use super::records::Records;
use super::text::Str;
use super::uuid::Uuid;
use bytes::Bytes;

/// A value that can be visited. Implemented by every message, every struct in it, and what those are made of.
pub trait Walk {
    /// Shows the value to `visitor`.
    fn walk(&self, version: i16, visitor: &mut dyn Visitor);

    /// Shows the value to `visitor`, which may change it.
    fn walk_mut(&mut self, version: i16, visitor: &mut dyn VisitorMut);
}

/// Looks at a message.
#[allow(unused_variables, reason = "a visitor implements what it needs")]
pub trait Visitor {
    /// A struct begins; `name` is the schema's.
    fn begin_struct(&mut self, name: &'static str) {}
    /// The next value belongs to this field.
    fn field(&mut self, name: &'static str) {}
    /// The struct that began last ends.
    fn end_struct(&mut self) {}
    /// An array begins.
    fn begin_array(&mut self, len: usize) {}
    /// The next value is this element.
    fn element(&mut self, index: usize) {}
    /// The array that began last ends.
    fn end_array(&mut self) {}
    /// A value that is not made of others.
    fn scalar(&mut self, value: Scalar<'_>) {}
}

/// Looks at a message and changes it.
#[allow(unused_variables, reason = "a visitor implements what it needs")]
pub trait VisitorMut {
    /// A struct begins; `name` is the schema's.
    fn begin_struct(&mut self, name: &'static str) {}
    /// The next value belongs to this field.
    fn field(&mut self, name: &'static str) {}
    /// The struct that began last ends.
    fn end_struct(&mut self) {}
    /// An array begins; it may be given another length, and its elements are visited then.
    fn begin_array(&mut self, array: &mut dyn Array) {}
    /// The next value is this element.
    fn element(&mut self, index: usize) {}
    /// The array that began last ends.
    fn end_array(&mut self) {}
    /// A value that can be null, `nullable` says whether also in this version; if there is one it is visited next.
    fn optional(&mut self, value: &mut dyn Optional, nullable: bool) {}
    /// A value that is not made of others.
    fn scalar(&mut self, value: ScalarMut<'_>) {}
}

/// A value that is not made of others.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs, reason = "the names are the protocol's types")]
pub enum Scalar<'a> {
    Null,
    Bool(bool),
    I8(i8),
    I16(i16),
    U16(u16),
    I32(i32),
    U32(u32),
    I64(i64),
    F64(f64),
    Uuid(Uuid),
    Str(&'a Str),
    Bytes(&'a Bytes),
    Records(&'a Records),
}

/// A value that is not made of others, to be changed.
#[derive(Debug)]
#[allow(missing_docs, reason = "the names are the protocol's types")]
pub enum ScalarMut<'a> {
    Bool(&'a mut bool),
    I8(&'a mut i8),
    I16(&'a mut i16),
    U16(&'a mut u16),
    I32(&'a mut i32),
    U32(&'a mut u32),
    I64(&'a mut i64),
    F64(&'a mut f64),
    Uuid(&'a mut Uuid),
    Str(&'a mut Str),
    Bytes(&'a mut Bytes),
    Records(&'a mut Records),
}

/// An array, whatever is in it.
pub trait Array {
    /// How many elements it has.
    fn len(&self) -> usize;
    /// Whether it has none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Drops elements at the end, or appends default ones.
    fn resize(&mut self, len: usize);
}

impl<T: Default> Array for Vec<T> {
    fn len(&self) -> usize {
        self.len()
    }

    fn resize(&mut self, len: usize) {
        self.resize_with(len, T::default);
    }
}

/// A value that may be null, whatever it is.
pub trait Optional {
    /// Whether it is null.
    fn is_null(&self) -> bool;
    /// Makes it null.
    fn set_null(&mut self);
    /// Gives it a default value if it is null.
    fn set_default(&mut self);
}

impl<T: Default> Optional for Option<T> {
    fn is_null(&self) -> bool {
        self.is_none()
    }

    fn set_null(&mut self) {
        *self = None;
    }

    fn set_default(&mut self) {
        self.get_or_insert_default();
    }
}

macro_rules! copied {
    ($($type:ty, $variant:ident;)*) => {$(
        impl Walk for $type {
            fn walk(&self, _: i16, visitor: &mut dyn Visitor) {
                visitor.scalar(Scalar::$variant(*self));
            }

            fn walk_mut(&mut self, _: i16, visitor: &mut dyn VisitorMut) {
                visitor.scalar(ScalarMut::$variant(self));
            }
        }
    )*};
}

copied! { bool, Bool; i8, I8; i16, I16; u16, U16; i32, I32; u32, U32; i64, I64; f64, F64; Uuid, Uuid; }

macro_rules! referenced {
    ($($type:ident)*) => {$(
        impl Walk for $type {
            fn walk(&self, _: i16, visitor: &mut dyn Visitor) {
                visitor.scalar(Scalar::$type(self));
            }

            fn walk_mut(&mut self, _: i16, visitor: &mut dyn VisitorMut) {
                visitor.scalar(ScalarMut::$type(self));
            }
        }
    )*};
}

referenced! { Str Bytes Records }

impl<T: Walk + Default> Walk for Vec<T> {
    fn walk(&self, version: i16, visitor: &mut dyn Visitor) {
        visitor.begin_array(self.len());
        for (index, element) in self.iter().enumerate() {
            visitor.element(index);
            element.walk(version, visitor);
        }
        visitor.end_array();
    }

    fn walk_mut(&mut self, version: i16, visitor: &mut dyn VisitorMut) {
        visitor.begin_array(self);
        for (index, element) in self.iter_mut().enumerate() {
            visitor.element(index);
            element.walk_mut(version, visitor);
        }
        visitor.end_array();
    }
}

/// A field's value; the generated structs call this for each field they have.
pub(super) fn field<T: Walk>(visitor: &mut dyn Visitor, name: &'static str, value: &T, version: i16) {
    visitor.field(name);
    value.walk(version, visitor);
}

/// A field's value that may be null.
pub(super) fn nullable<T: Walk>(visitor: &mut dyn Visitor, name: &'static str, value: &Option<T>, version: i16) {
    visitor.field(name);
    match value {
        Some(value) => value.walk(version, visitor),
        None => visitor.scalar(Scalar::Null),
    }
}

/// A field's value, to be changed.
pub(super) fn field_mut<T: Walk>(visitor: &mut dyn VisitorMut, name: &'static str, value: &mut T, version: i16) {
    visitor.field(name);
    value.walk_mut(version, visitor);
}

/// A field's value that may be null (in this version, if `null`), to be changed.
pub(super) fn nullable_mut<T: Walk + Default>(
    visitor: &mut dyn VisitorMut,
    null: bool,
    name: &'static str,
    value: &mut Option<T>,
    version: i16,
) {
    visitor.field(name);
    visitor.optional(value, null);
    if let Some(value) = value {
        value.walk_mut(version, visitor);
    }
}
