use super::*;
use crate::time::millis;
use crate::wire::Uuid;
use rand::SeedableRng;
use rand::rngs::SmallRng;

const GROUP: &str = "billing";
const NO_ID: Uuid = Uuid::ZERO;

#[test]
fn two_members_form_a_generation_and_receive_what_the_leader_assigned() {
    let mut kafka = Coordinator::new();
    let (ann, _) = kafka.start("ann");
    kafka.beat(&ann).unwrap();

    kafka.join("ben", 2);
    assert_eq!(kafka.beat(&ann), Err(ErrorCode::RebalanceInProgress));
    assert!(kafka.answers().is_empty(), "ben waits until ann has joined again");
    kafka.rejoin(&ann, 1);
    let joined = kafka.all_joined();

    assert_eq!(joined[&1].generation, 2);
    assert_eq!(joined[&1].leader, joined[&1].member_id);
    assert_eq!(joined[&1].members.len(), 2);
    assert_eq!(joined[&2].members, []);
    assert_eq!(joined[&2].leader, joined[&1].member_id);

    let (ann, ben) = (joined[&1].member_id.clone(), joined[&2].member_id.clone());
    kafka.sync(&ben, 2, &[], 4);
    assert!(kafka.answers().is_empty(), "the leader has not spoken");
    kafka.sync(&ann, 2, &[(&ann, "p0"), (&ben, "p1")], 3);
    assert_eq!(kafka.all_synced(), [(3, "p0"), (4, "p1")].map(|(w, a)| (w, Ok(a.to_owned()))).into());
    assert_eq!(kafka.state(), State::Stable);
}

#[test]
fn a_new_member_is_first_told_its_id() {
    let mut kafka = Coordinator::new();
    kafka.try_join(Candidate { knows_member_id_required: true, ..candidate("ann") }, 1);
    let refusal = kafka.refused_join();
    assert_eq!(refusal.code, ErrorCode::MemberIdRequired);
    assert!(refusal.member_id.starts_with("ann-"));
    assert_eq!(refusal.member_id.len(), "ann-".len() + 36);

    kafka.try_join(Candidate { member_id: &refusal.member_id, ..candidate("ann") }, 2);
    assert_eq!(kafka.all_joined()[&2].member_id, refusal.member_id);
}

#[test]
fn an_id_nobody_joins_with_is_forgotten_after_the_session_timeout() {
    let mut kafka = Coordinator::new();
    kafka.try_join(Candidate { knows_member_id_required: true, ..candidate("ann") }, 1);
    let id = kafka.refused_join().member_id;
    assert_eq!(kafka.view().pending_members, [id.as_str()]);

    kafka.advance_to_next_deadline();

    assert_eq!(kafka.now, Time::from_millis(10_000));
    assert!(kafka.view().pending_members.is_empty());
    kafka.try_join(Candidate { member_id: &id, ..candidate("ann") }, 2);
    assert_eq!(kafka.refused_join().code, ErrorCode::UnknownMemberId);
}

#[test]
fn a_pending_id_holds_up_the_join_phase_until_it_expires() {
    let mut kafka = Coordinator::new();
    let (ann, _) = kafka.start("ann");
    kafka.try_join(Candidate { knows_member_id_required: true, ..candidate("ben") }, 2);
    kafka.refused_join();

    kafka.rejoin(&ann, 1);
    assert!(kafka.answers().is_empty());
    kafka.advance(9_999);
    assert!(kafka.answers().is_empty());
    kafka.advance(1);
    assert_eq!(kafka.all_joined()[&1].generation, 2);
}

#[test]
fn a_cooperative_follower_that_gave_partitions_up_starts_a_second_generation() {
    let mut kafka = Coordinator::new();
    let [ann, ben] = kafka.start_two();

    // The follower revoked p1 and joins again with a subscription that owns less.
    kafka.try_join(Candidate { member_id: &ben, protocols: range("owns nothing"), ..candidate("ben") }, 2);
    assert_eq!(kafka.state(), State::PreparingRebalance);
    kafka.rejoin(&ann, 1);

    let joined = kafka.all_joined();
    assert_eq!(joined[&2].generation, 3);
    assert_eq!(joined[&1].members[1].metadata, "owns nothing");
}

#[test]
fn a_follower_that_joins_again_unchanged_is_told_the_generation_and_nobody_is_disturbed() {
    let mut kafka = Coordinator::new();
    let [ann, ben] = kafka.start_two();

    kafka.rejoin(&ben, 9);

    assert_eq!(kafka.all_joined()[&9].generation, 2);
    assert_eq!(kafka.state(), State::Stable);
    kafka.rejoin(&ann, 10);
    assert_eq!(kafka.state(), State::PreparingRebalance, "a leader that joins again wants to assign anew");
}

