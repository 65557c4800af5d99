//! What can be drawn along time, worked out once for the page and the trace: bars that last and points that do not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use super::Report;
use crate::history::{Event, Handled, History, Place, TopicPartition, What};
use crate::name::Name;

/// A row of the picture.
#[derive(Debug, Serialize)]
pub(super) struct Lane {
    pub(super) title: String,
    pub(super) bars: Vec<Bar>,
    /// Numbers of events.
    pub(super) points: Vec<usize>,
}

/// Something that lasts, in milliseconds of virtual time.
#[derive(Debug, Serialize)]
pub(super) struct Bar {
    pub(super) from: f64,
    pub(super) until: f64,
    pub(super) label: String,
    /// How it looks: `fault`, `down`, `even`, `odd`, `well`, `failed`, `running`.
    pub(super) class: &'static str,
}

/// The rows, by section.
#[derive(Debug, Serialize)]
pub(super) struct Lanes {
    pub(super) nodes: Vec<Lane>,
    pub(super) partitions: Vec<Lane>,
    pub(super) groups: Vec<Lane>,
    pub(super) aggregates: Vec<Lane>,
}

/// More lanes than this nobody looks at; those of the counter-example come first.
const AGGREGATES_MAX: usize = 16;
const PARTITIONS_MAX: usize = 32;

pub(super) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The numbers of the events that show the first counter-example.
pub(super) fn witnesses(report: &Report<'_>) -> Vec<usize> {
    report.judgement.first().map(|violation| violation.events.clone()).unwrap_or_default()
}

impl Lanes {
    pub(super) fn of(report: &Report<'_>) -> Self {
        let history = report.history;
        let witnesses = witnesses(report);
        Self {
            nodes: nodes(history),
            partitions: partitions(history, &witnesses),
            groups: groups(history),
            aggregates: aggregates(history, &witnesses),
        }
    }
}

fn nodes(history: &History) -> Vec<Lane> {
    let end = history.end();
    let faults = history.faults();
    let lane = |node: Name| {
        let here = |event: &&Event| event.node == node;
        let mut bars: Vec<Bar> = faults
            .iter()
            .filter(|fault| fault.nodes.contains(&node))
            .map(|fault| Bar {
                from: millis(fault.from),
                until: millis(fault.until.unwrap_or(end)),
                label: format!("{} #{}", fault.family, fault.label),
                class: "fault",
            })
            .collect();
        let mut away: Option<Duration> = None;
        for event in history.events().iter().filter(here) {
            match event.what {
                What::NodeCrashed | What::NodePaused => away = away.or(Some(event.at)),
                What::NodeStarted | What::NodeResumed => bars.extend(away.take().map(|from| down(from, event.at))),
                _ => {}
            }
        }
        bars.extend(away.map(|from| down(from, end)));
        let points = history.numbered().filter(|(_, event)| event.node == node).map(|(number, _)| number).collect();
        Lane { title: node.to_string(), bars, points }
    };
    history.nodes().into_iter().map(lane).collect()
}

fn down(from: Duration, until: Duration) -> Bar {
    Bar { from: millis(from), until: millis(until), label: "away".to_owned(), class: "down" }
}

/// Points, and what each turn began and is called.
type Turns = (Vec<usize>, Vec<(Duration, String)>);

fn partitions(history: &History, witnesses: &[usize]) -> Vec<Lane> {
    let of = |what: &What| -> Option<TopicPartition> {
        match what {
            What::Watermarks { partition, .. }
            | What::Elected { partition, .. }
            | What::Marked { partition, .. }
            | What::OffsetStored { partition, .. }
            | What::Sought { partition, .. }
            | What::Committed { partition, .. } => Some(partition.clone()),
            what => what.place().map(|place| place.tp.clone()),
        }
    };
    let mut lanes: BTreeMap<TopicPartition, Turns> = BTreeMap::new();
    for (number, event) in history.numbered() {
        let Some(tp) = of(&event.what) else { continue };
        let (points, leaders) = lanes.entry(tp).or_default();
        match &event.what {
            What::Elected { leader, epoch, .. } => leaders.push((event.at, format!("epoch {epoch}: {leader}"))),
            What::Started { .. } | What::Finished { .. } => continue,
            _ => {}
        }
        points.push(number);
    }
    let mut lanes: Vec<(bool, Lane)> = lanes
        .into_iter()
        .map(|(tp, (points, leaders))| {
            let shows = points.iter().any(|point| witnesses.contains(point));
            (!shows, Lane { title: tp.to_string(), bars: in_turn(leaders, history.end()), points })
        })
        .collect();
    lanes.sort_by_key(|(shows_nothing, _)| *shows_nothing);
    lanes.into_iter().map(|(_, lane)| lane).take(PARTITIONS_MAX).collect()
}

