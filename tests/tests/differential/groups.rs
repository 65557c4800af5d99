//! Classic groups: joining, agreeing, beating, leaving, and what admins see of it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, ListGroupsRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;
use tests::differential::{MAIN, Stage};

use crate::verbs::{subscription, text};

/// A join of a consumer that knows `protocols`.
fn join(group: &GroupId, member: &StrBytes, protocols: &[&str]) -> JoinGroupRequest {
    let protocol = |name: &&str| {
        JoinGroupRequestProtocol::default().with_name(text(name)).with_metadata(subscription("orders", name))
    };
    JoinGroupRequest::default()
        .with_group_id(group.clone())
        .with_session_timeout_ms(30_000)
        .with_rebalance_timeout_ms(30_000)
        .with_member_id(member.clone())
        .with_protocol_type(text("consumer"))
        .with_protocols(protocols.iter().map(protocol).collect())
}

pub(crate) fn sync(group: &GroupId, joined: &JoinGroupResponse, shares: &[(&StrBytes, &str)]) -> SyncGroupRequest {
    let share = |(member, share): &(&StrBytes, &str)| {
        SyncGroupRequestAssignment::default()
            .with_member_id((*member).clone())
            .with_assignment(Bytes::copy_from_slice(share.as_bytes()))
    };
    SyncGroupRequest::default()
        .with_group_id(group.clone())
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone())
        .with_assignments(shares.iter().map(share).collect())
}

pub(crate) fn beat(group: &GroupId, generation: i32, member: &StrBytes) -> HeartbeatRequest {
    HeartbeatRequest::default()
        .with_group_id(group.clone())
        .with_generation_id(generation)
        .with_member_id(member.clone())
}

pub(crate) fn leave(group: &GroupId, members: &[&StrBytes]) -> LeaveGroupRequest {
    let members = members.iter().map(|member| MemberIdentity::default().with_member_id((*member).clone())).collect();
    LeaveGroupRequest::default().with_group_id(group.clone()).with_members(members)
}

pub(crate) fn describe(groups: &[&GroupId]) -> DescribeGroupsRequest {
    DescribeGroupsRequest::default().with_groups(groups.iter().map(|group| (*group).clone()).collect())
}

/// A group of one member that has joined and synced, unrecorded.
fn stable_alone(stage: &mut Stage, group: &GroupId) -> JoinGroupResponse {
    let nobody = text("");
    let joined = stage.quietly(3, &join(group, &nobody, &["range"])).unwrap_or_default();
    stage.quietly(2, &sync(group, &joined, &[(&joined.member_id, "all")]));
    joined
}

pub(crate) fn join_alone(stage: &mut Stage) {
    for version in 0..=9 {
        let group = stage.group(&format!("by-version-{version}"));
        let request = join(&group, &text(""), &["range", "sticky"]);
        let mut joined = stage.ask(&format!("join, version {version}"), version, &request);
        if joined.error_code == 79 {
            let again = join(&group, &joined.member_id, &["range", "sticky"]);
            joined = stage.ask(&format!("join with the id given, version {version}"), version, &again);
        }
        let share = joined.member_id.clone();
        let mut request = sync(&group, &joined, &[(&share, "all of it")]);
        if version >= 7 {
            request = request.with_protocol_type(Some(text("consumer"))).with_protocol_name(Some(text("range")));
        }
        let sync_version = (version - 2).clamp(0, 5);
        stage.ask(&format!("sync, version {sync_version} after {version}"), sync_version, &request);
        let beat_version = version.min(4);
        let request = beat(&group, joined.generation_id, &joined.member_id);
        stage.ask(&format!("heartbeat, version {beat_version} after {version}"), beat_version, &request);
        stage.ask(&format!("described, after {version}"), 5, &describe(&[&group]));
        let again = join(&group, &joined.member_id, &["range", "sticky"]);
        let rejoined = stage.ask(&format!("join again unchanged, version {version}"), version, &again);
        stage.ask(
            &format!("sync again, after {version}"),
            sync_version,
            &sync(&group, &rejoined, &[(&share, "all of it")]),
        );
    }
}