#[test]
fn members_must_share_a_protocol() {
    let mut kafka = Coordinator::new();
    kafka.start("ann");

    kafka.try_join(Candidate { protocol_type: "connect", ..candidate("ben") }, 2);
    assert_eq!(kafka.refused_join().code, ErrorCode::InconsistentGroupProtocol);
    kafka.try_join(Candidate { protocols: protocols(&["sticky"]), ..candidate("ben") }, 3);
    assert_eq!(kafka.refused_join().code, ErrorCode::InconsistentGroupProtocol);
    kafka.try_join(Candidate { group: "other", protocols: vec![], ..candidate("ben") }, 4);
    assert_eq!(kafka.refused_join().code, ErrorCode::InconsistentGroupProtocol);
}

#[test]
fn the_protocol_most_members_prefer_is_chosen_from_those_all_support() {
    let mut kafka = Coordinator::new();
    kafka.settings().initial_rebalance_delay = millis(1_000);
    for (ticket, names) in [(1, ["a", "c", "b"]), (2, ["b", "c", "a"]), (3, ["d", "b", "c"])] {
        kafka.try_join(Candidate { protocols: protocols(&names), ..candidate("x") }, ticket);
    }
    kafka.advance(1_000);
    kafka.advance(1_000);

    // "a" lacks the third member, "d" the others; "c" has one vote and "b" two.
    assert_eq!(kafka.all_joined()[&1].protocol.as_deref(), Some("b"));
}

#[test]
fn between_equally_liked_protocols_the_order_of_a_java_hash_map_decides() {
    // In a JVM these iterate as "range", "roundrobin" and as "sticky", "range".
    for (first, second) in [("range", "roundrobin"), ("sticky", "range")] {
        for (one, other) in [(first, second), (second, first)] {
            let mut kafka = Coordinator::new();
            kafka.try_join(Candidate { protocols: protocols(&[one, other]), ..candidate("ann") }, 1);
            let ann = kafka.all_joined()[&1].member_id.clone();
            kafka.try_join(Candidate { protocols: protocols(&[other, one]), ..candidate("ben") }, 2);
            kafka.try_join(Candidate { member_id: &ann, protocols: protocols(&[one, other]), ..candidate("ann") }, 1);
            assert_eq!(kafka.all_joined()[&1].protocol.as_deref(), Some(first));
        }
    }
}

#[test]
fn requests_name_a_member_of_this_generation() {
    let mut kafka = Coordinator::new();
    let (ann, _) = kafka.start("ann");

    assert_eq!(kafka.beat("nobody"), Err(ErrorCode::UnknownMemberId));
    assert_eq!(kafka.beat_in(&ann, 7), Err(ErrorCode::IllegalGeneration));
    kafka.sync(&ann, 7, &[], 1);
    assert_eq!(kafka.all_synced()[&1], Err(ErrorCode::IllegalGeneration));
    kafka.sync("nobody", 1, &[], 2);
    assert_eq!(kafka.all_synced()[&2], Err(ErrorCode::UnknownMemberId));

    let wrong = SyncBy { protocol: Some("sticky"), ..sync_by(&ann, 1) };
    kafka.groups.sync(kafka.now, GROUP, &wrong, Ticket(3));
    assert_eq!(kafka.all_synced()[&3], Err(ErrorCode::InconsistentGroupProtocol));
    kafka.groups.sync(kafka.now, "unknown group", &sync_by(&ann, 1), Ticket(4));
    assert_eq!(kafka.all_synced()[&4], Err(ErrorCode::UnknownMemberId));
}

#[test]
fn session_timeouts_have_bounds() {
    let kafka = Coordinator::new();
    let check = |session_timeout_ms| {
        kafka
            .groups
            .check_candidate(&Candidate { session_timeout_ms, ..candidate("ann") })
            .map_err(|reject| reject.code)
    };
    for out_of_bounds in [5_999, 1_800_001, -1] {
        assert_eq!(check(out_of_bounds), Err(ErrorCode::InvalidSessionTimeout));
    }
    assert_eq!((check(6_000), check(1_800_000)), (Ok(()), Ok(())));
}

#[test]
fn a_full_group_turns_members_away() {
    let mut kafka = Coordinator::new();
    kafka.settings().max_size = 1;
    kafka.start("ann");

    kafka.join("ben", 2);

    assert_eq!(kafka.refused_join(), JoinRefusal { code: ErrorCode::GroupMaxSizeReached, member_id: String::new() });
    assert_eq!(kafka.state(), State::Stable);
}

#[test]
fn a_silent_member_is_removed_and_the_others_are_told_to_join_again() {
    let mut kafka = Coordinator::new();
    let [ann, ben] = kafka.start_two();
    kafka.advance(9_000);
    kafka.beat_in(&ben, 2).unwrap();

    kafka.advance(1_000);

    assert_eq!(kafka.beat_in(&ben, 2), Err(ErrorCode::RebalanceInProgress));
    assert_eq!(kafka.beat_in(&ann, 2), Err(ErrorCode::UnknownMemberId));
    kafka.rejoin(&ben, 2);
    assert_eq!(kafka.all_joined()[&2].leader, ben);
}

