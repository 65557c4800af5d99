use std::time::Duration;

use super::*;
use crate::checkers::story::Story;
use crate::checkers::{all, judge};
use crate::history::{Eviction, Frame};
use crate::plan::Family;
use crate::swarm::{Settings, draw};

const PLAN: &str = "\
rehearsal plan 1
seed 7
chaos 20s
settle 120s
brokers 3
topic orders partitions 1 replicas 3 #t
group billing reads orders reset earliest isolation read-committed retries 3 base 1s max 60s jitter 0.1 session 45s #g
publisher pub-1 acks all idempotent yes #p
worker w in billing #n1
worker v in billing #n2
at 0s publish 2 of a by pub-1 to orders every 10ms #a
on a/0 slow 30s #f1
at 2s kill w for 5s #f2
";

fn frame(from: &str, to: &str, sent: u64, received: Option<u64>, what: &str) -> Frame {
    let (sent, received) = (Duration::from_millis(sent), received.map(Duration::from_millis));
    Frame { from: from.into(), to: to.into(), sent, received, what: what.into() }
}

/// An offset is committed past a handler that still runs, and its node dies.
fn failed() -> History {
    let mut history = Story::new()
        .sent("a-0", 0)
        .sent("a-1", 1)
        .rebalanced(1, &["w", "v"])
        .assigned("w")
        .poll("w", &[("a-0", 0), ("a-1", 1)])
        .later(250)
        .started("w", "a-0", 0, 1)
        .later(500)
        .committed(1)
        .later(1250)
        .fault("f2", Family::ProcessCrash, &["w"])
        .crashed("w")
        .later(3000)
        .evicted("w", Eviction::Session)
        .rebalanced(2, &["v"])
        .assigned("v")
        .read("v", "a-1", 1)
        .handled("v", "a-1", 1)
        .committed(2)
        .healed()
        .over();
    history.frames = vec![
        frame("pub-1", "broker-1", 0, Some(1), "produce"),
        frame("broker-1", "pub-1", 1, Some(2), "produce response"),
        frame("w", "broker-1", 2000, None, "heartbeat"),
    ];
    history
}

