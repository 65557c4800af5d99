//! The facts of a message schema: names, types, versions. No prose.

use anyhow::{Context, Result, bail, ensure};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeSet;
use std::fmt::Write;

/// One message, with the keys and in the notation of Kafka's schemas.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Message {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) api_key: Option<i16>,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) listeners: Vec<String>,
    pub(crate) name: String,
    pub(crate) valid_versions: String,
    #[serde(default = "none", skip_serializing_if = "is_none")]
    pub(crate) flexible_versions: String,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) latest_version_unstable: bool,
    #[serde(default)]
    pub(crate) fields: Vec<Field>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) common_structs: Vec<Struct>,
}

/// A struct used by several fields of a message.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Struct {
    pub(crate) name: String,
    pub(crate) versions: String,
    pub(crate) fields: Vec<Field>,
    #[serde(rename = "about", default, skip_serializing)]
    _about: IgnoredValue,
}

/// One field of a message or struct.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Field {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) versions: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tagged_versions: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tag: Option<u32>,
    #[serde(default = "none", skip_serializing_if = "is_none")]
    pub(crate) nullable_versions: String,
    #[serde(default, deserialize_with = "as_text", skip_serializing_if = "Option::is_none")]
    pub(crate) default: Option<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) ignorable: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) map_key: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) entity_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) flexible_versions: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) fields: Vec<Field>,
    #[serde(rename = "about", default, skip_serializing)]
    _about: IgnoredValue,
    /// A hint for Kafka's own implementation; every `bytes` field is a slice of the frame here.
    #[serde(rename = "zeroCopy", default, skip_serializing)]
    _zero_copy: IgnoredValue,
}

/// A value that is accepted and forgotten.
#[derive(Debug, Clone, Default, PartialEq)]
struct IgnoredValue;

impl<'de> Deserialize<'de> for IgnoredValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

fn none() -> String {
    "none".into()
}

fn is_none(versions: &str) -> bool {
    versions == "none"
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// Schemas write defaults as strings, numbers or booleans.
fn as_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Some(match serde_json::Value::deserialize(deserializer)? {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    }))
}

/// The messages a broker needs, from the text of all schemas: what its listener is asked and answers, the two headers,
/// and what consumers tell each other through it.
pub(crate) fn extract(schemas: &str) -> Result<Vec<Message>> {
    let without_comments: String = schemas.lines().flat_map(|line| [without_comment(line), "\n"]).collect();
    let all = serde_json::Deserializer::from_str(&without_comments)
        .into_iter::<serde_json::Value>()
        .collect::<Result<Vec<_>, _>>()
        .context("the schemas are not JSON")?;
    let on_broker = |message: &&serde_json::Value| {
        message["listeners"].as_array().is_some_and(|names| names.iter().any(|name| name == "broker"))
    };
    let keys: BTreeSet<i64> = all.iter().filter(on_broker).filter_map(|message| message["apiKey"].as_i64()).collect();
    let wanted = |message: &serde_json::Value| {
        let name = message["name"].as_str().unwrap_or_default();
        match message["type"].as_str() {
            Some("request" | "response") => message["apiKey"].as_i64().is_some_and(|key| keys.contains(&key)),
            Some("header") => true,
            Some("data") => name.starts_with("ConsumerProtocol"),
            _ => false,
        }
    };
    let mut messages = all
        .into_iter()
        .filter(wanted)
        .map(|message| {
            let name = message["name"].to_string();
            serde_json::from_value(message).with_context(|| format!("the schema {name} says something unknown"))
        })
        .collect::<Result<Vec<Message>>>()?;
    messages.sort_by_key(|message| (message.kind.clone(), message.api_key, message.name.clone()));
    ensure!(!messages.is_empty(), "no schema found");
    Ok(messages)
}

/// The line up to a `//` that is not within a string.
fn without_comment(line: &str) -> &str {
    let mut quoted = false;
    for (index, char) in line.char_indices() {
        match char {
            '"' => quoted = !quoted,
            '/' if !quoted && line[index..].starts_with("//") => return &line[..index],
            _ => {}
        }
    }
    line
}

