//! What is finished beyond the committed position, as text for the commit's metadata.
//!
//! Keys run side by side, so one that waits for a retry holds the position back while others finish behind it. After a
//! restart all of them would run again; a group that finds this text beside its position runs only what is left. Each
//! run of finished offsets is `gap+length` counted from the end of the run before, the first from the position.

use super::Offset;
use crate::mutant::{self, Mutant};
use std::fmt::Write;

/// Finished offsets, from the first to the last of a run, both included.
pub type Run = (Offset, Offset);

/// Brokers take 4,096 bytes (`offset.metadata.max.bytes`) and refuse the whole commit beyond.
const TEXT_BYTES_MAX: usize = 3_500;

const BEGINS: &str = "finished/1";

/// Writes runs in ascending order; what no longer fits is left out and would run again. Empty when there are none.
pub fn to_text(position: Offset, runs: &[Run]) -> String {
    let (mut text, mut end) = (String::new(), position);
    for (first, last) in runs {
        let mut run = String::new();
        let length = last.saturating_sub(*first).saturating_add(1);
        let _ = write!(run, " {}+{length}", first.saturating_sub(end));
        if BEGINS.len() + text.len() + run.len() > TEXT_BYTES_MAX {
            break;
        }
        text.push_str(&run);
        end = last.saturating_add(1);
    }
    if text.is_empty() { text } else { format!("{BEGINS}{text}") }
}

/// Reads what [`to_text`] wrote. Text of anybody else, or with a mistake in it, says nothing: at worst events run again.
pub fn from_text(position: Offset, text: &str) -> Vec<Run> {
    let Some(text) = text.strip_prefix(BEGINS).filter(|_| text.len() <= TEXT_BYTES_MAX) else { return Vec::new() };
    let mut end = position;
    let runs = text.split_ascii_whitespace().map(|run| {
        let (gap, length) = run.split_once('+')?;
        let (gap, length): (u32, u32) = (gap.parse().ok()?, length.parse().ok()?);
        let gap = if mutant::is(Mutant::SkipsWhatWasNotFinished) { 0 } else { gap };
        let first = end.checked_add(gap.into())?;
        end = first.checked_add(length.into())?;
        (length > 0).then_some((first, end - 1))
    });
    runs.collect::<Option<_>>().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn runs_are_counted_from_each_other() {
        let runs = [(12, 12), (14, 20)];
        assert_eq!(to_text(10, &runs), "finished/1 2+1 1+7");
        assert_eq!(from_text(10, "finished/1 2+1 1+7"), runs);
        assert_eq!(to_text(10, &[]), "");
    }

    #[test]
    fn text_of_others_says_nothing() {
        for text in ["", "finished/1", "finished/2 1+1", "finished/1 1+0", "finished/1 1", "finished/1 -1+2", "x"] {
            assert_eq!(from_text(0, text), []);
        }
        assert_eq!(from_text(i64::MAX - 1, "finished/1 1+9"), []);
    }

    #[test]
    fn what_does_not_fit_is_left_out_from_the_end() {
        let runs: Vec<Run> = (0..5_000).map(|run| (run * 10, run * 10 + 3)).collect();
        let text = to_text(0, &runs);
        assert!(text.len() <= TEXT_BYTES_MAX);
        let read = from_text(0, &text);
        assert!(read.len() > 500);
        assert_eq!(read, runs[..read.len()]);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(position: i64, text: String, tail: String) {
            from_text(position, &text);
            from_text(position, &format!("{BEGINS} {tail}"));
        }
    }
}
