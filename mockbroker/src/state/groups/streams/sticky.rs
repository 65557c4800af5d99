//! The assignor `sticky` of streams groups (`StickyTaskAssignor`): tasks stay where they are as far as that is even;
//! standby tasks go to processes that do not run the task.
//!
//! Where Kafka takes whatever comes first out of a hash map, we take the first by name.

use super::member::{TaskSets, Tasks};
use super::topology::Part;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A task: a part of the topology, and the partition it reads.
type Task = (String, i32);

/// A member to whom tasks can be given.
#[derive(Debug, Clone)]
pub(super) struct Worker {
    pub(super) id: Arc<str>,
    /// The process it runs in.
    pub(super) process: String,
    /// What it was to have before.
    pub(super) before: TaskSets,
}

/// Deals out all tasks, and `standbys` more of each that has state.
pub(super) fn assign(
    parts: &BTreeMap<String, Part>,
    workers: &[Worker],
    standbys: i32,
) -> BTreeMap<Arc<str>, TaskSets> {
    let mut dealing = Dealing::new(parts, workers, standbys);
    dealing.deal_active(parts);
    if standbys > 0 {
        dealing.deal_standby(parts, standbys);
    }
    dealing.given
}

#[derive(Default)]
struct Dealing {
    given: BTreeMap<Arc<str>, TaskSets>,
    /// Who is in which process, and how many tasks each has.
    processes: BTreeMap<String, BTreeMap<Arc<str>, i32>>,
    process_of: BTreeMap<Arc<str>, String>,
    /// What each process has.
    tasks_in: BTreeMap<String, BTreeSet<Task>>,
    was_active: BTreeMap<Task, Arc<str>>,
    was_standby: BTreeMap<Task, Vec<Arc<str>>>,
    active: Quota,
    all: Quota,
}

/// How many tasks a member may have; who has as many counts no longer.
#[derive(Default)]
struct Quota {
    tasks: i32,
    members: i32,
}

impl Quota {
    fn each(&self) -> i32 {
        if self.members <= 0 { 0 } else { (self.tasks + self.members - 1).div_euclid(self.members) }
    }

    fn note(&mut self, tasks: i32) {
        if tasks == self.each() {
            self.members -= 1;
            self.tasks -= tasks;
        }
    }
}

impl Dealing {
    fn new(parts: &BTreeMap<String, Part>, workers: &[Worker], standbys: i32) -> Self {
        let active: i32 = parts.values().map(|part| part.tasks).sum();
        let standby: i32 = parts.values().filter(|part| part.stateful).map(|part| part.tasks * standbys).sum();
        let members = i32::try_from(workers.len()).unwrap_or(i32::MAX);
        let mut dealing = Self {
            active: Quota { tasks: active, members },
            all: Quota { tasks: active + standby, members },
            ..Self::default()
        };
        for worker in workers {
            dealing.given.insert(Arc::clone(&worker.id), TaskSets::default());
            dealing.processes.entry(worker.process.clone()).or_default().insert(Arc::clone(&worker.id), 0);
            dealing.process_of.insert(Arc::clone(&worker.id), worker.process.clone());
            for task in tasks_of(&worker.before.active) {
                dealing.was_active.insert(task, Arc::clone(&worker.id));
            }
            for task in tasks_of(&worker.before.standby) {
                dealing.was_standby.entry(task).or_default().push(Arc::clone(&worker.id));
            }
        }
        dealing
    }

    fn deal_active(&mut self, parts: &BTreeMap<String, Part>) {
        let mut tasks: Vec<Task> = all_tasks(parts).collect();
        tasks.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
        tasks.retain(|task| {
            let member = self.was_active.get(task).cloned();
            !member.is_some_and(|member| self.give_active_within_quota(&member, task))
        });
        tasks.retain(|task| {
            let member = self.least_loaded_of(self.was_standby.get(task), None);
            !member.is_some_and(|member| self.give_active_within_quota(&member, task))
        });
        tasks.sort();
        for task in tasks {
            if let Some(member) = self.least_loaded_where(|_| true) {
                self.give_active(&member, &task);
            }
        }
    }

    fn give_active_within_quota(&mut self, member: &Arc<str>, task: &Task) -> bool {
        let fits = self.load_of(member) < self.active.each();
        if fits {
            self.give_active(member, task);
        }
        fits
    }

    fn give_active(&mut self, member: &Arc<str>, task: &Task) {
        let count = self.give(member, task, true);
        self.active.note(count);
        self.all.note(count);
    }

    fn deal_standby(&mut self, parts: &BTreeMap<String, Part>, standbys: i32) {
        let stateful = all_tasks(parts).filter(|(part, _)| parts.get(part).is_some_and(|part| part.stateful));
        let mut tasks: Vec<Task> = stateful.collect();
        tasks.sort_by(|a, b| (b.1, &b.0).cmp(&(a.1, &a.0)));
        let mut left = Vec::new();
        for task in tasks {
            let mut given = 0;
            while given < standbys && self.give_standby_where_it_was(&task) {
                given += 1;
            }
            left.push((task, standbys - given));
        }
        left.sort_by(|a, b| b.cmp(a));
        for (task, count) in left {
            for _ in 0..count {
                let Some(member) = self.least_loaded_where(|process| !self.runs(process, &task)) else { break };
                let count = self.give(&member, &task, false);
                self.all.note(count);
            }
        }
    }

