//! A plan as text, both ways.
//!
//! One line an entry, blank lines and lines that begin with `# ` are for readers. A label, `#f3`, ends every line.
//! What is wrong is said with line, column and what was expected there.

use std::fmt;
use std::time::Duration;

use super::field::Field;
use super::{Behaviour, Entry, Fault, Line, Plan, Setup, Time, Work};
use crate::name::Name;

/// Why a text is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: expected {expected}, found {found}")]
pub struct ParseError {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub found: String,
}

/// The first line of every plan: what it is, and the version of its language.
const HEAD: &str = "rehearsal plan 1";

/// Lines of a plan that are read at most; a plan has some hundreds.
const LINES_MAX: usize = 100_000;

impl std::str::FromStr for Plan {
    type Err = ParseError;

    /// Reads a plan and checks that everything a line refers to is there.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut lines = text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
            .filter(|(_, line)| !(line.trim().is_empty() || *line == "#" || line.starts_with("# ")));
        match lines.next() {
            Some((_, line)) if line.trim_end() == HEAD => {}
            other => {
                let (line, found) = other.unwrap_or((1, ""));
                return Err(Words::of(line, found).expected(&format!("the first line, `{HEAD}`"), &[]));
            }
        }
        let mut head = Head::default();
        let mut entries = Vec::new();
        let mut last = 1;
        for (number, line) in lines.take(LINES_MAX) {
            let mut words = Words::of(number, line);
            if !head.reads(&mut words)? {
                entries.push((number, line, entry(&mut words)?));
            }
            words.end()?;
            last = number;
        }
        let missing = |what: &str| Words::of(last + 1, "").expected(&format!("a line `{what}`"), &[]);
        let plan = Self {
            seed: head.seed.ok_or_else(|| missing("seed 7"))?,
            chaos: head.chaos.ok_or_else(|| missing("chaos 60s"))?,
            settle: head.settle.ok_or_else(|| missing("settle 120s"))?,
            brokers: head.brokers.ok_or_else(|| missing("brokers 3"))?,
            lines: entries.iter().map(|(.., line)| line.clone()).collect(),
        };
        match plan.check() {
            Ok(()) => Ok(plan),
            Err(wrong) => {
                let (number, line, _) = entries[wrong.line];
                Err(Words::of(number, line).at_word(&wrong.word, wrong.expected))
            }
        }
    }
}

#[derive(Default)]
struct Head {
    seed: Option<u64>,
    chaos: Option<Duration>,
    settle: Option<Duration>,
    brokers: Option<u32>,
}

impl Head {
    /// Whether this was a line of the head; an error when it is there twice.
    fn reads(&mut self, words: &mut Words<'_>) -> Result<bool, ParseError> {
        fn once<T>(
            slot: &mut Option<T>,
            words: &mut Words<'_>,
            read: impl Fn(&mut Words<'_>) -> Result<T, ParseError>,
        ) -> Result<bool, ParseError> {
            if slot.is_some() {
                return Err(words.expected("this line only once", &[]));
            }
            words.next();
            *slot = Some(read(words)?);
            Ok(true)
        }
        match words.verb() {
            Some("seed") => {
                once(&mut self.seed, words, |words| words.field("a seed: a whole number", |word| word.parse().ok()))
            }
            Some("chaos") => once(&mut self.chaos, words, Field::parse),
            Some("settle") => once(&mut self.settle, words, Field::parse),
            Some("brokers") => once(&mut self.brokers, words, |words| {
                words.field("how many brokers there are, from 1 to 100", |word| {
                    u32::from_word(word).filter(|n| (1..=100).contains(n))
                })
            }),
            _ => Ok(false),
        }
    }
}

fn entry(words: &mut Words<'_>) -> Result<Line, ParseError> {
    let entry = match words.verb() {
        Some("at") => {
            words.next();
            let at = Field::parse(words)?;
            if words.verb().is_some_and(|verb| Work::VERBS.contains(&verb)) {
                Entry::Work { at, work: Work::parse(words)? }
            } else {
                Entry::Fault { at, fault: Fault::parse(words)? }
            }
        }
        Some("on") => {
            words.next();
            let records = Field::parse(words)?;
            let group = if words.take("in") { Some(Field::parse(words)?) } else { None };
            Entry::Behaviour { records, group, behaviour: Behaviour::parse(words)? }
        }
        Some(verb) if Setup::VERBS.contains(&verb) => Entry::Setup(Setup::parse(words)?),
        _ => return Err(words.expected("a line of a plan", &["at", "on", "topic", "group", "publisher", "worker"])),
    };
    let label = words.field("a label such as `#f3`, as the last word of the line", |word| {
        Name::from_word(word.strip_prefix('#')?)
    })?;
    Ok(Line { label, entry })
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEAD}")?;
        writeln!(f, "seed {}", self.seed)?;
        writeln!(f, "chaos {}", Time(self.chaos))?;
        writeln!(f, "settle {}", Time(self.settle))?;
        writeln!(f, "brokers {}", self.brokers)?;
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} #{}", self.entry, self.label)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setup(setup) => write!(f, "{setup}"),
            Self::Work { at, work } => write!(f, "at {} {work}", Time(*at)),
            Self::Fault { at, fault } => write!(f, "at {} {fault}", Time(*at)),
            Self::Behaviour { records, group, behaviour } => {
                f.write_str("on ")?;
                records.print(f)?;
                if let Some(group) = group {
                    f.write_str(" in ")?;
                    group.print(f)?;
                }
                write!(f, " {behaviour}")
            }
        }
    }
}