#[test]
fn a_member_is_not_expired_while_its_join_waits() {
    let mut kafka = Coordinator::new();
    let [ann, ben] = kafka.start_two();
    kafka.rejoin(&ann, 1);
    kafka.advance(8_000);
    kafka.beat_in(&ben, 2).unwrap_err();

    kafka.advance(8_000);
    assert_eq!(kafka.view().members.len(), 2, "ann has been silent for 16 s, but her request is here");

    kafka.rejoin(&ben, 2);
    assert_eq!(kafka.all_joined().len(), 2);
    kafka.advance(10_000);
    assert_eq!(kafka.view().members.len(), 0, "now they have been silent");
}

#[test]
fn a_client_that_never_hears_of_its_first_join_is_given_up_after_five_minutes() {
    let mut kafka = Coordinator::new();
    kafka.settings().initial_rebalance_delay = millis(1_000_000);
    kafka.join("ann", 1);

    kafka.advance(299_999);
    assert!(kafka.answers().is_empty());
    kafka.advance(1);

    assert_eq!(kafka.refused_join().code, ErrorCode::UnknownMemberId);
}

#[test]
fn a_member_that_does_not_join_again_in_time_is_left_behind() {
    let mut kafka = Coordinator::new();
    let [ann, ben] = kafka.start_two();
    kafka.rejoin(&ann, 1);
    for _ in 0..12 {
        assert!(kafka.answers().is_empty());
        let _ = kafka.beat_in(&ben, 2);
        kafka.advance(5_000);
    }

    assert_eq!(kafka.all_joined()[&1].generation, 3, "the rebalance timeout of 60 s is over");
    assert_eq!(kafka.beat_in(&ben, 2), Err(ErrorCode::UnknownMemberId), "although it has sent heartbeats");
}

#[test]
fn when_the_leader_does_not_come_back_another_leads() {
    let mut kafka = Coordinator::new();
    let [ann, ben] = kafka.start_two();
    kafka.leave(&ann).unwrap();
    assert_eq!(kafka.beat_in(&ben, 2), Err(ErrorCode::RebalanceInProgress));

    kafka.rejoin(&ben, 2);

    let joined = &kafka.all_joined()[&2];
    assert_eq!((joined.leader.as_str(), joined.members.len()), (ben.as_str(), 1));
}

#[test]
fn members_that_wait_for_a_lost_leader_are_sent_back_to_join() {
    let mut kafka = Coordinator::new();
    let (ann, _) = kafka.start("ann");
    kafka.join("ben", 2);
    kafka.rejoin(&ann, 1);
    let ben = kafka.all_joined()[&2].member_id.clone();
    kafka.sync(&ben, 2, &[], 3);

    kafka.leave(&ann).unwrap();

    assert_eq!(kafka.all_synced()[&3], Err(ErrorCode::RebalanceInProgress));
}

#[test]
fn members_that_never_sync_are_removed_after_the_rebalance_timeout() {
    let mut kafka = Coordinator::new();
    let (ann, _) = kafka.start("ann");
    kafka.join("ben", 2);
    kafka.rejoin(&ann, 1);
    let ben = kafka.all_joined()[&2].member_id.clone();
    kafka.sync(&ann, 2, &[(&ann, "all")], 3);
    assert_eq!(kafka.all_synced().len(), 1);

    for _ in 0..12 {
        kafka.beat_in(&ann, 2).unwrap();
        kafka.beat_in(&ben, 2).unwrap();
        kafka.advance(5_000);
    }

    assert_eq!(kafka.beat_in(&ben, 2), Err(ErrorCode::UnknownMemberId));
    assert_eq!(kafka.beat_in(&ann, 2), Err(ErrorCode::RebalanceInProgress));
}

