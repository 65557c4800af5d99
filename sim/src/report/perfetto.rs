//! Chrome's trace event format, which ui.perfetto.dev and chrome://tracing open.
//!
//! A process a node; in it, a thread for what happened and one for each aggregate it handled. Handlers are slices, faults
//! are slices of a process of their own, frames are arrows, all else is an instant. Times are virtual, in microseconds.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::Report;
use super::lanes::{handlings, witnesses};
use crate::history::What;
use crate::name::Name;

/// The run as a trace.
pub fn perfetto(report: &Report<'_>) -> String {
    let history = report.history;
    let witnesses = witnesses(report);
    let pids: BTreeMap<Name, usize> =
        history.nodes().into_iter().enumerate().map(|(index, node)| (node, index + 2)).collect();
    let pid = |node: &Name| pids.get(node).copied().unwrap_or(WORLD_PID);
    let mut events = vec![process(WORLD_PID, "world and faults")];
    events.extend(pids.iter().map(|(node, pid)| process(*pid, node)));

    for (index, fault) in history.faults().into_iter().enumerate() {
        let until = fault.until.unwrap_or_else(|| history.end());
        let nodes: Vec<&str> = fault.nodes.iter().map(|node| &**node).collect();
        let name = format!("{} #{}", fault.family, fault.label);
        // A thread each, for they overlap.
        let mut slice = slice(&name, "fault", (WORLD_PID, index + 1), fault.from, until);
        slice["args"] = json!({ "nodes": nodes });
        events.push(slice);
    }
    let mut threads: BTreeMap<(usize, &Name), usize> = BTreeMap::new();
    for handling in handlings(history) {
        let pid = pid(handling.node);
        let next = threads.len() + 2;
        let known = threads.contains_key(&(pid, handling.aggregate));
        let tid = *threads.entry((pid, handling.aggregate)).or_insert(next);
        if !known {
            events.push(json!({ "ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": { "name": &**handling.aggregate } }));
        }
        let name = format!("{} attempt {}", handling.message, handling.attempt);
        let mut slice = slice(&name, "handler", (pid, tid), handling.from, handling.until);
        slice["args"] =
            json!({ "group": &**handling.group, "outcome": handling.how.map_or("never ended", |how| how.word()) });
        events.push(slice);
    }
    for (number, event) in history.numbered() {
        if matches!(event.what, What::Started { .. } | What::Finished { .. }) {
            continue;
        }
        let name = if witnesses.contains(&number) { format!("BROKEN: {}", event.what) } else { event.what.to_string() };
        events.push(json!({
            "ph": "i", "s": "t", "name": name, "cat": "event", "pid": pid(&event.node), "tid": 1, "ts": micros(event.at),
        }));
    }
    for (index, frame) in history.frames.iter().enumerate() {
        let Some(received) = frame.received else { continue };
        let (name, from, to) = (&*frame.what, pid(&frame.from), pid(&frame.to));
        // An arrow needs a slice to start and to end in.
        events.push(slice(name, "frame", (from, 0), frame.sent, frame.sent + Duration::from_micros(1)));
        events.push(slice(name, "frame", (to, 0), received, received + Duration::from_micros(1)));
        events.push(json!({ "ph": "s", "id": index, "name": name, "cat": "frame", "pid": from, "tid": 0, "ts": micros(frame.sent) }));
        events.push(json!({
            "ph": "f", "bp": "e", "id": index, "name": name, "cat": "frame", "pid": to, "tid": 0, "ts": micros(received),
        }));
    }
    let about = json!({ "name": report.name, "seed": report.plan.seed.to_string(), "replay": report.replay });
    json!({ "displayTimeUnit": "ms", "otherData": about, "traceEvents": events }).to_string()
}

const WORLD_PID: usize = 1;

fn process(pid: usize, name: &str) -> Value {
    json!({ "ph": "M", "name": "process_name", "pid": pid, "args": { "name": name } })
}

fn slice(name: &str, category: &str, (pid, tid): (usize, usize), from: Duration, until: Duration) -> Value {
    let lasts = micros(until.saturating_sub(from));
    json!({ "ph": "X", "name": name, "cat": category, "pid": pid, "tid": tid, "ts": micros(from), "dur": lasts })
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
