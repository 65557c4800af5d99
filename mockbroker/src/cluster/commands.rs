//! Carries out commands: what changes a cluster from outside.

use super::{Cluster, Connection};
use crate::control::{Command, CommandError};
use crate::error::{ErrorCode, Reject};
use crate::fault::FaultId;
use crate::held::Until;
use crate::output::{ConnId, Output};
use crate::state::NewTopic;
use crate::state::nodes::NodeId;
use crate::state::topics::{OFFSETS_TOPIC, Partition};
use crate::time::Time;

impl Cluster {
    /// Carries out a command; says what time it is then.
    pub(super) fn carry_out(
        &mut self,
        now: Time,
        command: Command,
        outputs: &mut Vec<Output>,
    ) -> Result<Time, CommandError> {
        match command {
            Command::CreateTopic(topic) => {
                self.state.create_topic(&topic, false)?;
            }
            Command::DeleteTopic(name) => {
                self.known_topic(&name)?;
                self.state.delete_topic(&name)?;
            }
            Command::RecreateTopic(name) => self.recreate_topic(&name)?,
            Command::AddPartitions { topic, total } => {
                self.known_topic(&topic)?;
                self.state.add_partitions(&topic, total, None, false)?;
            }
            Command::Trim { topic, partition, before } => self.trim(&topic, partition, before)?,
            Command::CheckRetention => self.state.check_retention(now),
            Command::Compact(topic) => {
                self.known_topic(&topic)?;
                self.state.compact_topic(now, &topic);
            }
            Command::Advertise { node, host, port } => {
                self.known(node)?;
                self.state.nodes.advertise(node, host, port);
            }
            Command::MoveLeader { topic, partition, to } => self.move_leader(now, &topic, partition, to)?,
            Command::BumpLeaderEpoch { topic, partition } => self.bump_leader_epoch(now, &topic, partition)?,
            Command::MoveController(to) => self.move_controller(to)?,
            Command::MoveCoordinator { group, to } => self.move_coordinator(now, &group, to)?,
            Command::Crash(node) => self.crash(now, node, false, outputs)?,
            Command::PowerLoss(node) => self.crash(now, node, true, outputs)?,
            Command::Stop(node) => self.stop(now, node, outputs)?,
            Command::Start(node) => self.start(now, node, outputs)?,
            Command::Pause(node) => self.pause(node)?,
            Command::Resume(node) => self.resume_node(now, node, outputs)?,
            Command::Flush(node) => {
                self.known(node)?;
                self.state.flush(now, node);
            }
            Command::SetFollowerDelay { node, delay } => {
                self.known(node)?;
                self.state.set_follower_delay(now, node, delay);
            }
            Command::StopCopying { topic, partition, node } => {
                self.replica(&topic, partition, node)?;
                self.state.set_copying(now, &topic, partition, node, false);
            }
            Command::ResumeCopying { topic, partition, node } => {
                self.replica(&topic, partition, node)?;
                self.state.set_copying(now, &topic, partition, node, true);
            }
            Command::ShrinkIsr { topic, partition, node } => {
                self.replica(&topic, partition, node)?;
                if !self.state.shrink_isr(now, &topic, partition, node) {
                    return Err(CommandError::NotAFollowerInSync { node, topic, partition });
                }
            }
            Command::ExpandIsr { topic, partition, node } => {
                self.replica(&topic, partition, node)?;
                self.state.expand_isr(now, &topic, partition, node);
            }
            Command::ElectUnclean { topic, partition } => {
                self.known_partition(&topic, partition)?;
                let elected = self.state.elect_unclean(now, &topic, partition);
                elected.map_err(|code| {
                    let why = match code {
                        ErrorCode::ElectionNotNeeded => "has a leader",
                        _ => "has no replica on a running broker",
                    };
                    let message = format!("partition {partition} of topic '{topic}' {why}");
                    CommandError::Refused(Reject::new(code, message))
                })?;
            }
            Command::Disconnect { node, client_id } => {
                let meant = |connection: &Connection| {
                    node.is_none_or(|node| connection.node == node)
                        && client_id.as_deref().is_none_or(|id| connection.client_id.as_str() == id)
                };
                self.cut(meant, "its connection was cut", outputs);
            }
            Command::ExpireMember { group, member } => self.expire_member(now, &group, &member)?,
            Command::Rebalance { group } => self.on_group(&group, |groups, group| groups.rebalance(now, group))?,
            Command::ExpireOffsets { group } => self.on_group(&group, |groups, group| groups.drop_offsets(group))?,
            Command::BumpProducerEpoch(producer_id) => self.bump_producer_epoch(producer_id)?,
            Command::JumpClock { by_ms } => {
                self.state.wall_clock_offset_ms += by_ms;
                self.state.expect_upkeep(now);
            }
            Command::Advance(by) => {
                self.ahead += by;
                self.pass_time(now + by, outputs);
                return Ok(now + by);
            }
            Command::Release(fault) => self.release(now, fault, outputs)?,
            Command::Forget(fault) => {
                self.release(now, fault, outputs)?;
                self.faults.forget(fault);
            }
        }
        Ok(now)
    }

