//! The differences that are accepted, each with its reason.
//!
//! The list is a promise in both directions: a difference not on it fails its script, and so does an entry that no
//! longer occurs.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::differential::Difference;

/// `known.toml`, read.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    #[serde(default, rename = "difference")]
    entries: Vec<Entry>,
}

/// One accepted difference. `step` and `path` may hold `*` for any run of characters.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The script it occurs in.
    pub script: String,
    /// The label of the step.
    pub step: String,
    /// Where in the answer.
    pub path: String,
    /// Why it is accepted.
    pub reason: String,
}

impl Known {
    /// Reads the list.
    ///
    /// # Errors
    /// When the file is missing or malformed, or an entry gives no reason.
    pub fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        let known: Self = toml::from_str(&text).with_context(|| format!("reading {}", file.display()))?;
        if let Some(entry) = known.entries.iter().find(|entry| entry.reason.trim().is_empty()) {
            anyhow::bail!("{}: {} / {} / {} gives no reason", file.display(), entry.script, entry.step, entry.path);
        }
        Ok(known)
    }

    /// The scripts that have an entry.
    pub fn scripts(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.script.as_str())
    }

    /// Parts `found` into what is not accepted, and the entries for `script` that matched nothing.
    #[must_use]
    pub fn judge<'a>(&'a self, script: &str, found: &'a [Difference]) -> (Vec<&'a Difference>, Vec<&'a Entry>) {
        let entries: Vec<&Entry> = self.entries.iter().filter(|entry| entry.script == script).collect();
        let unexpected =
            found.iter().filter(|difference| !entries.iter().any(|entry| entry.covers(difference))).collect();
        let outlived =
            entries.into_iter().filter(|entry| !found.iter().any(|difference| entry.covers(difference))).collect();
        (unexpected, outlived)
    }
}

impl Entry {
    fn covers(&self, difference: &Difference) -> bool {
        matches(&self.step, &difference.step) && matches(&self.path, &difference.path)
    }
}

/// Whether `text` is `pattern`, where `*` stands for any run of characters.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(text) = text.strip_prefix(head) else {
        return false;
    };
    text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| matches(rest, &text[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(entries: &[(&str, &str)]) -> Known {
        let entry = |(step, path): &(&str, &str)| Entry {
            script: "fetch".to_owned(),
            step: (*step).to_owned(),
            path: (*path).to_owned(),
            reason: "because".to_owned(),
        };
        Known { entries: entries.iter().map(entry).collect() }
    }

    fn difference(step: &str, path: &str) -> Difference {
        Difference { step: step.to_owned(), path: path.to_owned(), ..Difference::default() }
    }

    #[test]
    fn an_unlisted_difference_and_an_outlived_entry_both_show() {
        let known = known(&[("first", "topics[*].error_code"), ("never", "*")]);
        let found = [difference("first", "topics[3].error_code"), difference("first", "brokers")];

        let (unexpected, outlived) = known.judge("fetch", &found);

        assert_eq!(unexpected.iter().map(|difference| difference.path.as_str()).collect::<Vec<_>>(), ["brokers"]);
        assert_eq!(outlived.iter().map(|entry| entry.step.as_str()).collect::<Vec<_>>(), ["never"]);
    }

    #[test]
    fn an_entry_covers_its_own_script_only() {
        let known = known(&[("*", "*")]);
        let found = [difference("first", "brokers")];

        assert_eq!(known.judge("metadata", &found).0.len(), 1);
        assert_eq!(known.judge("fetch", &found).0.len(), 0);
    }
}