    fn give_standby_where_it_was(&mut self, task: &Task) -> bool {
        let has_room = |member: &Arc<str>| self.load_of(member) < self.all.each();
        let ran = self.was_active.get(task).filter(|member| !self.runs(self.process(member), task) && has_room(member));
        let kept = || self.least_loaded_of(self.was_standby.get(task), Some(task)).filter(has_room);
        let Some(member) = ran.cloned().or_else(kept) else { return false };
        let count = self.give(&member, task, false);
        self.all.note(count);
        true
    }

    fn give(&mut self, member: &Arc<str>, task: &Task, active: bool) -> i32 {
        let process = self.process(member).to_owned();
        self.tasks_in.entry(process.clone()).or_default().insert(task.clone());
        let given = self.given.entry(Arc::clone(member)).or_default();
        let kind = if active { &mut given.active } else { &mut given.standby };
        kind.entry(task.0.clone()).or_default().insert(task.1);
        let count = self.processes.entry(process).or_default().entry(Arc::clone(member)).or_default();
        *count += 1;
        *count
    }

    fn process(&self, member: &Arc<str>) -> &str {
        self.process_of.get(member).map(String::as_str).unwrap_or_default()
    }

    fn runs(&self, process: &str, task: &Task) -> bool {
        self.tasks_in.get(process).is_some_and(|tasks| tasks.contains(task))
    }

    fn load_of(&self, member: &Arc<str>) -> i32 {
        self.processes.get(self.process(member)).and_then(|members| members.get(member)).copied().unwrap_or(0)
    }

    /// Tasks for each member of a process.
    fn process_load(&self, process: &str) -> f64 {
        let Some(members) = self.processes.get(process) else { return f64::MAX };
        f64::from(members.values().sum::<i32>()) / members.len() as f64
    }

    /// The member with the fewest tasks in the process with the fewest tasks a member.
    fn least_loaded_where(&self, is_meant: impl Fn(&str) -> bool) -> Option<Arc<str>> {
        let meant = self.processes.keys().filter(|process| is_meant(process));
        let process = meant.min_by(|a, b| self.process_load(a).total_cmp(&self.process_load(b)))?;
        let members = self.processes.get(process)?;
        members.iter().min_by_key(|(_, count)| **count).map(|(member, _)| Arc::clone(member))
    }

    /// Of members that had a task, the one with the least load whose process does not run it.
    fn least_loaded_of(&self, members: Option<&Vec<Arc<str>>>, task: Option<&Task>) -> Option<Arc<str>> {
        let is_free = |member: &Arc<str>| task.is_none_or(|task| !self.runs(self.process(member), task));
        let mut members = members?.iter();
        let first = members.next()?;
        let mut best = first;
        for member in members {
            let lighter = self.process_load(self.process(member)) < self.process_load(self.process(best))
                && self.load_of(member) < self.load_of(best);
            if lighter && is_free(member) {
                best = member;
            }
        }
        // As in Kafka, it is the first one's process that must not run the task.
        is_free(first).then(|| Arc::clone(best))
    }
}

fn all_tasks(parts: &BTreeMap<String, Part>) -> impl Iterator<Item = Task> {
    parts.iter().flat_map(|(id, part)| (0..part.tasks).map(move |partition| (id.clone(), partition)))
}

fn tasks_of(tasks: &Tasks) -> impl Iterator<Item = Task> {
    tasks.iter().flat_map(|(id, partitions)| partitions.iter().map(move |partition| (id.clone(), *partition)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(tasks: i32, stateful: bool) -> BTreeMap<String, Part> {
        BTreeMap::from([("0".to_owned(), Part { tasks, stateful, ..Part::default() })])
    }

    fn worker(id: &str, process: &str, active: impl Iterator<Item = i32>) -> Worker {
        let active = BTreeMap::from([("0".to_owned(), active.collect())]);
        Worker { id: Arc::from(id), process: process.to_owned(), before: TaskSets { active, ..Default::default() } }
    }

    fn active(given: &BTreeMap<Arc<str>, TaskSets>, member: &str) -> Vec<i32> {
        given[member].active.get("0").into_iter().flatten().copied().collect()
    }

    #[test]
    fn tasks_stay_where_they_were_as_far_as_that_is_even() {
        let workers = [worker("ann", "p", 1..4), worker("ben", "q", 0..1)];
        let given = assign(&parts(4, false), &workers, 0);
        assert_eq!((active(&given, "ann"), active(&given, "ben")), (vec![1, 2], vec![0, 3]));
    }

    #[test]
    fn standby_tasks_go_to_other_processes() {
        let workers = [worker("ann", "p", 0..0), worker("ben", "q", 0..0)];
        let given = assign(&parts(2, true), &workers, 1);
        for (member, other) in [("ann", "ben"), ("ben", "ann")] {
            assert_eq!(given[member].standby, given[other].active);
        }
        let alone = assign(&parts(2, true), &workers[..1], 1);
        assert!(alone["ann"].standby.is_empty(), "there is no other process");
    }
}
