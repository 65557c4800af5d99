//! `bus/ACCEPTANCE.md` says what shows each promise of the bus. What it says must be so.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The lists of items, and how many each has.
const ITEMS: [(char, u32); 3] = [('A', 68), ('B', 172), ('G', 37)];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The table's rows: items, and what shows them.
fn rows() -> Vec<(String, String)> {
    let table = fs::read_to_string(root().join("bus/ACCEPTANCE.md")).expect("the table");
    let cells = table.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let rows = cells.map(|line| line.split(" | ").map(str::to_owned).collect::<Vec<_>>());
    rows.filter_map(|row| match <[String; 3]>::try_from(row) {
        Ok([items, _, shown_by]) if items != "item" => Some((items, shown_by)),
        _ => None,
    })
    .collect()
}

/// `A1, A4–A6` as single items.
fn expanded(items: &str) -> Vec<(char, u32)> {
    let item = |text: &str| {
        let (list, number) = text.split_at(1);
        let number = number.parse().unwrap_or_else(|_| panic!("{text} is no item, in {items:?}"));
        (list.chars().next().expect("a letter"), number)
    };
    let runs = items.split(", ").map(|run| run.split_once('–').unwrap_or((run, run)));
    runs.flat_map(|(first, last)| {
        let ((list, first), (_, last)) = (item(first), item(last));
        (first..=last).map(move |number| (list, number))
    })
    .collect()
}

/// What stands between backticks.
fn quoted(shown_by: &str) -> impl Iterator<Item = &str> {
    shown_by.split('`').skip(1).step_by(2)
}

/// Adds the names of all tests in a folder.
fn tests_below(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder of ours").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() && !entry.ends_with("target") {
            tests_below(&entry, names);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&entry).expect("a source file");
            names.extend(tests_in(&source).map(str::to_owned));
        }
    }
}

fn tests_in(source: &str) -> impl Iterator<Item = &str> {
    let attribute = |line: &str| line.starts_with("#[test]") || line.starts_with("#[tokio::test");
    let mut lines = source.lines().map(str::trim_start);
    std::iter::from_fn(move || {
        lines.find(|line| attribute(line))?;
        lines.find_map(|line| {
            let signature = line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn "))?;
            signature.split('(').next()
        })
    })
}

#[test]
fn every_item_stands_in_the_table_once() {
    let mut seen: BTreeMap<(char, u32), usize> = BTreeMap::new();
    for (items, _) in rows() {
        for item in expanded(&items) {
            *seen.entry(item).or_default() += 1;
        }
    }

    let all: BTreeSet<_> = ITEMS.iter().flat_map(|&(list, count)| (1..=count).map(move |n| (list, n))).collect();
    let missing: Vec<_> = all.iter().filter(|item| !seen.contains_key(item)).collect();
    let twice: Vec<_> = seen.iter().filter(|(_, times)| **times > 1).map(|(item, _)| item).collect();
    let unheard_of: Vec<_> = seen.keys().filter(|item| !all.contains(item)).collect();

    assert!(missing.is_empty() && twice.is_empty() && unheard_of.is_empty(), "{missing:?} {twice:?} {unheard_of:?}");
}

#[test]
fn what_shows_an_item_exists() {
    let mut names = BTreeSet::new();
    for folder in ["bus", "cli", "tests", "mockbroker", "sim"] {
        tests_below(&root().join(folder), &mut names);
    }

    for (items, shown_by) in rows() {
        assert!(quoted(&shown_by).next().is_some() || shown_by.contains("*not yet*: "), "nothing shows {items}");
        for shown in quoted(&shown_by) {
            if shown.contains(['/', '.']) {
                assert!(root().join(shown).is_file(), "{items}: there is no file {shown}");
            } else {
                assert!(names.contains(shown), "{items}: there is no test {shown}");
            }
        }
    }
}