#[test]
fn the_last_member_leaves_an_empty_group_of_the_next_generation() {
    let mut kafka = Coordinator::new();
    let (ann, _) = kafka.start("ann");

    kafka.leave(&ann).unwrap();

    let view = kafka.view();
    assert_eq!((view.state, view.generation, view.protocol), (State::Empty, 2, None));
    assert_eq!(view.protocol_type.as_deref(), Some("consumer"));
    assert_eq!(kafka.leave(&ann), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn the_initial_delay_lets_members_find_each_other_and_grows_while_they_come() {
    let mut kafka = Coordinator::new();
    kafka.settings().initial_rebalance_delay = millis(3_000);
    kafka.join("ann", 1);
    kafka.advance(2_000);
    kafka.join("ben", 2);
    kafka.advance(1_000);
    assert!(kafka.answers().is_empty(), "ben came within the first three seconds");
    kafka.advance(2_999);
    assert!(kafka.answers().is_empty());
    kafka.advance(1);

    let joined = kafka.all_joined();
    assert_eq!(joined.values().map(|j| j.generation).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn the_initial_delay_never_exceeds_the_rebalance_timeout() {
    let mut kafka = Coordinator::new();
    kafka.settings().initial_rebalance_delay = millis(3_000);
    for ticket in 0..10 {
        assert!(kafka.answers().is_empty());
        kafka.try_join(Candidate { rebalance_timeout_ms: 7_000, ..candidate("ann") }, ticket);
        kafka.advance(1_000);
        if kafka.state() == State::CompletingRebalance {
            break;
        }
    }
    assert_eq!(kafka.now, Time::from_millis(7_000));
    assert_eq!(kafka.all_joined().len(), 7);
}

// ---- static members ----

#[test]
fn a_static_member_that_restarts_keeps_its_assignment_without_a_rebalance() {
    let mut kafka = Coordinator::new();
    let [ann, ben] = kafka.start_two_static();

    kafka.try_join(Candidate { knows_skip_assignment: true, ..static_candidate("ben") }, 5);

    let joined = &kafka.all_joined()[&5];
    assert_eq!((joined.generation, joined.skip_assignment, joined.members.len()), (2, false, 0));
    let new_ben = joined.member_id.clone();
    assert!(new_ben.starts_with("ben-") && new_ben != ben);
    kafka.sync_as(&new_ben, "ben", 6);
    assert_eq!(kafka.all_synced()[&6], Ok("p1".to_owned()));
    assert_eq!(kafka.beat_as(&ann, "ann"), Ok(()));
}

#[test]
fn a_static_leader_that_restarts_is_told_to_keep_the_assignment() {
    let mut kafka = Coordinator::new();
    let [ann, _] = kafka.start_two_static();

    kafka.try_join(Candidate { knows_skip_assignment: true, ..static_candidate("ann") }, 5);
    let joined = kafka.all_joined()[&5].clone();
    assert_eq!((joined.skip_assignment, joined.members.len()), (true, 2));
    assert_eq!(joined.leader, joined.member_id);
    assert_ne!(joined.leader, ann);

    // Before version 9 it must not know that it leads, or it would assign.
    kafka.try_join(static_candidate("ann"), 6);
    let again = &kafka.all_joined()[&6];
    assert_eq!((again.leader.as_str(), again.members.len()), (joined.member_id.as_str(), 0));
}

#[test]
fn the_member_a_restarted_one_replaces_is_fenced() {
    let mut kafka = Coordinator::new();
    let [_, ben] = kafka.start_two_static();
    kafka.try_join(static_candidate("ben"), 5);
    kafka.all_joined();

    assert_eq!(kafka.beat_as(&ben, "ben"), Err(ErrorCode::FencedInstanceId));
    assert_eq!(kafka.beat_in(&ben, 2), Err(ErrorCode::UnknownMemberId));
    assert_eq!(kafka.commit_as(&claim_as(&ben, "ben", 2)), Err(ErrorCode::FencedInstanceId));
    kafka.try_join(Candidate { member_id: &ben, ..static_candidate("ben") }, 6);
    assert_eq!(kafka.refused_join().code, ErrorCode::FencedInstanceId);
}

#[test]
fn a_static_member_replaced_while_it_waits_is_fenced_at_once() {
    let mut kafka = Coordinator::new();
    kafka.settings().initial_rebalance_delay = millis(1_000);
    kafka.try_join(static_candidate("ann"), 1);

    kafka.try_join(static_candidate("ann"), 2);

    assert_eq!(kafka.refused_join().code, ErrorCode::FencedInstanceId);
    kafka.advance(2_000);
    assert_eq!(kafka.all_joined().keys().copied().collect::<Vec<_>>(), [2]);
}

#[test]
fn a_static_member_with_other_protocols_starts_a_rebalance() {
    let mut kafka = Coordinator::new();
    kafka.try_join(Candidate { protocols: protocols(&["range", "sticky"]), ..static_candidate("ann") }, 1);
    let ann = kafka.all_joined()[&1].member_id.clone();
    kafka.sync_as(&ann, "ann", 2);
    kafka.all_synced();

    kafka.try_join(Candidate { protocols: protocols(&["sticky"]), ..static_candidate("ann") }, 3);

    assert_eq!(kafka.all_joined()[&3].generation, 2);
}

#[test]
fn a_late_static_member_keeps_its_place_until_its_session_ends() {
    let mut kafka = Coordinator::new();
    let [ann, ben] = kafka.start_two_static();
    kafka.try_join(Candidate { member_id: &ann, ..static_candidate("ann") }, 1);
    for _ in 0..12 {
        let _ = kafka.beat_as(&ben, "ben");
        kafka.advance(5_000);
    }

    let joined = &kafka.all_joined()[&1];
    assert_eq!((joined.generation, joined.members.len()), (3, 2));
}

#[test]
fn an_administrator_removes_a_static_member_by_its_instance_id() {
    let mut kafka = Coordinator::new();
    let [ann, _] = kafka.start_two_static();
    let leaver = |member_id, instance_id| Leaver { member_id, instance_id };
    let leavers = [leaver("", Some("ben")), leaver("", Some("nobody")), leaver("", None), leaver(&ann, Some("ben"))];

    let results = kafka.groups.leave(kafka.now, GROUP, &leavers).unwrap();

    let unknown = Err(ErrorCode::UnknownMemberId);
    assert_eq!(results, [Ok(()), unknown, unknown, unknown]);
    assert_eq!(kafka.beat_as(&ann, "ann"), Err(ErrorCode::RebalanceInProgress));
    assert_eq!(kafka.groups.leave(kafka.now, "unknown", &leavers[..1]).unwrap(), [unknown]);
}

// ---- offsets ----

#[test]
fn the_commit_of_a_zombie_is_fenced() {
    let mut kafka = Coordinator::new();
    let [ann, ben] = kafka.start_two();
    assert_eq!(kafka.commit_as(&claim(&ben, 2)), Ok(()));
    kafka.advance(5_000);
    let _ = kafka.beat_in(&ann, 2);
    kafka.advance(5_000);

    assert_eq!(kafka.commit_as(&claim(&ben, 2)), Err(ErrorCode::UnknownMemberId), "its session has expired");
    kafka.rejoin(&ann, 1);
    kafka.all_joined();
    assert_eq!(kafka.commit_as(&claim(&ann, 2)), Err(ErrorCode::IllegalGeneration));
    assert_eq!(kafka.commit_as(&claim(&ann, 3)), Err(ErrorCode::RebalanceInProgress));
    assert_eq!(kafka.commit_as(&claim("", -1)), Err(ErrorCode::UnknownMemberId), "the group has members");
}

#[test]
fn a_commit_keeps_its_member_alive() {
    let mut kafka = Coordinator::new();
    let (ann, _) = kafka.start("ann");
    for _ in 0..5 {
        kafka.advance(9_000);
        kafka.commit_as(&claim(&ann, 1)).unwrap();
    }
    assert_eq!(kafka.state(), State::Stable);
}

#[test]
fn a_consumer_that_assigns_itself_commits_to_a_group_without_members() {
    let mut kafka = Coordinator::new();

    kafka.commit("orders", 0, 42);

    let committed = kafka.groups.offset(GROUP, "orders", NO_ID, 0).unwrap();
    assert_eq!((committed.offset, committed.leader_epoch, committed.metadata.as_str()), (42, 5, "kept"));
    assert_eq!(kafka.groups.offset(GROUP, "orders", NO_ID, 1), None);
    assert_eq!(kafka.groups.offset("never seen", "orders", NO_ID, 0), None);
    assert_eq!(kafka.view().protocol_type, None);
    assert_eq!(
        kafka.groups.begin_commit(kafka.now, "new", &claim("x", 3), None, ErrorCode::IllegalGeneration).err(),
        Some(ErrorCode::IllegalGeneration.into())
    );
    assert!(kafka.groups.describe("new").is_err());
}

#[test]
fn metadata_has_a_limit() {
    let mut kafka = Coordinator::new();
    let mut commit = kafka.begin_commit();
    let mut put = |chars: usize| {
        let metadata = "ä".repeat(chars);
        let new = NewOffset { offset: 1, leader_epoch: -1, metadata: Some(&metadata) };
        commit.put("orders", NO_ID, 0, new).map_err(|reject| reject.code)
    };
    assert_eq!(put(4_097), Err(ErrorCode::OffsetMetadataTooLarge));
    assert_eq!(put(4_096), Ok(()));
}

#[test]
fn a_topic_created_again_does_not_inherit_offsets() {
    let mut kafka = Coordinator::new();
    let new = NewOffset { offset: 1, leader_epoch: -1, metadata: None };
    kafka.begin_commit().put("orders", Uuid::from_bytes([1; 16]), 0, new).unwrap();

    assert!(kafka.groups.offset(GROUP, "orders", Uuid::from_bytes([1; 16]), 0).is_some());
    assert!(kafka.groups.offset(GROUP, "orders", NO_ID, 0).is_some(), "asked for by name");
    assert!(kafka.groups.offset(GROUP, "orders", Uuid::from_bytes([2; 16]), 0).is_none());
    kafka.groups.topic_deleted("orders");
    assert_eq!(kafka.groups.offsets(GROUP).count(), 0);
}

#[test]
fn offsets_expire_a_week_after_the_last_member_left() {
    let mut kafka = Coordinator::new();
    let (ann, _) = kafka.start("ann");
    kafka.commit_as(&claim(&ann, 1)).unwrap();
    for _ in 0..8 * 24 * 60 * 12 {
        kafka.advance(5_000);
        kafka.beat(&ann).unwrap();
    }
    kafka.leave(&ann).unwrap();
    kafka.advance(DAY * 7 - 1);
    assert!(kafka.groups.offset(GROUP, "orders", NO_ID, 0).is_some());

    kafka.advance(10 * 60 * 1_000);

    assert!(kafka.groups.offset(GROUP, "orders", NO_ID, 0).is_none());
    assert_eq!(kafka.groups.describe(GROUP).unwrap_err().code, ErrorCode::GroupIdNotFound);
    assert_eq!(kafka.groups.next_deadline(), None, "nothing is left to wait for");
}

#[test]
fn offsets_without_a_group_expire_a_week_after_their_commit() {
    let mut kafka = Coordinator::new();
    kafka.commit("orders", 0, 1);
    kafka.advance(DAY);
    kafka.commit("orders", 1, 1);

    kafka.advance(DAY * 6);

    assert!(kafka.groups.offset(GROUP, "orders", NO_ID, 0).is_none());
    assert!(kafka.groups.offset(GROUP, "orders", NO_ID, 1).is_some());
}

#[test]
fn topics_the_group_reads_keep_their_offsets_and_others_lose_them() {
    let mut kafka = Coordinator::new();
    kafka.settings().offsets_retention = millis(1_000);
    kafka.commit("orders", 0, 1);
    kafka.commit("invoices", 0, 1);
    let subscription = Bytes::from_static(b"\0\x01\0\0\0\x01\0\x06orders\xff\xff\xff\xff\0\0\0\0");
    let protocols = vec![Protocol { name: "range".into(), metadata: subscription }];
    kafka.try_join(Candidate { protocols, session_timeout_ms: 1_800_000, ..candidate("ann") }, 1);
    let ann = kafka.all_joined()[&1].member_id.clone();
    kafka.sync(&ann, 1, &[], 2);
    kafka.all_synced();

    let mut deletion = kafka.groups.begin_offset_delete(GROUP).unwrap();
    assert_eq!(deletion.remove("orders", 0), Err(ErrorCode::GroupSubscribedToTopic.into()));
    assert_eq!(deletion.remove("unknown", 0), Ok(()));
    kafka.advance(10 * 60 * 1_000);

    assert!(kafka.groups.offset(GROUP, "orders", NO_ID, 0).is_some());
    assert!(kafka.groups.offset(GROUP, "invoices", NO_ID, 0).is_none());
}

#[test]
fn offsets_of_an_active_group_that_does_not_consume_cannot_be_deleted() {
    let mut kafka = Coordinator::new();
    kafka.try_join(Candidate { protocol_type: "connect", ..candidate("ann") }, 1);
    kafka.all_joined();

    assert_eq!(kafka.groups.begin_offset_delete(GROUP).err(), Some(ErrorCode::NonEmptyGroup.into()));
    assert_eq!(kafka.groups.begin_offset_delete("unknown").err(), Some(ErrorCode::GroupIdNotFound.into()));
}

// ---- groups as a whole ----

#[test]
fn only_an_empty_group_can_be_deleted() {
    let mut kafka = Coordinator::new();
    let (ann, _) = kafka.start("ann");
    assert_eq!(kafka.groups.delete(GROUP), Err(ErrorCode::NonEmptyGroup.into()));
    kafka.commit_as(&claim(&ann, 1)).unwrap();
    kafka.leave(&ann).unwrap();

    assert_eq!(kafka.groups.delete(GROUP), Ok(()));

    assert_eq!(kafka.groups.offsets(GROUP).count(), 0);
    let reject = kafka.groups.delete(GROUP).unwrap_err();
    assert_eq!(reject.to_string(), "GROUP_ID_NOT_FOUND: there is no group billing");
}

#[test]
fn groups_are_listed_by_state() {
    let mut kafka = Coordinator::new();
    kafka.start("ann");
    let unassigned = claim("", -1);
    kafka.groups.begin_commit(kafka.now, "archive", &unassigned, None, ErrorCode::IllegalGeneration).unwrap();
    let ids = |states: &[&str]| kafka.groups.list(states).map(|g| g.group_id.to_owned()).collect::<Vec<_>>();

    assert_eq!(ids(&[]), ["archive", "billing"]);
    assert_eq!(ids(&[" sTaBle "]), ["billing"]);
    assert_eq!(ids(&["Empty", "Dead"]), ["archive"]);
    assert_eq!(ids(&["nonsense"]), [""; 0]);
}

#[test]
fn members_show_their_subscription_only_while_the_group_is_stable() {
    let mut kafka = Coordinator::new();
    let [ann, _] = kafka.start_two();
    let stable = kafka.view();
    assert_eq!(stable.members[0].metadata, "subscription");
    assert_eq!(stable.members[0].client_host, "/127.0.0.1");
    assert_eq!(stable.members[1].assignment, "p1");

    kafka.rejoin(&ann, 1);

    assert_eq!(kafka.view().members[0].metadata, "");
    assert_eq!(kafka.view().members[1].assignment, "p1", "until the next leader has spoken");
}

#[test]
fn members_survive_the_move_of_their_coordinator() {
    let mut kafka = Coordinator::new();
    let [ann, ben] = kafka.start_two();
    kafka.commit_as(&claim(&ann, 2)).unwrap();
    kafka.rejoin(&ann, 7);
    kafka.advance(5_000);

    kafka.groups.unload(kafka.now, GROUP);
    assert_eq!(kafka.refused_join().code, ErrorCode::NotCoordinator);
    assert_eq!(kafka.beat_in(&ben, 2), Err(ErrorCode::CoordinatorNotAvailable));
    kafka.groups.load(kafka.now, GROUP);

    assert_eq!(kafka.state(), State::Stable, "the rebalance that had begun is forgotten");
    kafka.beat_in(&ann, 2).unwrap();
    kafka.beat_in(&ben, 2).unwrap();
    assert!(kafka.groups.offset(GROUP, "orders", NO_ID, 0).is_some());
    kafka.advance(10_000);
    assert_eq!(kafka.beat_in(&ann, 2), Err(ErrorCode::UnknownMemberId), "sessions began again");
}

#[test]
fn a_generation_nobody_assigned_does_not_survive_its_coordinator() {
    let mut kafka = Coordinator::new();
    kafka.join("ann", 1);
    let ann = kafka.all_joined()[&1].member_id.clone();

    kafka.groups.reload(kafka.now, GROUP);

    assert_eq!((kafka.state(), kafka.view().generation), (State::Empty, 0));
    assert_eq!(kafka.beat(&ann), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn a_client_that_allows_no_time_at_all_does_not_make_the_coordinator_spin() {
    let mut kafka = Coordinator::new();
    let hasty = |id| Candidate { rebalance_timeout_ms: -1, ..static_candidate(id) };
    kafka.settings().initial_rebalance_delay = millis(1_000);
    kafka.try_join(hasty("ann"), 1);
    kafka.try_join(hasty("ben"), 2);
    for _ in 0..20 {
        kafka.advance(1_000);
    }
    assert_eq!(kafka.state(), State::Empty);
}

const DAY: i32 = 24 * 60 * 60 * 1_000;

/// A coordinator and its clock. Members are named by client id; their joins and syncs wait under numbers.
struct Coordinator {
    groups: Groups,
    rng: SmallRng,
    now: Time,
}

impl Coordinator {
    fn new() -> Self {
        Self { groups: Groups::new(Settings::default()), rng: SmallRng::seed_from_u64(7), now: Time::ZERO }
    }

    fn settings(&mut self) -> &mut Settings {
        &mut self.groups.settings
    }

    fn advance(&mut self, ms: i32) {
        self.now = self.now + millis(ms);
        self.groups.expire(self.now);
    }

    fn advance_to_next_deadline(&mut self) {
        self.now = self.groups.next_deadline().expect("something must be going to happen");
        self.groups.expire(self.now);
    }

    fn try_join(&mut self, candidate: Candidate<'_>, ticket: u64) {
        self.groups.join(self.now, &mut self.rng, candidate, Ticket(ticket));
    }

    fn join(&mut self, client: &str, ticket: u64) {
        self.try_join(candidate(client), ticket);
    }

    fn rejoin(&mut self, member_id: &str, ticket: u64) {
        self.try_join(Candidate { member_id, ..candidate("") }, ticket);
    }

    /// Joins and assigns alone.
    fn start(&mut self, client: &str) -> (String, Joined) {
        self.join(client, 1);
        let joined = self.all_joined().remove(&1).unwrap();
        self.sync(&joined.member_id, joined.generation, &[(&joined.member_id, "all")], 1);
        self.all_synced();
        (joined.member_id.clone(), joined)
    }

    /// A stable group of generation 2 whose leader is the first.
    fn start_two(&mut self) -> [String; 2] {
        let (ann, _) = self.start("ann");
        self.join("ben", 2);
        self.rejoin(&ann, 1);
        let ben = self.all_joined()[&2].member_id.clone();
        self.sync(&ben, 2, &[], 2);
        self.sync(&ann, 2, &[(&ann, "p0"), (&ben, "p1")], 1);
        self.all_synced();
        [ann, ben]
    }

    fn start_two_static(&mut self) -> [String; 2] {
        self.try_join(static_candidate("ann"), 1);
        let ann = self.all_joined()[&1].member_id.clone();
        self.try_join(static_candidate("ben"), 2);
        self.try_join(Candidate { member_id: &ann, ..static_candidate("ann") }, 1);
        let ben = self.all_joined()[&2].member_id.clone();
        self.sync_as(&ben, "ben", 2);
        self.sync(&ann, 2, &[(&ann, "p0"), (&ben, "p1")], 1);
        self.all_synced();
        [ann, ben]
    }

    fn sync(&mut self, member: &str, generation: i32, assignments: &[(&str, &str)], ticket: u64) {
        let assignments =
            assignments.iter().map(|(id, a)| ((*id).to_owned(), Bytes::copy_from_slice(a.as_bytes()))).collect();
        let by = SyncBy { assignments, ..sync_by(member, generation) };
        self.groups.sync(self.now, GROUP, &by, Ticket(ticket));
    }

    fn sync_as(&mut self, member_id: &str, instance: &str, ticket: u64) {
        let generation = self.view().generation;
        let by = SyncBy { claim: claim_as(member_id, instance, generation), ..sync_by(member_id, generation) };
        self.groups.sync(self.now, GROUP, &by, Ticket(ticket));
    }

    fn beat(&mut self, member_id: &str) -> Result<(), ErrorCode> {
        self.beat_in(member_id, 1)
    }

    fn beat_in(&mut self, member_id: &str, generation: i32) -> Result<(), ErrorCode> {
        self.groups.heartbeat(self.now, GROUP, &claim(member_id, generation)).map_err(|reject| reject.code)
    }

    fn beat_as(&mut self, member_id: &str, instance: &str) -> Result<(), ErrorCode> {
        self.groups.heartbeat(self.now, GROUP, &claim_as(member_id, instance, 2)).map_err(|reject| reject.code)
    }

    fn leave(&mut self, member_id: &str) -> Result<(), ErrorCode> {
        self.groups.leave(self.now, GROUP, &[Leaver { member_id, instance_id: None }]).unwrap().remove(0)
    }

    fn begin_commit(&mut self) -> Commit<'_> {
        self.groups.begin_commit(self.now, GROUP, &claim("", -1), None, ErrorCode::IllegalGeneration).unwrap()
    }

    fn commit(&mut self, topic: &str, partition: i32, offset: i64) {
        let new = NewOffset { offset, leader_epoch: 5, metadata: Some("kept") };
        self.begin_commit().put(topic, NO_ID, partition, new).unwrap();
    }

    fn commit_as(&mut self, claim: &Claim<'_>) -> Result<(), ErrorCode> {
        let new = NewOffset { offset: 1, leader_epoch: -1, metadata: None };
        self.groups
            .begin_commit(self.now, GROUP, claim, None, ErrorCode::IllegalGeneration)
            .and_then(|mut commit| commit.put("orders", NO_ID, 0, new))
            .map_err(|reject| reject.code)
    }

    fn view(&self) -> GroupView {
        self.groups.describe(GROUP).unwrap()
    }

    fn state(&self) -> State {
        self.view().state
    }

    fn answers(&mut self) -> Vec<(Ticket, GroupAnswer)> {
        self.groups.take_answers()
    }

    /// The joins answered since the last look, all of which must have succeeded.
    fn all_joined(&mut self) -> BTreeMap<u64, Joined> {
        let joined = self.answers().into_iter().map(|answer| match answer {
            (ticket, GroupAnswer::Join(Ok(joined))) => (ticket.0, joined),
            other => panic!("not a join that succeeded: {other:?}"),
        });
        joined.collect()
    }

    fn refused_join(&mut self) -> JoinRefusal {
        match self.answers().pop() {
            Some((_, GroupAnswer::Join(Err(refusal)))) => refusal,
            other => panic!("not a refused join: {other:?}"),
        }
    }

    fn all_synced(&mut self) -> BTreeMap<u64, Result<String, ErrorCode>> {
        let synced = self.answers().into_iter().map(|answer| match answer {
            (ticket, GroupAnswer::Sync(result)) => {
                (ticket.0, result.map(|s| String::from_utf8(s.assignment.to_vec()).unwrap()))
            }
            other => panic!("not a sync: {other:?}"),
        });
        synced.collect()
    }
}

fn candidate(client_id: &str) -> Candidate<'_> {
    Candidate {
        group: GROUP,
        member_id: "",
        instance_id: None,
        client_id,
        client_host: "/127.0.0.1",
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer",
        protocols: range("subscription"),
        knows_member_id_required: false,
        knows_skip_assignment: false,
    }
}

fn static_candidate(name: &str) -> Candidate<'_> {
    Candidate { instance_id: Some(name), ..candidate(name) }
}

fn claim(member_id: &str, generation: i32) -> Claim<'_> {
    Claim { member_id, instance_id: None, generation }
}

fn claim_as<'a>(member_id: &'a str, instance: &'a str, generation: i32) -> Claim<'a> {
    Claim { instance_id: Some(instance), ..claim(member_id, generation) }
}

fn sync_by(member_id: &str, generation: i32) -> SyncBy<'_> {
    SyncBy { claim: claim(member_id, generation), protocol_type: None, protocol: None, assignments: Vec::new() }
}

fn range(metadata: &'static str) -> Vec<Protocol> {
    vec![Protocol { name: "range".to_owned(), metadata: Bytes::from_static(metadata.as_bytes()) }]
}

fn protocols(names: &[&str]) -> Vec<Protocol> {
    names.iter().map(|name| Protocol { name: (*name).to_owned(), metadata: Bytes::new() }).collect()
}
