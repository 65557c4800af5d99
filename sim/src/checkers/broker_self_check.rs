//! **Promise:** the brokers never contradict themselves.
//!
//! After every event: `watermark-order`, start ≤ stable ≤ high ≤ end; `high-watermark-went-back`, it only rises, unless an
//! unclean leader was elected; `two-leaders`, an epoch has one leader, and epochs rise; `two-owners`, a generation gives a
//! partition to one member; `generation-went-back`; `sequence`, the records of an idempotent producer follow each other
//! without gap or repetition in each partition and epoch (KIP-98, KIP-360).
//!
//! **Needs** the brokers' own word. **Silent** without it; about sequences after a leader change, when what was not
//! replicated is appended anew; and about the first record of a producer that a partition remembers.

use std::collections::BTreeMap;

use super::{Checker, Findings};
use crate::history::{History, Stamp, TopicPartition, What};
use crate::name::Name;

/// Brokers do not contradict themselves.
#[derive(Debug, Clone, Copy, Default)]
pub struct BrokerSelfCheck;

#[derive(Debug, Default)]
struct Seen<'h> {
    high: BTreeMap<&'h TopicPartition, (usize, i64)>,
    leaders: BTreeMap<&'h TopicPartition, (usize, i32, &'h Name)>,
    generations: BTreeMap<&'h Name, (usize, i32)>,
    sequences: BTreeMap<(&'h TopicPartition, i64, i16), (usize, i32)>,
}