    // ---- topics ----

    /// Deletes a topic and creates it again at once, with as many partitions on the same brokers and the same configs,
    /// under a new id.
    fn recreate_topic(&mut self, name: &str) -> Result<(), CommandError> {
        let topic = self.state.topics.get(name).ok_or_else(|| CommandError::UnknownTopic(name.to_owned()))?;
        let assignment = topic.partitions.iter().map(|partition| partition.replicas.clone()).collect();
        let configs = self.state.configs.topic_overrides(name);
        let configs = configs.into_iter().map(|(name, value)| (name, Some(value))).collect();
        let new = NewTopic { name: name.to_owned(), assignment: Some(assignment), configs, ..NewTopic::default() };
        self.state.delete_topic(name)?;
        self.state.create_topic(&new, false)?;
        Ok(())
    }

    fn trim(&mut self, topic: &str, index: i32, before: i64) -> Result<(), CommandError> {
        let partition = self.known_partition(topic, index)?;
        let high_watermark = partition.log.high_watermark();
        if !(0..=high_watermark).contains(&before) {
            let message = format!("offset {before} is not between 0 and the high watermark, {high_watermark}");
            return Err(CommandError::Refused(Reject::new(ErrorCode::OffsetOutOfRange, message)));
        }
        partition.log.trim(before);
        self.state.partition_changed(topic, index);
        Ok(())
    }

    fn known_partition(&mut self, topic: &str, index: i32) -> Result<&mut Partition, CommandError> {
        let unknown = || CommandError::UnknownPartition { topic: topic.to_owned(), partition: index };
        self.state.topics.get_mut(topic).and_then(|topic| topic.partition_mut(index)).ok_or_else(unknown)
    }

    // ---- leaders ----

    fn bump_leader_epoch(&mut self, now: Time, topic: &str, index: i32) -> Result<(), CommandError> {
        self.known_partition(topic, index)?;
        self.state.bump_leader_epoch(now, topic, index);
        Ok(())
    }

    fn move_controller(&mut self, to: NodeId) -> Result<(), CommandError> {
        self.known(to)?;
        if self.state.nodes.make_controller(to) { Ok(()) } else { Err(CommandError::NotRunning(to)) }
    }

    fn move_coordinator(&mut self, now: Time, group: &str, to: NodeId) -> Result<(), CommandError> {
        self.known(to)?;
        self.state.group_coordinator(group)?;
        let partition = self.state.coordinator_partition(group);
        self.move_leader(now, OFFSETS_TOPIC, partition, to)
    }

    // ---- brokers and connections ----

    fn pause(&mut self, node: NodeId) -> Result<(), CommandError> {
        self.known(node)?;
        if !self.state.nodes.is_running(node) {
            return Err(CommandError::NotRunning(node));
        }
        self.paused.insert(node);
        Ok(())
    }

    fn resume_node(&mut self, now: Time, node: NodeId, outputs: &mut Vec<Output>) -> Result<(), CommandError> {
        self.known(node)?;
        if !self.paused.remove(&node) {
            return Err(CommandError::NotPaused(node));
        }
        self.let_go(now, |until| until == Until::Resumed(node), outputs);
        Ok(())
    }

    fn cut(&mut self, meant: impl Fn(&Connection) -> bool, reason: &str, outputs: &mut Vec<Output>) {
        let cut: Vec<ConnId> =
            self.connections.iter().filter(|(_, connection)| meant(connection)).map(|(conn, _)| *conn).collect();
        for conn in cut {
            self.close(conn, reason.to_owned(), outputs);
        }
    }

