//! What must hold after every step. Checked in debug builds.

use crate::state::State;

/// # Panics
/// When the cluster contradicts itself: that is our mistake, never a client's.
pub(crate) fn check(state: &State) {
    for topic in state.topics.iter() {
        for (index, partition) in topic.partitions.iter().enumerate() {
            let log = &partition.log;
            let name = &topic.name;
            assert!(
                log.start_offset() <= log.high_watermark() && log.high_watermark() <= log.end_offset(),
                "watermarks of {name}-{index} are out of order: {} {} {}",
                log.start_offset(),
                log.high_watermark(),
                log.end_offset()
            );
            assert!(
                (log.start_offset()..=log.high_watermark()).contains(&log.last_stable_offset()),
                "the last stable offset of {name}-{index}, {}, is out of order",
                log.last_stable_offset()
            );
            assert!(
                partition.isr.iter().all(|node| partition.replicas.contains(node)),
                "in-sync replicas of {name}-{index} are not all replicas"
            );
            partition.check(name, index);
            if let Some(leader) = partition.leader {
                assert!(partition.isr.contains(&leader), "the leader of {name}-{index} is not in sync");
                let known = state.nodes.get(leader);
                assert!(known.is_some_and(|node| !node.fenced), "the leader of {name}-{index} is fenced");
            }
        }
    }
}