/// Awaits that a member is told to rejoin.
fn until_told_to_rejoin(stage: &mut Stage, group: &GroupId, generation: i32, member: &StrBytes) {
    stage.until("a member is told to rejoin", |stage| {
        stage.quietly(3, &beat(group, generation, member)).is_some_and(|answer| answer.error_code == 27)
    });
}

pub(crate) fn two_eager_members(stage: &mut Stage) {
    let group = stage.group("group");
    let nobody = text("");
    let anna = stage.connect("anna");
    let bert = stage.connect("bert");
    let a = stage.ask_on(anna, "anna gets her id", 5, &join(&group, &nobody, &["range", "sticky"])).member_id;
    let joined = stage.ask_on(anna, "anna joins", 5, &join(&group, &a, &["range", "sticky"]));
    stage.ask_on(anna, "anna syncs", 3, &sync(&group, &joined, &[(&a, "everything")]));
    let b = stage.ask_on(bert, "bert gets his id", 5, &join(&group, &nobody, &["sticky", "range"])).member_id;
    let waiting = stage.send(bert, 5, &join(&group, &b, &["sticky", "range"]));
    until_told_to_rejoin(stage, &group, 1, &a);
    stage.ask_on(MAIN, "described while joining", 5, &describe(&[&group]));
    stage.ask_on(anna, "anna's heartbeat while joining", 3, &beat(&group, 1, &a));
    let first = stage.ask_on(anna, "anna rejoins", 5, &join(&group, &a, &["range", "sticky"]));
    let second = stage.collect("bert has joined", waiting);
    stage.ask_on(MAIN, "described while syncing", 5, &describe(&[&group]));
    let waiting = stage.send(bert, 3, &sync(&group, &second, &[]));
    stage.ask_on(anna, "anna's heartbeat while syncing", 3, &beat(&group, first.generation_id, &a));
    stage.ask_on(anna, "anna divides", 3, &sync(&group, &first, &[(&a, "half"), (&b, "other half")]));
    stage.collect("bert gets his share", waiting);
    stage.ask_on(bert, "bert's heartbeat", 3, &beat(&group, second.generation_id, &b));
    stage.ask_on(MAIN, "described when stable", 5, &describe(&[&group]));
    stage.ask_on(bert, "bert syncs again", 3, &sync(&group, &second, &[]));
    stage.ask_on(bert, "bert joins again unchanged", 5, &join(&group, &b, &["sticky", "range"]));
    let old = sync(&group, &joined, &[(&a, "everything")]);
    stage.ask_on(anna, "a sync of the last generation", 3, &old);

    let waiting = stage.send(anna, 5, &join(&group, &a, &["range"]));
    until_told_to_rejoin(stage, &group, second.generation_id, &b);
    let second = stage.ask_on(bert, "bert rejoins after anna knows less", 5, &join(&group, &b, &["sticky", "range"]));
    let first = stage.collect("anna knows less", waiting);
    let waiting = stage.send(bert, 3, &sync(&group, &second, &[]));
    stage.ask_on(anna, "anna divides anew", 3, &sync(&group, &first, &[(&a, "half"), (&b, "other half")]));
    stage.collect("bert gets his new share", waiting);

    let waiting = stage.send(bert, 5, &join(&group, &b, &["sticky"]));
    stage.collect("bert has no protocol in common", waiting);
    stage.ask_on(anna, "anna leaves", 3, &leave(&group, &[&a]));
    until_told_to_rejoin(stage, &group, second.generation_id, &b);
    let alone = stage.ask_on(bert, "bert joins alone and leads", 5, &join(&group, &b, &["sticky"]));
    stage.ask_on(bert, "bert takes all", 3, &sync(&group, &alone, &[(&b, "all")]));
    stage.ask_on(bert, "bert leaves", 3, &leave(&group, &[&b]));
    stage.ask_on(MAIN, "described when empty", 5, &describe(&[&group]));
}

