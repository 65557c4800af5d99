//! JUnit's XML, as CI servers read it: a suite, and one test case a run.

use std::fmt::Write;
use std::time::Duration;

use super::escape;
use crate::checkers::Violation;

/// One run, as a test case.
#[derive(Debug, Clone)]
pub struct Case<'a> {
    /// What ran: `seed 7`, or the file of a plan.
    pub name: String,
    /// How long it took, in real time.
    pub took: Duration,
    /// What was broken first; `None` when all promises held.
    pub broken: Option<&'a Violation>,
    /// The command that runs it again.
    pub replay: String,
}

/// The suite of this name.
pub fn junit(suite: &str, cases: &[Case<'_>]) -> String {
    let suite = escape(suite);
    let failures = cases.iter().filter(|case| case.broken.is_some()).count();
    let took: Duration = cases.iter().map(|case| case.took).sum();
    let counts =
        format!("tests=\"{}\" failures=\"{failures}\" errors=\"0\" time=\"{:.3}\"", cases.len(), took.as_secs_f64());
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(xml, "<testsuites {counts}>\n  <testsuite name=\"{suite}\" {counts}>");
    for case in cases {
        let (name, time) = (escape(&case.name), case.took.as_secs_f64());
        let _ = write!(xml, "    <testcase name=\"{name}\" classname=\"{suite}\" time=\"{time:.3}\"");
        let Some(violation) = case.broken else {
            xml.push_str("/>\n");
            continue;
        };
        let (kind, sentence) = (escape(&violation.signature.to_string()), escape(&violation.sentence));
        let _ = writeln!(xml, ">\n      <failure type=\"{kind}\" message=\"{sentence}\">{sentence}");
        for line in &violation.chain {
            let _ = writeln!(xml, "{}", escape(line));
        }
        let _ = writeln!(xml, "again: {}</failure>\n    </testcase>", escape(&case.replay));
    }
    xml.push_str("  </testsuite>\n</testsuites>\n");
    xml
}
