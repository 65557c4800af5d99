use proptest::prelude::*;

use super::*;
use crate::swarm::{self, Settings};

const SMALL: &str = "\
rehearsal plan 1
seed 7
chaos 60s
settle 120s
brokers 3
topic orders partitions 6 replicas 3 min-isr 2 #t-orders
group billing reads orders reset earliest isolation read-committed retries 3 base 1s max 60s jitter 0.1 session 45s #g
publisher pub-1 acks all idempotent yes transactional tx-1 #n1
worker worker-1 in billing instance i-1 start 2s #n2
worker worker-2 in billing #n3
at 1.2s publish 5 of A17 by pub-1 to orders every 200ms #w17
at 2s publish 1 of B by pub-1 to orders every 0s #w18
on w17/3 in billing fail 2 times #h3
on w18 slow 40s #h4
at 12.5s crash broker 2 for 4s #f3
at 20s cut broker-1,broker-2 from worker-1 for 1.5s #f4
at 30s jump-clock worker-1 by -30s #f5
";

fn plan() -> Plan {
    SMALL.parse().unwrap()
}

fn error(from: &str, to: &str) -> String {
    assert!(SMALL.contains(from), "{from}");
    SMALL.replace(from, to).parse::<Plan>().unwrap_err().to_string()
}

#[test]
fn a_plan_reads_as_it_prints() {
    assert_eq!(plan().to_string(), SMALL);
}

#[test]
fn comments_and_blank_lines_are_for_readers() {
    let commented = SMALL.replace("seed 7", "\n# why this seed\nseed 7").replace("brokers 3", "brokers   3 ");
    assert_eq!(commented.parse(), Ok(plan()));
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let errors = [
        error("rehearsal plan 1", "rehearsal plan 2"),
        error("seed 7\n", ""),
        error("seed 7\n", "seed 7\nseed 8\n"),
        error("crash broker 2", "crush broker 2"),
        error("crash broker 2", "crash broker two"),
        error("crash broker 2", "crash broker 4"),
        error("for 4s #f3", "for 4 #f3"),
        error("for 4s #f3", "for 0s #f3"),
        error("for 4s #f3", "for 4s"),
        error("for 4s #f3", "for 4s #f3 #f4"),
        error("for 4s #f3", "for 4s #w17"),
        error("for 4s #f3", "for 50s #f3"),
        error("from worker-1 for", "from worker-7 for"),
        error("by pub-1 to orders every 0s", "by pub-1 to order every 0s"),
        error("on w17/3", "on w17/5"),
        error("on w18 slow", "on f3 slow"),
        error("on w18 slow", "on w18 hurry"),
        error("in billing instance", "in invoicing instance"),
        error("worker worker-2", "worker worker-1"),
        error("jitter 0.1", "jitter 1.1"),
        error("at 2s publish", "when 2s publish"),
    ]
    .join("\n");
    insta::assert_snapshot!(errors);
}

#[test]
fn a_line_that_goes_takes_with_it_what_needs_it_and_nothing_else() {
    let without = plan().without(&BTreeSet::from(["n1".into()]));
    let labels: Vec<&str> = without.lines.iter().map(|line| &*line.label).collect();
    assert_eq!(labels, ["t-orders", "g", "n2", "n3", "f3", "f4", "f5"]);
    assert_eq!(without.check(), Ok(()));
}

#[test]
fn records_are_named_after_their_line() {
    let plan = plan();
    let records: Vec<(String, Duration)> =
        plan.records().iter().map(|record| (record.message.to_string(), record.at)).collect();
    assert_eq!(records.len(), 6);
    assert_eq!(records[3], ("w17/3".to_owned(), Duration::from_millis(1800)));
    assert_eq!(records[5], ("w18/0".to_owned(), Duration::from_secs(2)));
}

#[test]
fn the_agenda_has_all_that_is_due_by_time() {
    let plan = plan();
    let due = |(at, due): (Duration, Due<'_>)| match due {
        Due::Publish(record) => format!("{} publish {}", Time(at), record.message),
        Due::Begins(label, fault) => format!("{} {} #{label}", Time(at), fault.verb()),
        Due::Ends(label, _) => format!("{} heal #{label}", Time(at)),
    };
    let agenda: Vec<String> = plan.agenda().into_iter().map(due).skip(4).collect();
    assert_eq!(
        agenda,
        [
            "2s publish w17/4",
            "2s publish w18/0",
            "12.5s crash #f3",
            "16.5s heal #f3",
            "20s cut #f4",
            "21.5s heal #f4",
            "30s jump-clock #f5"
        ]
    );
}

#[test]
fn a_handler_is_told_what_to_do_with_each_record() {
    let plan = plan();
    let told = |group, message| plan.behaviours(group, message).map(|(label, _)| label.to_string()).collect::<Vec<_>>();
    assert_eq!(told("billing", "w17/3"), ["h3"]);
    assert_eq!(told("invoicing", "w17/3"), [""; 0]);
    assert_eq!(told("billing", "w17/2"), [""; 0]);
    assert_eq!(told("invoicing", "w18/0"), ["h4"]);
}

#[test]
fn the_chance_of_a_line_does_not_depend_on_other_lines() {
    let whole = plan();
    let part = whole.without(&BTreeSet::from(["f4".into(), "h3".into()]));
    assert_eq!(whole.chance("f3").next(), part.chance("f3").next());
}

#[test]
fn every_family_has_a_name_of_its_own() {
    let names: BTreeSet<&str> = Family::ALL.iter().map(|family| family.name()).collect();
    assert_eq!(names.len(), 29);
    assert!(Family::ALL.iter().all(|family| Family::named(family.name()) == Some(*family)));
}

#[test]
fn times_print_as_people_write_them() {
    let written = ["0s", "1ns", "1.5us", "250ms", "12.5s", "90s", "5m", "1h", "36h", "7d", "61.000000001s"];
    for text in written {
        assert_eq!(Time(parse_time(text).unwrap()).to_string(), text);
    }
    for wrong in
        ["", "s", "1", "1 s", "-1s", "1.s", ".5s", "1.5m", "1x", "99999999999999999999d", "0.0000000001s", "1e3s"]
    {
        assert_eq!(parse_time(wrong), None, "{wrong}");
    }
}

proptest! {
    #[test]
    fn any_time_reads_as_it_prints(nanos in any::<u64>(), seconds in any::<u32>()) {
        let time = Duration::from_nanos(nanos) + Duration::from_secs(u64::from(seconds));
        prop_assert_eq!(parse_time(&Time(time).to_string()), Some(time));
    }

    #[test]
    fn any_drawn_plan_reads_as_it_prints(seed in any::<u64>()) {
        let plan = swarm::draw(seed, &Settings { records: 30, aggregates: 10, ..Settings::everything() });
        prop_assert_eq!(plan.check(), Ok(()));
        let text = plan.to_string();
        prop_assert_eq!(text.parse(), Ok(plan));
    }

    #[test]
    fn no_text_is_read_with_a_panic(at in 0..SMALL.len(), with in "[ -~\\n\u{e9}]{0,12}", skip in 0..20_usize) {
        let text = format!("{}{with}{}", &SMALL[..at], &SMALL[(at + skip).min(SMALL.len())..]);
        if let Ok(plan) = text.parse::<Plan>() {
            prop_assert_eq!(plan.to_string().parse(), Ok(plan));
        }
    }
}