pub(crate) fn static_members(stage: &mut Stage) {
    let group = stage.group("group");
    let nobody = text("");
    let named = |member: &StrBytes, instance: &str| {
        join(&group, member, &["range"]).with_group_instance_id(Some(text(instance)))
    };
    let joined = stage.ask("a static member joins at once", 5, &named(&nobody, "one"));
    let first = joined.member_id.clone();
    let sync_as = |joined: &JoinGroupResponse, instance: &str| {
        sync(&group, joined, &[(&joined.member_id, "all")]).with_group_instance_id(Some(text(instance)))
    };
    stage.ask("it syncs", 3, &sync_as(&joined, "one"));
    let beat_as = |member: &StrBytes, generation, instance: &str| {
        beat(&group, generation, member).with_group_instance_id(Some(text(instance)))
    };
    stage.ask("it beats", 3, &beat_as(&first, joined.generation_id, "one"));
    stage.ask("it beats without its name", 3, &beat(&group, joined.generation_id, &first));
    stage.ask("described", 5, &describe(&[&group]));
    let back = stage.ask("it comes back after a restart, version 5", 5, &named(&nobody, "one"));
    stage.note("with a new id", back.member_id != first);
    stage.ask("the replaced one's heartbeat", 3, &beat_as(&first, back.generation_id, "one"));
    stage.ask("the replaced one's sync", 3, &sync_as(&joined, "one"));
    stage.ask("the replaced one's join", 5, &named(&first, "one"));
    stage.ask("the returned one syncs", 3, &sync_as(&back, "one"));
    stage.ask("the returned one beats", 3, &beat_as(&back.member_id, back.generation_id, "one"));
    let again = stage.ask("it comes back once more, version 9", 9, &named(&nobody, "one"));
    let request =
        sync_as(&again, "one").with_protocol_type(Some(text("consumer"))).with_protocol_name(Some(text("range")));
    stage.ask("it syncs, version 5", 5, &request);
    stage.ask("an unknown name", 3, &beat_as(&again.member_id, again.generation_id, "stranger"));
    stage.ask("an unknown name and id", 3, &beat_as(&text("nobody"), again.generation_id, "stranger"));
    let by_name = |member: &StrBytes, instance: &str| {
        let member =
            MemberIdentity::default().with_member_id(member.clone()).with_group_instance_id(Some(text(instance)));
        LeaveGroupRequest::default().with_group_id(group.clone()).with_members(vec![member])
    };
    stage.ask("an unknown name leaves", 4, &by_name(&nobody, "stranger"));
    stage.ask("the replaced one leaves", 4, &by_name(&first, "one"));
    stage.ask("it is removed by name", 5, &by_name(&nobody, "one"));
    stage.ask("described when empty", 5, &describe(&[&group]));
    let changed = named(&nobody, "two");
    let joined = stage.ask("another static member", 7, &changed);
    stage.ask("it syncs in turn", 3, &sync_as(&joined, "two"));
    let mut other = named(&nobody, "two");
    other.protocols[0].metadata = subscription("orders", "changed");
    stage.ask("it comes back changed", 7, &other);
}

