//! The summary at the end.

use super::screen::say;
use indicatif::HumanCount;
use std::time::Duration;

/// What one demo did.
pub(super) struct Row {
    demo: String,
    events: u64,
    took: Duration,
    shown: String,
}

impl Row {
    pub(super) fn new(demo: impl Into<String>, events: u64, took: Duration, shown: String) -> Self {
        Self { demo: demo.into(), events, took, shown }
    }

    fn cells(&self) -> [String; 5] {
        [
            self.demo.clone(),
            HumanCount(self.events).to_string(),
            format!("{:.2} s", self.took.as_secs_f64()),
            HumanCount(per_second(self.events, self.took)).to_string(),
            self.shown.clone(),
        ]
    }
}

/// Whole events per second.
pub(super) fn per_second(events: u64, took: Duration) -> u64 {
    (events as f64 / took.as_secs_f64().max(f64::EPSILON)) as u64
}

pub(super) fn print(rows: &[Row]) {
    for line in render(rows) {
        say!("{line}");
    }
}

/// Columns as wide as their widest cell; numbers to the right.
fn render(rows: &[Row]) -> Vec<String> {
    let head = ["Demo", "Events", "Time", "Events/s", "Shown"].map(str::to_owned);
    let lines: Vec<_> = std::iter::once(head).chain(rows.iter().map(Row::cells)).collect();
    let widths: [usize; 5] =
        std::array::from_fn(|column| lines.iter().map(|cells| cells[column].chars().count()).max().unwrap_or_default());
    let mut rendered: Vec<_> = lines
        .iter()
        .map(|[demo, events, took, rate, shown]| {
            let [demo_width, events_width, took_width, rate_width, _] = widths;
            format!("{demo:demo_width$}  {events:>events_width$}  {took:>took_width$}  {rate:>rate_width$}  {shown}")
        })
        .collect();
    rendered.insert(1, widths.map(|width| "-".repeat(width)).join("  "));
    rendered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [
            Row::new("1 Small", 1, Duration::from_millis(250), "received 1".into()),
            Row::new("2 Larger still", 1_000_000, Duration::from_secs(8), "all".into()),
        ];
        let expected = "\
Demo               Events    Time  Events/s  Shown
--------------  ---------  ------  --------  ----------
1 Small                 1  0.25 s         4  received 1
2 Larger still  1,000,000  8.00 s   125,000  all";
        assert_eq!(render(&rows).join("\n"), expected);
    }
}
