//! Any message as JSON, for people: the request log, the page, failing tests.
//!
//! Structs become objects with the schemas' field names, ids their text, numbers numbers, null null. Bytes become
//! `{"len": 5, "text": "range"}` when they are short printable ASCII, else `{"len": 70, "hex": "00010000…"}` with the
//! first 32 of them; records become `{"len": 70, "crc32c": "d7f4b2c1"}`, enough to see whether two are the same.
//! There is no way back from it.

use super::walk::{Scalar, Visitor, Walk};
use bytes::Bytes;
use serde_json::{Map, Value, json};

/// How many bytes of a `bytes` field are shown.
const SHOWN_MAX: usize = 32;

/// The message with the fields it has in `version`.
pub fn to_json(message: &dyn Walk, version: i16) -> Value {
    let mut builder = Builder::default();
    message.walk(version, &mut builder);
    builder.done
}

/// Values that have begun and not ended, innermost last.
#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    done: Value,
}

enum Open {
    Struct { fields: Map<String, Value>, next: &'static str },
    Array(Vec<Value>),
}

impl Builder {
    /// Puts a finished value where it belongs.
    fn add(&mut self, value: Value) {
        match self.open.last_mut() {
            Some(Open::Struct { fields, next }) => {
                fields.insert((*next).to_owned(), value);
            }
            Some(Open::Array(elements)) => elements.push(value),
            None => self.done = value,
        }
    }

    fn close(&mut self) {
        match self.open.pop() {
            Some(Open::Struct { fields, .. }) => self.add(Value::Object(fields)),
            Some(Open::Array(elements)) => self.add(Value::Array(elements)),
            None => unreachable!("a walk ends only what it began"),
        }
    }
}

impl Visitor for Builder {
    fn begin_struct(&mut self, _: &'static str) {
        self.open.push(Open::Struct { fields: Map::new(), next: "" });
    }

    fn field(&mut self, name: &'static str) {
        if let Some(Open::Struct { next, .. }) = self.open.last_mut() {
            *next = name;
        }
    }

    fn end_struct(&mut self) {
        self.close();
    }

    fn begin_array(&mut self, len: usize) {
        self.open.push(Open::Array(Vec::with_capacity(len)));
    }

    fn end_array(&mut self) {
        self.close();
    }

    fn scalar(&mut self, value: Scalar<'_>) {
        self.add(match value {
            Scalar::Null => Value::Null,
            Scalar::Bool(value) => value.into(),
            Scalar::I8(value) => value.into(),
            Scalar::I16(value) => value.into(),
            Scalar::U16(value) => value.into(),
            Scalar::I32(value) => value.into(),
            Scalar::U32(value) => value.into(),
            Scalar::I64(value) => value.into(),
            Scalar::F64(value) => value.into(),
            Scalar::Uuid(id) => id.to_string().into(),
            Scalar::Str(text) => text.as_str().into(),
            Scalar::Bytes(bytes) => bytes_json(bytes),
            Scalar::Records(records) => {
                let crc = records.chunks().fold(0, |crc, chunk| crc32c::crc32c_append(crc, chunk));
                json!({ "len": records.len(), "crc32c": format!("{crc:08x}") })
            }
        });
    }
}

fn bytes_json(bytes: &Bytes) -> Value {
    let printable = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
    match std::str::from_utf8(bytes) {
        Ok(text) if bytes.len() <= SHOWN_MAX && bytes.iter().all(printable) => {
            json!({ "len": bytes.len(), "text": text })
        }
        _ => {
            let mut hex: String = bytes.iter().take(SHOWN_MAX).map(|byte| format!("{byte:02x}")).collect();
            if bytes.len() > SHOWN_MAX {
                hex.push('…');
            }
            json!({ "len": bytes.len(), "hex": hex })
        }
    }
}