/// Each lasts until the next begins.
fn in_turn(turns: Vec<(Duration, String)>, end: Duration) -> Vec<Bar> {
    let ends: Vec<Duration> = turns.iter().skip(1).map(|(at, _)| *at).chain([end]).collect();
    let bar = |(index, ((from, label), until)): (usize, ((Duration, String), Duration))| Bar {
        from: millis(from),
        until: millis(until),
        label,
        class: if index % 2 == 0 { "even" } else { "odd" },
    };
    turns.into_iter().zip(ends).enumerate().map(bar).collect()
}

fn groups(history: &History) -> Vec<Lane> {
    let mut lanes: BTreeMap<&Name, Turns> = BTreeMap::new();
    for (number, event) in history.numbered() {
        match &event.what {
            What::Rebalanced { group, .. } => {
                let (points, generations) = lanes.entry(group).or_default();
                points.push(number);
                generations.push((event.at, event.what.to_string()));
            }
            What::Assigned { group, .. }
            | What::Revoked { group, .. }
            | What::Evicted { group, .. }
            | What::OffsetsExpired { group } => lanes.entry(group).or_default().0.push(number),
            _ => {}
        }
    }
    let lane = |(group, (points, generations)): (&Name, (Vec<usize>, Vec<_>))| Lane {
        title: group.to_string(),
        bars: in_turn(generations, history.end()),
        points,
    };
    lanes.into_iter().map(lane).collect()
}

/// One handler while it ran.
#[derive(Debug)]
pub(super) struct Handling<'h> {
    pub(super) group: &'h Name,
    pub(super) aggregate: &'h Name,
    pub(super) node: &'h Name,
    pub(super) message: &'h Name,
    pub(super) attempt: u32,
    pub(super) from: Duration,
    pub(super) until: Duration,
    /// `None` when it never ended, or its node died.
    pub(super) how: Option<Handled>,
    pub(super) began: usize,
    pub(super) ended: Option<usize>,
}

/// Every handler, in the order in which they began; those without a key under the name of their record.
pub(super) fn handlings(history: &History) -> Vec<Handling<'_>> {
    let mut handlings: Vec<Handling<'_>> = Vec::new();
    let mut running: BTreeMap<(&Name, &Name, &Place), usize> = BTreeMap::new();
    for (number, Event { at: now, node, what }) in history.numbered() {
        match what {
            What::Started { group, at, message, aggregate, attempt } => {
                running.insert((node, group, at), handlings.len());
                handlings.push(Handling {
                    group,
                    aggregate: aggregate.as_ref().unwrap_or(message),
                    node,
                    message,
                    attempt: *attempt,
                    from: *now,
                    until: history.end(),
                    how: None,
                    began: number,
                    ended: None,
                });
            }
            What::Finished { group, at, how, .. } => {
                if let Some(index) = running.remove(&(node, group, at)) {
                    let handling = &mut handlings[index];
                    (handling.until, handling.how, handling.ended) = (*now, Some(*how), Some(number));
                }
            }
            What::NodeCrashed => {
                running.retain(|(of, ..), index| {
                    let dies = *of == node;
                    if dies {
                        handlings[*index].until = *now;
                    }
                    !dies
                });
            }
            _ => {}
        }
    }
    handlings
}

fn aggregates(history: &History, witnesses: &[usize]) -> Vec<Lane> {
    let told: BTreeSet<&Name> =
        witnesses.iter().filter_map(|event| history.events().get(*event)?.what.message()).collect();
    let mut lanes: Vec<((&Name, &Name), bool, Lane)> = Vec::new();
    for handling in handlings(history) {
        let key = (handling.aggregate, handling.group);
        let index = lanes.iter().position(|(of, ..)| *of == key).unwrap_or_else(|| {
            let title = format!("{} in {}", handling.aggregate, handling.group);
            lanes.push((key, false, Lane { title, bars: Vec::new(), points: Vec::new() }));
            lanes.len() - 1
        });
        let (_, shows, lane) = &mut lanes[index];
        *shows |= told.contains(handling.message);
        let (how, class) = match handling.how {
            Some(how @ Handled::Well) => (how.word(), "well"),
            Some(how) => (how.word(), "failed"),
            None => ("never ended", "running"),
        };
        lane.bars.push(Bar {
            from: millis(handling.from),
            until: millis(handling.until),
            label: format!("{} attempt {} on {}: {how}", handling.message, handling.attempt, handling.node),
            class,
        });
        lane.points.extend([Some(handling.began), handling.ended].into_iter().flatten());
    }
    lanes.sort_by_key(|(_, shows, _)| !*shows);
    lanes.into_iter().map(|(.., lane)| lane).take(AGGREGATES_MAX).collect()
}