/// The facts as text: JSON, one message a line.
pub(crate) fn to_text(source: &str, messages: &[Message]) -> Result<String> {
    let mut text = format!("{{\"source\":{},\n\"messages\":[\n", serde_json::to_string(source)?);
    for (index, message) in messages.iter().enumerate() {
        let comma = if index + 1 < messages.len() { "," } else { "" };
        writeln!(text, "{}{comma}", serde_json::to_string(message)?)?;
    }
    text.push_str("]}\n");
    Ok(text)
}

/// What [`to_text`] wrote.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Facts {
    pub(crate) source: String,
    pub(crate) messages: Vec<Message>,
}

/// Reads what [`to_text`] wrote.
pub(crate) fn from_text(text: &str) -> Result<Facts> {
    serde_json::from_str(text).context("schemas.json is not what `extract` writes")
}

/// A range of versions; empty when `from > to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Versions {
    pub(crate) from: i16,
    pub(crate) to: i16,
}

impl Versions {
    pub(crate) const NONE: Self = Self { from: 1, to: 0 };

    /// The notation of the schemas: `none`, `3`, `3-13`, `3+`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        if text == "none" {
            return Ok(Self::NONE);
        }
        let number = |text: &str| text.parse::<i16>().with_context(|| format!("`{text}` is not a version"));
        match (text.strip_suffix('+'), text.split_once('-')) {
            (Some(from), _) => Ok(Self { from: number(from)?, to: i16::MAX }),
            (None, Some((from, to))) => Ok(Self { from: number(from)?, to: number(to)? }),
            (None, None) => Ok(Self { from: number(text)?, to: number(text)? }),
        }
    }

    pub(crate) fn is_empty(self) -> bool {
        self.from > self.to
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self { from: self.from.max(other.from), to: self.to.min(other.to) }
    }

    /// A condition on `variable` that is true in `self`, given that it is within `known`.
    pub(crate) fn condition(self, variable: &str, known: Self) -> Result<Condition> {
        let both = self.and(known);
        Ok(match (both.from > known.from, both.to < known.to) {
            _ if both.is_empty() => Condition::Never,
            (false, false) => Condition::Always,
            _ if both.from == both.to => Condition::If(format!("{variable} == {}", both.from)),
            (true, false) => Condition::If(format!("{variable} >= {}", both.from)),
            (false, true) => Condition::If(format!("{variable} <= {}", both.to)),
            (true, true) => Condition::If(format!("({}..={}).contains(&{variable})", both.from, both.to)),
        })
    }
}

/// Whether something holds in a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    Always,
    Never,
    If(String),
}

impl Condition {
    /// As an expression.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Always => "true",
            Self::Never => "false",
            Self::If(text) => text,
        }
    }
}

/// The type of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A number or boolean, by its Rust name and size.
    Number(&'static str, usize),
    Str,
    Bytes,
    Records,
    Uuid,
    Struct(String),
    Array(Box<Kind>),
}

impl Kind {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "bool" => Self::Number("bool", 1),
            "int8" => Self::Number("i8", 1),
            "int16" => Self::Number("i16", 2),
            "uint16" => Self::Number("u16", 2),
            "int32" => Self::Number("i32", 4),
            "uint32" => Self::Number("u32", 4),
            "int64" => Self::Number("i64", 8),
            "float64" => Self::Number("f64", 8),
            "string" => Self::Str,
            "bytes" => Self::Bytes,
            "records" => Self::Records,
            "uuid" => Self::Uuid,
            _ => match text.strip_prefix("[]") {
                Some(element) => Self::Array(Box::new(Self::parse(element)?)),
                None if text.starts_with(|first: char| first.is_ascii_uppercase()) => Self::Struct(text.into()),
                None => bail!("unknown type `{text}`"),
            },
        })
    }

    /// The Rust type.
    pub(crate) fn rust(&self) -> String {
        match self {
            Self::Number(name, _) => (*name).into(),
            Self::Str => "Str".into(),
            Self::Bytes => "Bytes".into(),
            Self::Records => "Records".into(),
            Self::Uuid => "Uuid".into(),
            Self::Struct(name) => name.clone(),
            Self::Array(element) => format!("Vec<{}>", element.rust()),
        }
    }

    /// The name of the struct this is, or is an array of.
    pub(crate) fn struct_name(&self) -> Option<&str> {
        match self {
            Self::Struct(name) => Some(name),
            Self::Array(element) => element.struct_name(),
            _ => None,
        }
    }
}