impl Checker for BrokerSelfCheck {
    fn name(&self) -> &'static str {
        "broker-self-check"
    }

    fn promise(&self) -> &'static str {
        "the brokers never contradict themselves"
    }

    fn check(&self, history: &History, found: &mut Findings<'_>) {
        let mut seen = Seen::default();
        for (number, event) in history.numbered() {
            match &event.what {
                What::Watermarks { partition, start, stable, high, end, .. } => {
                    if !(start <= high && stable <= high && high <= end) {
                        found.broken("watermark-order", &[number], || event.what.to_string());
                    }
                    let before = seen.high.insert(partition, (number, *high));
                    if let Some((first, before)) = before.filter(|(_, before)| before > high) {
                        found.broken("high-watermark-went-back", &[first, number], || {
                            format!("the high watermark of {partition} was {before} and is {high}")
                        });
                    }
                }
                What::Elected { partition, leader, epoch, unclean } => {
                    let before = seen.leaders.insert(partition, (number, *epoch, leader));
                    if let Some((first, ..)) =
                        before.filter(|(_, old, of)| old > epoch || old == epoch && *of != leader)
                    {
                        found.broken("two-leaders", &[first, number], || {
                            format!("{leader} leads {partition} in epoch {epoch}, which was over or another's")
                        });
                    }
                    seen.sequences.retain(|(of, ..), _| *of != partition);
                    if *unclean {
                        seen.high.remove(partition);
                    }
                }
                What::Rebalanced { group, generation, owners } => {
                    let mut given: BTreeMap<&TopicPartition, &Name> = BTreeMap::new();
                    for (member, tp) in owners.iter().flat_map(|(member, tps)| tps.iter().map(move |tp| (member, tp))) {
                        if let Some(other) = given.insert(tp, member) {
                            found.broken("two-owners", &[number], || {
                                format!("generation {generation} of {group} gives {tp} to {other} and to {member}")
                            });
                        }
                    }
                    let before = seen.generations.insert(group, (number, *generation));
                    if let Some((first, before)) = before.filter(|(_, before)| before >= generation) {
                        found.broken("generation-went-back", &[first, number], || {
                            format!("{group} was in generation {before} and is in {generation}")
                        });
                    }
                }
                What::Stored { at, stamp: Some(stamp), .. } => {
                    let Stamp { producer, epoch, sequence } = *stamp;
                    let before = seen.sequences.insert((&at.tp, producer, epoch), (number, sequence));
                    // After the greatest sequence number comes 0 (DefaultRecordBatch.incrementSequence).
                    let next = |before: i32| before.checked_add(1).unwrap_or(0);
                    if let Some((first, before)) = before.filter(|(_, before)| next(*before) != sequence) {
                        found.broken("sequence", &[first, number], || {
                            format!("producer {producer} stored sequence {before} and then {sequence} in {}", at.tp)
                        });
                    }
                }
                What::Recreated { topic } => {
                    seen.high.retain(|tp, _| tp.topic != *topic);
                    seen.leaders.retain(|tp, _| tp.topic != *topic);
                    seen.sequences.retain(|(tp, ..), _| tp.topic != *topic);
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::story::{Story, kinds, orders};

    const SILENT: [&str; 0] = [];

    fn marks(story: Story, stable: i64, high: i64, end: i64) -> Story {
        let partition = orders();
        story.note("broker-1", What::Watermarks { partition, leader_epoch: 0, start: 0, stable, high, end })
    }

    #[test]
    fn watermarks_out_of_order_are_caught() {
        assert_eq!(kinds(&BrokerSelfCheck, &marks(Story::new(), 1, 2, 3).live()), SILENT);
        assert_eq!(kinds(&BrokerSelfCheck, &marks(Story::new(), 3, 2, 3).live()), ["watermark-order"]);
        assert_eq!(kinds(&BrokerSelfCheck, &marks(Story::new(), 1, 4, 3).live()), ["watermark-order"]);
    }

    #[test]
    fn a_high_watermark_goes_back_only_under_an_unclean_leader() {
        let first = || marks(Story::new(), 3, 3, 3);
        assert_eq!(kinds(&BrokerSelfCheck, &marks(first(), 2, 2, 3).live()), ["high-watermark-went-back"]);
        assert_eq!(kinds(&BrokerSelfCheck, &marks(first().elected("broker-2", 1, true), 2, 2, 2).live()), SILENT);
        let clean = marks(first().elected("broker-2", 1, false), 2, 2, 2);
        assert_eq!(kinds(&BrokerSelfCheck, &clean.live()), ["high-watermark-went-back"]);
    }

    #[test]
    fn two_leaders_of_an_epoch_are_caught() {
        let first = || Story::new().elected("broker-1", 1, false);
        assert_eq!(kinds(&BrokerSelfCheck, &first().elected("broker-2", 1, false).live()), ["two-leaders"]);
        assert_eq!(kinds(&BrokerSelfCheck, &first().elected("broker-2", 2, false).live()), SILENT);
    }

    #[test]
    fn two_owners_of_a_partition_are_caught() {
        let owners = |second: Vec<TopicPartition>| What::Rebalanced {
            group: "billing".into(),
            generation: 2,
            owners: vec![("v".into(), vec![orders()]), ("w".into(), second)],
        };
        assert_eq!(
            kinds(&BrokerSelfCheck, &Story::new().note("broker-1", owners(vec![orders()])).live()),
            ["two-owners"]
        );
        assert_eq!(kinds(&BrokerSelfCheck, &Story::new().note("broker-1", owners(vec![])).live()), SILENT);
        let back = Story::new().rebalanced(2, &["w"]).rebalanced(2, &["w"]);
        assert_eq!(kinds(&BrokerSelfCheck, &back.live()), ["generation-went-back"]);
    }

    #[test]
    fn sequences_with_a_gap_or_a_repetition_are_caught() {
        let stored = |sequences: &[i32]| {
            sequences.iter().enumerate().fold(Story::new(), |story, (index, sequence)| {
                story.stamped(&format!("a-{index}"), index as i64, *sequence)
            })
        };
        assert_eq!(kinds(&BrokerSelfCheck, &stored(&[0, 1, 2]).live()), SILENT);
        assert_eq!(kinds(&BrokerSelfCheck, &stored(&[i32::MAX, 0]).live()), SILENT);
        assert_eq!(kinds(&BrokerSelfCheck, &stored(&[0, 2]).live()), ["sequence"]);
        assert_eq!(kinds(&BrokerSelfCheck, &stored(&[0, 0]).live()), ["sequence"]);
        let moved = stored(&[0, 1]).elected("broker-2", 1, false).stamped("a-9", 1, 1);
        assert_eq!(kinds(&BrokerSelfCheck, &moved.live()), SILENT);
    }
}
