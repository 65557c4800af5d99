//! One config: its name and type, which values it accepts, how a value is read and written.

use super::InvalidConfig;
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// The type of a config, numbered as Kafka numbers it (`DescribeConfigsResponse.ConfigType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub enum Kind {
    /// `true` or `false`, in any case.
    Boolean = 1,
    /// Text.
    String = 2,
    /// A 32-bit integer.
    Int = 3,
    /// A 16-bit integer.
    Short = 4,
    /// A 64-bit integer.
    Long = 5,
    /// A floating-point number.
    Double = 6,
    /// Values separated by commas.
    List = 7,
    /// The name of a Java class; never loaded here.
    Class = 8,
    /// Text which is never shown.
    Password = 9,
}

/// Which values of its type a config accepts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Accepts {
    Any,
    AtLeast(i64),
    Between(i64, i64),
    Ratio(f64, f64),
    NonEmpty,
    OneOf(&'static [&'static str]),
    OneOfAnyCase(&'static [&'static str]),
    /// A list without empty elements; repetitions are dropped, as with every list below but the last.
    Distinct,
    DistinctNonEmpty,
    SubsetOf(&'static [&'static str]),
    NonEmptySubsetOf(&'static [&'static str]),
    /// `*`, or `partition:broker` pairs.
    ThrottledReplicas,
    /// 1 to 9, or -1 for the library's default.
    GzipLevel,
    /// `earliest`, `latest` or `by_duration:<ISO 8601>`.
    ShareOffsetReset,
}

/// Whether a broker's config can change while the broker runs, and for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    ReadOnly,
    PerBroker,
    ClusterWide,
}

/// What is known of one config.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) default: Option<&'static str>,
    pub(super) accepts: Accepts,
    pub(super) change: Change,
    /// Kafka calls it internal: described only where it was set.
    pub(super) hidden: bool,
    /// The broker config it follows when it is not set.
    pub(super) inherits: Option<&'static str>,
}

pub(super) const fn key(
    name: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    accepts: Accepts,
    change: Change,
) -> Key {
    Key { name, kind, default, accepts, change, hidden: false, inherits: None }
}

/// A config that may change at any time.
pub(super) const fn free(name: &'static str, kind: Kind, default: Option<&'static str>, accepts: Accepts) -> Key {
    key(name, kind, default, accepts, Change::ClusterWide)
}

impl Key {
    pub(super) const fn hidden(self) -> Self {
        Self { hidden: true, ..self }
    }

    pub(super) const fn inherits(self, broker: &'static str) -> Self {
        Self { inherits: Some(broker), ..self }
    }

    /// Reads a value the way Kafka does: trimmed, typed, checked.
    pub(super) fn read(&self, raw: &str) -> Result<Value, InvalidConfig> {
        let mut value = Value::parse(self.kind, raw).ok_or_else(|| self.refuse(raw, expected_of(self.kind)))?;
        if self.accepts.drops_repetitions()
            && let Value::List(items) = &mut value
        {
            keep_first(items);
        }
        match self.accepts.objection(&value) {
            None => Ok(value),
            Some(expected) => Err(self.refuse(raw, expected)),
        }
    }

    /// The default, typed; `None` where Kafka has none.
    pub(super) fn default_value(&self) -> Option<Value> {
        self.default.and_then(|raw| Value::parse(self.kind, raw))
    }

    pub(super) fn is_sensitive(&self) -> bool {
        self.kind == Kind::Password
    }

    fn refuse(&self, raw: &str, expected: impl Into<String>) -> InvalidConfig {
        let value = if self.is_sensitive() { "(hidden)" } else { raw };
        InvalidConfig::Value { name: self.name.to_owned(), value: value.to_owned(), expected: expected.into() }
    }
}

/// The key of this name in a table, which is sorted by name.
pub(super) fn find(table: &'static [Key], name: &str) -> Option<&'static Key> {
    table.binary_search_by(|key| key.name.cmp(name)).ok().map(|at| &table[at])
}

/// A value read.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Boolean(bool),
    Number(i64),
    Double(f64),
    Text(String),
    List(Vec<String>),
}

impl Value {
    fn parse(kind: Kind, raw: &str) -> Option<Self> {
        let text = raw.trim();
        match kind {
            Kind::Boolean if text.eq_ignore_ascii_case("true") => Some(Self::Boolean(true)),
            Kind::Boolean if text.eq_ignore_ascii_case("false") => Some(Self::Boolean(false)),
            Kind::Boolean => None,
            Kind::Short => text.parse::<i16>().ok().map(|n| Self::Number(n.into())),
            Kind::Int => text.parse::<i32>().ok().map(|n| Self::Number(n.into())),
            Kind::Long => text.parse().ok().map(Self::Number),
            Kind::Double => text.parse().ok().map(Self::Double),
            Kind::List if text.is_empty() => Some(Self::List(Vec::new())),
            Kind::List => Some(Self::List(text.split(',').map(|item| item.trim().to_owned()).collect())),
            Kind::String | Kind::Class | Kind::Password => Some(Self::Text(text.to_owned())),
        }
    }

    pub(super) fn number(&self) -> Option<i64> {
        match self {
            Self::Number(n) => Some(*n),
            _ => None,
        }
    }

    pub(super) fn items(&self) -> &[String] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }
}

/// As Kafka writes it in an answer.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
            Self::Double(value) => write_double(*value, f),
            Self::Text(value) => f.write_str(value),
            Self::List(items) => f.write_str(&items.join(",")),
        }
    }
}