/// The words of one line, and how far they have been read.
pub(super) struct Words<'a> {
    line: usize,
    text: &'a str,
    words: Vec<(usize, &'a str)>,
    read: usize,
}

impl<'a> Words<'a> {
    fn of(line: usize, text: &'a str) -> Self {
        let words =
            text.split_whitespace().map(|word| (word.as_ptr() as usize - text.as_ptr() as usize, word)).collect();
        Self { line, text, words, read: 0 }
    }

    /// The next word, still unread.
    pub(super) fn verb(&self) -> Option<&'a str> {
        self.words.get(self.read).map(|(_, word)| *word)
    }

    pub(super) fn next(&mut self) {
        self.read += 1;
    }

    /// Reads this word if it is next.
    pub(super) fn take(&mut self, word: &str) -> bool {
        let found = self.verb() == Some(word);
        self.read += usize::from(found);
        found
    }

    pub(super) fn literal(&mut self, word: &str) -> Result<(), ParseError> {
        if self.take(word) { Ok(()) } else { Err(self.expected(&format!("`{word}`"), &[])) }
    }

    pub(super) fn field<T>(&mut self, expected: &str, read: impl Fn(&str) -> Option<T>) -> Result<T, ParseError> {
        match self.verb().and_then(read) {
            Some(value) => {
                self.next();
                Ok(value)
            }
            None => Err(self.expected(expected, &[])),
        }
    }

    fn end(&self) -> Result<(), ParseError> {
        if self.verb().is_some() { Err(self.expected("the end of the line", &[])) } else { Ok(()) }
    }

    /// The next word is wrong: this was expected, one of `words` when there are any.
    pub(super) fn expected(&self, what: &str, words: &[&str]) -> ParseError {
        let byte = self.words.get(self.read).map_or(self.text.trim_end().len(), |(byte, _)| *byte);
        let expected = if words.is_empty() { what.to_owned() } else { format!("{what}, one of {}", words.join(", ")) };
        self.error(byte, expected, self.verb())
    }

    /// This word is understood but cannot be: it contradicts the rest of the plan.
    fn at_word(&self, wanted: &str, expected: String) -> ParseError {
        let found = self
            .words
            .iter()
            .find(|(_, word)| *word == wanted || word.split([',', '#', '/']).any(|part| part == wanted));
        self.error(found.map_or(0, |(byte, _)| *byte), expected, found.map(|(_, word)| *word))
    }

    fn error(&self, byte: usize, expected: String, found: Option<&str>) -> ParseError {
        let column = self.text.get(..byte).map_or(1, |before| before.chars().count() + 1);
        // What was found may be anything, and of any length.
        let found = found.map_or("the end of the line".to_owned(), |word| {
            let short: String = word.chars().take(60).collect();
            format!("`{}`", short.escape_debug())
        });
        ParseError { line: self.line, column, expected, found }
    }
}
