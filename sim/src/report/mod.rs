//! Tells what happened: to a human at a terminal, in a browser, in a trace viewer, and to a CI.
//!
//! All four take the same [`Report`] and return text; writing it somewhere is the caller's.
//!
//! | | for | size |
//! |---|---|---|
//! | [`terminal()`] | who just ran it | thirty lines at most: the promise, the sentence, the chain of causes, the command |
//! | [`html()`] | who wants to understand it | one page, nothing loaded from anywhere; a space-time diagram to step through |
//! | [`perfetto()`] | who likes traces | Chrome's trace format, which ui.perfetto.dev opens |
//! | [`junit()`] | a CI | one test case a run |
//!
//! Names in a history may come from anywhere – keys, topics, a user's handler – so every text is escaped for where it goes.

mod html;
mod junit;
mod lanes;
mod perfetto;
mod terminal;

pub use html::html;
pub use junit::{Case, junit};
pub use perfetto::perfetto;
pub use terminal::{summary, terminal};

use crate::checkers::Judgement;
use crate::history::History;
use crate::plan::Plan;

/// A run and what came of it.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// What was tested, in the user's words.
    pub name: &'a str,
    /// What was decided; the small one, if it was made small.
    pub plan: &'a Plan,
    /// What happened.
    pub history: &'a History,
    /// What was found.
    pub judgement: &'a Judgement,
    /// The command that runs this again.
    pub replay: &'a str,
    /// How the plan was made small: the plan before, and how many runs it took.
    pub shrunk_from: Option<(&'a Plan, usize)>,
}

/// For XML and HTML, in text and in quoted attributes. What XML cannot hold at all becomes a replacement character.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests;