    // ---- groups and producers ----

    fn expire_member(&mut self, now: Time, group: &str, member: &str) -> Result<(), CommandError> {
        let unknown = || CommandError::UnknownMember { group: group.to_owned(), member: member.to_owned() };
        self.known_group(group)?;
        let id = self.state.groups.member_meant(group, member).ok_or_else(unknown)?;
        self.state.groups.expire_member(now, group, &id);
        Ok(())
    }

    fn on_group(
        &mut self,
        group: &str,
        act: impl FnOnce(&mut crate::state::groups::Groups, &str),
    ) -> Result<(), CommandError> {
        self.known_group(group)?;
        act(&mut self.state.groups, group);
        Ok(())
    }

    fn known_group(&self, group: &str) -> Result<(), CommandError> {
        let known = self.state.groups.ids().any(|id| id == group);
        if known { Ok(()) } else { Err(CommandError::UnknownGroup(group.to_owned())) }
    }

    fn bump_producer_epoch(&mut self, producer_id: i64) -> Result<(), CommandError> {
        let partitions = self.state.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
        let bumped = partitions.filter_map(|partition| partition.producers.bump_epoch(producer_id)).count();
        if bumped == 0 { Err(CommandError::UnknownProducer(producer_id)) } else { Ok(()) }
    }

    // ---- faults ----

    fn release(&mut self, now: Time, fault: FaultId, outputs: &mut Vec<Output>) -> Result<(), CommandError> {
        if self.faults.hits(fault).is_none() {
            return Err(CommandError::UnknownFault(fault));
        }
        self.faults.spend(fault);
        self.let_go(now, |until| until == Until::Released(fault), outputs);
        Ok(())
    }

    fn known_topic(&self, name: &str) -> Result<(), CommandError> {
        self.state.topics.get(name).map(|_| ()).ok_or_else(|| CommandError::UnknownTopic(name.to_owned()))
    }

    fn known(&self, node: NodeId) -> Result<(), CommandError> {
        self.state.nodes.get(node).map(|_| ()).ok_or(CommandError::UnknownBroker(node))
    }

    fn replica(&mut self, topic: &str, partition: i32, node: NodeId) -> Result<(), CommandError> {
        self.known(node)?;
        if self.known_partition(topic, partition)?.replicas.contains(&node) {
            return Ok(());
        }
        Err(CommandError::NoReplica { node, topic: topic.to_owned(), partition })
    }

    fn move_leader(&mut self, now: Time, topic: &str, partition: i32, to: NodeId) -> Result<(), CommandError> {
        self.known_partition(topic, partition)?;
        let moved = self.state.move_leader(now, topic, partition, to);
        moved.ok_or_else(|| CommandError::NotInSync { node: to, topic: topic.to_owned(), partition })
    }

    fn crash(&mut self, now: Time, node: NodeId, power: bool, outputs: &mut Vec<Output>) -> Result<(), CommandError> {
        self.known(node)?;
        if !self.state.crash(now, node, power) {
            return Err(CommandError::NotRunning(node));
        }
        self.cut_off(node, if power { "lost its power" } else { "crashed" }, outputs);
        Ok(())
    }

    fn stop(&mut self, now: Time, node: NodeId, outputs: &mut Vec<Output>) -> Result<(), CommandError> {
        self.known(node)?;
        if !self.state.begin_stop(now, node) {
            return Err(CommandError::NotRunning(node));
        }
        // Whoever waits at this broker is told of the new leader before the connection goes.
        self.settle(now, outputs);
        self.state.finish_stop(now, node);
        self.cut_off(node, "stopped", outputs);
        Ok(())
    }

    fn cut_off(&mut self, node: NodeId, why: &str, outputs: &mut Vec<Output>) {
        outputs.push(Output::StopListening(node));
        // What a process has in hand dies with it, frozen or not.
        self.paused.remove(&node);
        self.kept_back.forget_node(node);
        self.cut(|connection| connection.node == node, &format!("{node} {why}"), outputs);
    }

    fn start(&mut self, now: Time, node: NodeId, outputs: &mut Vec<Output>) -> Result<(), CommandError> {
        self.known(node)?;
        if !self.state.start(now, node) {
            return Err(CommandError::Running(node));
        }
        outputs.push(Output::Listen(node));
        Ok(())
    }
}
