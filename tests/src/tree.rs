//! Any decoded message as one tree of plain values.
//!
//! The codec's messages know `Debug` and nothing else that reflects, so their derived debug text is read back: a
//! grammar of structs, lists, maps, strings, byte strings and numbers. Newtypes and `Some` dissolve; `None` is null; byte
//! strings stay text in Rust's notation, `b"…"`.

use std::fmt::Debug;
use std::iter::Peekable;
use std::str::Chars;

use anyhow::{Result, bail};
use serde_json::{Map, Value};

/// The tree of `value`'s derived debug text.
///
/// # Errors
/// When the text is not of the derived kind.
pub fn tree_of<T: Debug>(value: &T) -> Result<Value> {
    let text = format!("{value:?}");
    let mut reader = Reader { rest: text.chars().peekable() };
    let tree = reader.value()?;
    match reader.rest.next() {
        None => Ok(tree),
        Some(left) => bail!("{left:?} is left over after the value in {text}"),
    }
}

/// The bytes that `b"…"` stands for; `None` when `text` is no byte string.
#[must_use]
pub fn bytes_of(text: &str) -> Option<Vec<u8>> {
    let inner = text.strip_prefix("b\"")?.strip_suffix('"')?;
    let mut bytes = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(char) = chars.next() {
        if char != '\\' {
            bytes.push(u8::try_from(char).ok()?);
            continue;
        }
        bytes.push(match chars.next()? {
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            '0' => 0,
            'x' => {
                let digits: String = chars.by_ref().take(2).collect();
                u8::from_str_radix(&digits, 16).ok()?
            }
            escaped @ ('\\' | '"' | '\'') => u8::try_from(escaped).ok()?,
            _ => return None,
        });
    }
    Some(bytes)
}

struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
}

impl Reader<'_> {
    fn value(&mut self) -> Result<Value> {
        self.blanks();
        match self.rest.peek() {
            Some('[') => self.list(),
            Some('{') => self.fields(),
            Some('"') => Ok(Value::String(self.string()?)),
            Some(_) => self.named(),
            None => bail!("the text ends where a value should be"),
        }
    }

    /// What starts with a word: a number, a variant, a struct, a newtype, a byte string.
    fn named(&mut self) -> Result<Value> {
        let mut word = String::new();
        while let Some(char) = self.rest.next_if(|char| char.is_alphanumeric() || "_-+.".contains(*char)) {
            word.push(char);
        }
        if word == "b" && self.rest.peek() == Some(&'"') {
            return Ok(Value::String(format!("b\"{}\"", self.quoted()?)));
        }
        self.blanks();
        match self.rest.peek() {
            Some('{') => self.fields(),
            Some('(') => self.newtype(),
            _ if word.is_empty() => bail!("{:?} cannot start a value", self.rest.peek()),
            _ => Ok(plain(&word)),
        }
    }

    fn newtype(&mut self) -> Result<Value> {
        self.expect('(')?;
        let inner = self.value()?;
        self.expect(')')?;
        Ok(inner)
    }

    fn list(&mut self) -> Result<Value> {
        self.expect('[')?;
        let mut items = Vec::new();
        while !self.ends_with(']') {
            items.push(self.value()?);
            self.comma();
        }
        Ok(Value::Array(items))
    }

    /// The braces of a struct or of a map: both become an object.
    fn fields(&mut self) -> Result<Value> {
        self.expect('{')?;
        let mut fields = Map::new();
        while !self.ends_with('}') {
            let name = match self.value()? {
                Value::String(name) => name,
                other => other.to_string(),
            };
            self.expect(':')?;
            let value = self.value()?;
            fields.insert(name, value);
            self.comma();
        }
        Ok(Value::Object(fields))
    }

    fn string(&mut self) -> Result<String> {
        let quoted = self.quoted()?;
        let mut text = String::with_capacity(quoted.len());
        let mut chars = quoted.chars();
        while let Some(char) = chars.next() {
            if char != '\\' {
                text.push(char);
                continue;
            }
            match chars.next() {
                Some('n') => text.push('\n'),
                Some('r') => text.push('\r'),
                Some('t') => text.push('\t'),
                Some('0') => text.push('\0'),
                Some('u') => {
                    let digits: String = chars.by_ref().skip(1).take_while(|char| *char != '}').collect();
                    text.extend(u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32));
                }
                Some(escaped) => text.push(escaped),
                None => bail!("a string ends in a backslash"),
            }
        }
        Ok(text)
    }

    /// What stands between quotes, escapes and all.
    fn quoted(&mut self) -> Result<String> {
        self.expect('"')?;
        let mut text = String::new();
        while let Some(char) = self.rest.next() {
            match char {
                '"' => return Ok(text),
                '\\' => {
                    text.push(char);
                    text.extend(self.rest.next());
                }
                _ => text.push(char),
            }
        }
        bail!("a string does not end")
    }

    fn ends_with(&mut self, end: char) -> bool {
        self.blanks();
        self.rest.next_if_eq(&end).is_some()
    }

    fn comma(&mut self) {
        self.blanks();
        self.rest.next_if_eq(&',');
    }

    fn expect(&mut self, expected: char) -> Result<()> {
        self.blanks();
        match self.rest.next() {
            Some(found) if found == expected => Ok(()),
            found => bail!("expected {expected:?}, found {found:?}"),
        }
    }

    fn blanks(&mut self) {
        while self.rest.next_if(|char| char.is_whitespace()).is_some() {}
    }
}

fn plain(word: &str) -> Value {
    match word {
        "None" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => match word.parse::<i64>() {
            Ok(number) => number.into(),
            Err(_) => Value::String(word.to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use kafka_protocol::messages::metadata_response::{MetadataResponseBroker, MetadataResponseTopic};
    use kafka_protocol::messages::{BrokerId, MetadataResponse};
    use serde_json::json;

    #[test]
    fn a_message_becomes_a_tree_of_its_fields() {
        let broker = MetadataResponseBroker::default().with_node_id(BrokerId(1)).with_rack(Some("a \"b\"".into()));
        let answer =
            MetadataResponse::default().with_brokers(vec![broker]).with_topics(vec![MetadataResponseTopic::default()]);

        let tree = tree_of(&answer).unwrap();

        assert_eq!(tree["brokers"][0]["node_id"], json!(1));
        assert_eq!(tree["brokers"][0]["rack"], json!("a \"b\""));
        assert_eq!(tree["topics"][0]["name"], json!(""));
        assert_eq!(tree["topics"][0]["topic_id"], json!("00000000-0000-0000-0000-000000000000"));
        assert_eq!(tree["cluster_id"], Value::Null);
    }

    #[test]
    fn byte_strings_can_be_read_back() {
        let every_byte: Vec<u8> = (0..=255).collect();

        let tree = tree_of(&Bytes::from(every_byte.clone())).unwrap();

        assert_eq!(bytes_of(tree.as_str().unwrap()), Some(every_byte));
        assert_eq!(bytes_of("plain"), None);
    }
}