fn with_report<T>(history: &History, tell: impl FnOnce(&Report<'_>) -> T) -> T {
    let plan: Plan = PLAN.parse().unwrap();
    let before = draw(7, &Settings::default());
    let judgement = judge(history, &all());
    tell(&Report {
        name: "orders survive chaos",
        plan: &plan,
        history,
        judgement: &judgement,
        replay: "rehearsal sim --replay regressions/orders.plan",
        shrunk_from: Some((&before, 46)),
    })
}

#[test]
fn the_terminal_says_what_was_broken_and_how_it_came_to_that() {
    insta::assert_snapshot!(with_report(&failed(), terminal));
}

#[test]
fn the_terminal_says_when_all_held() {
    let calm =
        Story::new().sent("a-0", 0).rebalanced(1, &["w"]).assigned("w").read("w", "a-0", 0).handled("w", "a-0", 0);
    insta::assert_snapshot!(with_report(&calm.committed(1).live(), terminal));
}

#[test]
fn a_search_is_summed_up() {
    let mut coverage = crate::coverage::Coverage::of(&failed());
    coverage.runs = 100;
    let signature = |kind: &str| crate::checkers::Signature { checker: "lost-write".into(), kind: kind.into() };
    let replay = |seed| format!("rehearsal sim --seeds {seed}");
    let broken = [(7, signature("acked-lost")), (12, signature("read-past")), (31, signature("acked-lost"))];
    let held = summary("orders survive chaos", &[], &coverage, replay);
    insta::assert_snapshot!(held + &summary("orders survive chaos", &broken, &coverage, replay));
    let many: Vec<_> = (0..90).map(|seed| (seed, signature(&format!("kind-{seed}")))).collect();
    assert!(summary("orders", &many, &coverage, replay).lines().count() <= 30);
}

#[test]
fn the_terminal_has_thirty_lines_at_most_and_no_escape_codes() {
    let story = (0..60).fold(Story::new().sent("a\u{1b}[31m-0", 0), |story, index| {
        story
            .later(5)
            .fault(&format!("f{index}"), Family::Crash, &["broker-1"])
            .revoked("w")
            .assigned("w")
            .committed(2)
            .committed(1)
    });
    let long = "x".repeat(5000);
    let history = story.sent(&long, 1).acknowledged(&long, 2).acknowledged("a\u{1b}[31m-0", 3).over();
    let plan = draw(3, &Settings { faults: 40..=40, ..Settings::everything() });
    let judgement = judge(&history, &all());
    let report = Report {
        name: "orders",
        plan: &plan,
        history: &history,
        judgement: &judgement,
        replay: "again",
        shrunk_from: None,
    };
    let text = terminal(&report);
    assert!(text.lines().count() <= 30, "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 160));
    assert!(text.chars().all(|c| !c.is_control() || c == '\n'));
    assert!(text.ends_with("again: again\n"), "{text}");
}

#[test]
fn the_page_has_the_words_and_the_data_of_the_picture() {
    let page = with_report(&failed(), html);
    let begin = page.find("id=\"data\">").unwrap() + "id=\"data\">".len();
    let data = &page[begin..begin + page[begin..].find("</script>").unwrap()];
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&data["lanes"]["aggregates"]).unwrap());
    let titles = |section: &str| {
        let lanes = data["lanes"][section].as_array().unwrap();
        lanes.iter().map(|lane| lane["title"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(titles("nodes"), ["pub-1", "v", "w", "broker-1"]);
    assert_eq!(titles("partitions"), ["orders/0"]);
    assert_eq!(titles("groups"), ["billing"]);
    assert_eq!(data["frames"].as_array().unwrap().len(), 3);
    assert_eq!(data["events"].as_array().unwrap().len(), failed().events().len());
    assert!(!data["witnesses"].as_array().unwrap().is_empty());
    let words = &page[page.find("<body>").unwrap()..page.find("<section").unwrap()];
    insta::assert_snapshot!(words);
}

#[test]
fn the_page_loads_nothing() {
    let page = with_report(&failed(), html);
    for loads in ["src=", "href=", "url(", "@import", "fetch(", "import("] {
        assert!(!page.contains(loads), "{loads}");
    }
    // The name of SVG's namespace is an address, and nobody asks for it.
    assert_eq!(page.replace("http://www.w3.org/2000/svg", "").matches("http").count(), 1, "the policy's `http-equiv`");
}

#[test]
fn no_name_becomes_markup() {
    let evil = "</script><img src=x onerror=alert(1)>&\"'\u{0}";
    let message = format!("{evil}-0");
    let history = Story::new()
        .sent(&message, 0)
        .acknowledged(&message, 5)
        .fault(evil, Family::Crash, &[evil])
        .started("w", &message, 0, 1)
        .over();
    let plan: Plan = PLAN.parse().unwrap();
    let judgement = judge(&history, &all());
    assert!(!judgement.held());
    let report =
        Report { name: evil, plan: &plan, history: &history, judgement: &judgement, replay: evil, shrunk_from: None };
    let page = html(&report);
    assert_eq!(page.matches("</script>").count(), 2, "the page's own");
    assert!(!page.contains("<img"));
    let violation = judgement.first();
    let case =
        Case { name: evil.to_owned(), took: Duration::from_millis(1), broken: violation, replay: evil.to_owned() };
    let xml = junit(evil, &[case]);
    assert!(!xml.contains("<img") && !xml.contains('\u{0}'));
    assert!(serde_json::from_str::<serde_json::Value>(&perfetto(&report)).is_ok());
}

#[test]
fn the_trace_has_a_process_a_node_and_a_slice_a_handler() {
    let trace = with_report(&failed(), perfetto);
    let trace: serde_json::Value = serde_json::from_str(&trace).unwrap();
    let events: Vec<String> = trace["traceEvents"].as_array().unwrap().iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(events.join("\n"));
}

#[test]
fn a_ci_reads_one_case_a_run() {
    let history = failed();
    let judgement = judge(&history, &all());
    let case = |name: &str, broken| Case {
        name: name.to_owned(),
        took: Duration::from_millis(42),
        broken,
        replay: format!("rehearsal sim --seeds {name}"),
    };
    insta::assert_snapshot!(junit("orders survive chaos", &[case("seed 6", None), case("seed 7", judgement.first())]));
}