pub(crate) fn group_refusals(stage: &mut Stage) {
    let group = stage.group("group");
    let nobody = text("");
    let stranger = text("nobody-knows-me");
    let plain = join(&group, &nobody, &["range"]);
    for version in [0, 3, 5, 9] {
        let label = |what: &str| format!("{what}, version {version}");
        stage.ask(&label("a session too short"), version, &plain.clone().with_session_timeout_ms(10));
        stage.ask(&label("a session too long"), version, &plain.clone().with_session_timeout_ms(99_999_999));
        stage.ask(&label("an empty group"), version, &plain.clone().with_group_id(text("").into()));
        stage.ask(&label("no protocols"), version, &join(&group, &nobody, &[]));
        stage.ask(&label("no protocol type"), version, &plain.clone().with_protocol_type(text("")));
        stage.ask(&label("an unknown member of an unknown group"), version, &join(&group, &stranger, &["range"]));
    }
    for version in [0, 3, 5] {
        let request = SyncGroupRequest::default().with_group_id(group.clone()).with_member_id(stranger.clone());
        let request = match version {
            5 => request.with_protocol_type(Some(text("consumer"))).with_protocol_name(Some(text("range"))),
            _ => request,
        };
        stage.ask(&format!("a sync in an unknown group, version {version}"), version, &request);
    }
    let joined = stable_alone(stage, &group);
    let me = joined.member_id.clone();
    stage.ask("an unknown member joins", 5, &join(&group, &stranger, &["range"]));
    let other_type = join(&group, &nobody, &["range"]).with_protocol_type(text("connect"));
    stage.ask("another protocol type", 3, &other_type);
    stage.ask("no protocol in common", 3, &join(&group, &nobody, &["sticky"]));
    stage.ask(
        "an unknown member syncs",
        3,
        &sync(&group, &JoinGroupResponse::default().with_member_id(stranger.clone()), &[]),
    );
    let mut wrong = sync(&group, &joined, &[]);
    wrong.generation_id += 5;
    stage.ask("a wrong generation syncs", 3, &wrong);
    let named = |kind: Option<&str>, name: Option<&str>| {
        sync(&group, &joined, &[]).with_protocol_type(kind.map(text)).with_protocol_name(name.map(text))
    };
    stage.ask("a sync with another type", 5, &named(Some("connect"), Some("range")));
    stage.ask("a sync with another protocol", 5, &named(Some("consumer"), Some("sticky")));
    stage.ask("a sync without either", 5, &named(None, None));
    stage.ask("a sync in an empty group", 3, &sync(&text("").into(), &joined, &[]));
    stage.ask("still stable", 3, &beat(&group, joined.generation_id, &me));
}

pub(crate) fn heartbeats(stage: &mut Stage) {
    let group = stage.group("group");
    let stranger = text("nobody-knows-me");
    for version in [0, 2, 4] {
        stage.ask(&format!("an unknown group, version {version}"), version, &beat(&group, 1, &stranger));
    }
    let joined = stable_alone(stage, &group);
    for version in 0..=4 {
        let label = |what: &str| format!("{what}, version {version}");
        stage.ask(&label("all is well"), version, &beat(&group, joined.generation_id, &joined.member_id));
        stage.ask(&label("an older generation"), version, &beat(&group, joined.generation_id - 1, &joined.member_id));
        stage.ask(&label("a later generation"), version, &beat(&group, joined.generation_id + 1, &joined.member_id));
        stage.ask(&label("no generation"), version, &beat(&group, -1, &joined.member_id));
        stage.ask(&label("an unknown member"), version, &beat(&group, joined.generation_id, &stranger));
        stage.ask(&label("no member"), version, &beat(&group, joined.generation_id, &text("")));
        stage.ask(&label("an empty group"), version, &beat(&text("").into(), joined.generation_id, &joined.member_id));
    }
    let brief = stage.group("brief");
    let request = join(&brief, &text(""), &["range"]).with_session_timeout_ms(6_000);
    let joined = stage.quietly(3, &request).unwrap_or_default();
    stage.quietly(2, &sync(&brief, &joined, &[(&joined.member_id, "all")]));
    let since = Instant::now();
    stage.until("the session ends", |stage| {
        let described = stage.quietly(5, &describe(&[&brief])).unwrap_or_default();
        described.groups.first().is_some_and(|group| group.group_state.as_str() == "Empty")
    });
    stage.note("not before its time", since.elapsed() > Duration::from_millis(5_500));
    stage.ask("a heartbeat after the session's end", 4, &beat(&brief, joined.generation_id, &joined.member_id));
    stage.ask("described after the session's end", 5, &describe(&[&brief]));
}