/// Java's spelling: always a fraction, scientific below 0.001 and from ten million on.
fn write_double(value: f64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if value == 0.0 || (1e-3..1e7).contains(&value.abs()) {
        return write!(f, "{value:?}");
    }
    let scientific = format!("{value:e}");
    match scientific.split_once('e') {
        Some((digits, exponent)) if digits.contains('.') => write!(f, "{digits}E{exponent}"),
        Some((digits, exponent)) => write!(f, "{digits}.0E{exponent}"),
        None if value.is_nan() => f.write_str("NaN"),
        None if value < 0.0 => f.write_str("-Infinity"),
        None => f.write_str("Infinity"),
    }
}

impl Accepts {
    fn drops_repetitions(self) -> bool {
        matches!(self, Self::Distinct | Self::DistinctNonEmpty | Self::SubsetOf(_) | Self::NonEmptySubsetOf(_))
    }

    /// What was expected instead, if the value is not accepted.
    fn objection(self, value: &Value) -> Option<String> {
        let fine = match (self, value) {
            (Self::AtLeast(min), Value::Number(n)) => *n >= min,
            (Self::Between(min, max), Value::Number(n)) => (min..=max).contains(n),
            (Self::GzipLevel, Value::Number(n)) => *n == -1 || (1..=9).contains(n),
            // Kafka compares with `<` and `>`, which a NaN passes.
            (Self::Ratio(min, max), Value::Double(d)) => !(*d < min || *d > max),
            (Self::NonEmpty, Value::Text(text)) => !text.is_empty(),
            (Self::OneOf(names), Value::Text(text)) => names.contains(&text.as_str()),
            (Self::OneOfAnyCase(names), Value::Text(text)) => names.iter().any(|name| name.eq_ignore_ascii_case(text)),
            (Self::Distinct, Value::List(items)) => no_blanks(items),
            (Self::DistinctNonEmpty, Value::List(items)) => !items.is_empty() && no_blanks(items),
            (Self::SubsetOf(names), Value::List(items)) => subset(items, names),
            (Self::NonEmptySubsetOf(names), Value::List(items)) => !items.is_empty() && subset(items, names),
            (Self::ThrottledReplicas, Value::List(items)) => throttled_replicas(items),
            (Self::ShareOffsetReset, Value::Text(text)) => share_offset_reset(text),
            _ => true,
        };
        (!fine).then(|| self.to_string())
    }
}

impl fmt::Display for Accepts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("anything"),
            Self::AtLeast(min) => write!(f, "at least {min}"),
            Self::Between(min, max) => write!(f, "{min} to {max}"),
            Self::Ratio(min, max) => write!(f, "{min} to {max}"),
            Self::NonEmpty => f.write_str("a text that is not empty"),
            Self::OneOf(names) | Self::OneOfAnyCase(names) => write!(f, "one of {}", names.join(", ")),
            Self::Distinct => f.write_str("a list without empty elements"),
            Self::DistinctNonEmpty => f.write_str("a list of at least one value, none empty"),
            Self::SubsetOf(names) => write!(f, "a list of none or more of {}", names.join(", ")),
            Self::NonEmptySubsetOf(names) => write!(f, "a list of one or more of {}", names.join(", ")),
            Self::ThrottledReplicas => f.write_str("* or a list of partition:broker"),
            Self::GzipLevel => f.write_str("1 to 9, or -1"),
            Self::ShareOffsetReset => f.write_str("earliest, latest or by_duration:<ISO 8601 duration>"),
        }
    }
}

fn expected_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Boolean => "true or false",
        Kind::Int => "a 32-bit integer",
        Kind::Short => "a 16-bit integer",
        Kind::Long => "a 64-bit integer",
        Kind::Double => "a number",
        Kind::List => "a list separated by commas",
        Kind::String | Kind::Class | Kind::Password => "a text",
    }
}

fn keep_first(items: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    items.retain(|item| seen.insert(item.clone()));
}

fn no_blanks(items: &[String]) -> bool {
    items.iter().all(|item| !item.is_empty())
}

fn subset(items: &[String], names: &[&str]) -> bool {
    items.iter().all(|item| names.contains(&item.as_str()))
}

fn throttled_replicas(items: &[String]) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let pair = |item: &String| {
        item.is_empty() || item.split_once(':').is_some_and(|(partition, broker)| digits(partition) && digits(broker))
    };
    items.iter().all(pair) || items.concat() == "*"
}

fn share_offset_reset(text: &str) -> bool {
    match text.strip_prefix("by_duration:") {
        Some(duration) => iso_8601(duration).is_some(),
        None => text == "earliest" || text == "latest",
    }
}

/// A duration such as `P1DT2H3M4.5S`; negative ones are refused.
pub(in crate::state) fn iso_8601(text: &str) -> Option<Duration> {
    let text = text.to_ascii_lowercase();
    let (days, time) = match text.strip_prefix('p')?.split_once('t') {
        Some((_, "")) => return None,
        Some((days, time)) => (days, time),
        None => (text.strip_prefix('p')?, ""),
    };
    if days.is_empty() && time.is_empty() {
        return None;
    }
    let (day_part, rest) = whole(days, 'd')?;
    let (hours, time) = whole(time, 'h')?;
    let (minutes, time) = whole(time, 'm')?;
    let seconds = if time.is_empty() { 0.0 } else { time.strip_suffix('s')?.parse::<f64>().ok()? };
    let minutes = day_part.checked_mul(24)?.checked_add(hours)?.checked_mul(60)?.checked_add(minutes)?;
    let whole = Duration::from_secs(minutes.checked_mul(60)?);
    (rest.is_empty()).then_some(())?;
    whole.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
}

/// The number before `unit`, or 0 where the unit is absent, and what follows.
fn whole(text: &str, unit: char) -> Option<(u64, &str)> {
    match text.split_once(unit) {
        Some((number, rest)) => Some((number.parse().ok()?, rest)),
        None => Some((0, text)),
    }
}