pub(crate) fn leave_group(stage: &mut Stage) {
    let group = stage.group("group");
    let stranger = text("nobody-knows-me");
    let one = |group: &GroupId, member: &StrBytes| {
        LeaveGroupRequest::default().with_group_id(group.clone()).with_member_id(member.clone())
    };
    for version in 0..=2 {
        stage.ask(&format!("an unknown group, version {version}"), version, &one(&group, &stranger));
    }
    for version in 3..=5 {
        stage.ask(&format!("an unknown group, version {version}"), version, &leave(&group, &[&stranger]));
    }
    for version in 0..=2 {
        let joined = stable_alone(stage, &group);
        stage.ask(&format!("an unknown member, version {version}"), version, &one(&group, &stranger));
        stage.ask(&format!("the only member, version {version}"), version, &one(&group, &joined.member_id));
        stage.ask(&format!("once more, version {version}"), version, &one(&group, &joined.member_id));
    }
    for version in 3..=5 {
        let joined = stable_alone(stage, &group);
        let both = leave(&group, &[&joined.member_id, &stranger]);
        stage.ask(&format!("the only member and a stranger, version {version}"), version, &both);
        stage.ask(&format!("both once more, version {version}"), version, &both);
    }
    stage.ask("nobody", 4, &leave(&group, &[]));
    stage.ask("an empty group", 4, &leave(&text("").into(), &[&stranger]));
    stage.ask("described at last", 5, &describe(&[&group]));
}

pub(crate) fn describe_groups(stage: &mut Stage) {
    let group = stage.group("group");
    let unknown = stage.group("unknown");
    let joined = stable_alone(stage, &group);
    for version in 0..=6 {
        stage.ask(&format!("a stable group, version {version}"), version, &describe(&[&group]));
        stage.ask(&format!("an unknown group, version {version}"), version, &describe(&[&unknown]));
    }
    stage.ask("both", 6, &describe(&[&group, &unknown]));
    stage.ask("one twice", 6, &describe(&[&group, &group]));
    stage.ask("none", 5, &describe(&[]));
    let operations = describe(&[&group]).with_include_authorized_operations(true);
    stage.ask("authorised operations", 5, &operations);
    stage.ask("the member leaves", 3, &leave(&group, &[&joined.member_id]));
    stage.ask("an empty group", 6, &describe(&[&group]));
}

pub(crate) fn list_groups(stage: &mut Stage) {
    let stable = stage.group("stable");
    let empty = stage.group("empty");
    let other = stage.group("connect");
    stable_alone(stage, &stable);
    let left = stable_alone(stage, &empty);
    stage.quietly(3, &leave(&empty, &[&left.member_id]));
    let connect = join(&other, &text(""), &["default"]).with_protocol_type(text("connect"));
    stage.quietly(3, &connect);
    for version in 0..=5 {
        stage.ask_for_mine(&format!("version {version}"), version, &ListGroupsRequest::default());
    }
    for states in
        [&["Stable"][..], &["Empty"], &["Stable", "Empty"], &["stable"], &["NoSuchState"], &["CompletingRebalance"]]
    {
        let request = ListGroupsRequest::default().with_states_filter(states.iter().map(|state| text(state)).collect());
        stage.ask_for_mine(&format!("in state {states:?}"), 4, &request);
    }
    for types in [&["classic"][..], &["Classic"], &["consumer"], &["consumer", "classic"], &["nosuchtype"]] {
        let request = ListGroupsRequest::default().with_types_filter(types.iter().map(|kind| text(kind)).collect());
        stage.ask_for_mine(&format!("of type {types:?}"), 5, &request);
    }
}

pub(crate) fn delete_groups(stage: &mut Stage) {
    let delete = |groups: &[&GroupId]| {
        DeleteGroupsRequest::default().with_groups_names(groups.iter().map(|group| (*group).clone()).collect())
    };
    for version in 0..=2 {
        let group = stage.group(&format!("by-version-{version}"));
        let joined = stable_alone(stage, &group);
        stage.ask(&format!("with a member, version {version}"), version, &delete(&[&group]));
        stage.quietly(3, &leave(&group, &[&joined.member_id]));
        stage.ask(&format!("empty, version {version}"), version, &delete(&[&group]));
        stage.ask(&format!("once more, version {version}"), version, &delete(&[&group]));
        stage.ask(&format!("described, after version {version}"), 6, &describe(&[&group]));
    }
    stage.ask("an unknown group", 2, &delete(&[&stage.group("unknown")]));
    stage.ask("none", 2, &delete(&[]));
    let twice = stage.group("twice");
    stage.ask("the same twice", 2, &delete(&[&twice, &twice]));
}
