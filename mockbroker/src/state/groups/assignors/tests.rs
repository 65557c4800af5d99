use super::*;

fn topic(number: u8) -> Uuid {
    Uuid::from_bytes([number; 16])
}

fn member(id: &str, topics: &[u8]) -> Candidate {
    Candidate { id: id.into(), topics: topics.iter().copied().map(topic).collect(), ..Candidate::default() }
}

fn with(mut member: Candidate, number: u8, partitions: &[i32]) -> Candidate {
    member.before.insert(topic(number), partitions.iter().copied().collect());
    member
}

fn ask(assignor: Assignor, members: Vec<Candidate>, sizes: &[(u8, i32)]) -> Shares {
    let first = members[0].topics.clone();
    let homogeneous = members.iter().all(|member| member.topics == first);
    let sizes = sizes.iter().map(|(number, size)| (topic(*number), *size)).collect();
    assignor.assign(Question::new(members, homogeneous, sizes))
}

fn share(shares: &Shares, id: &str, number: u8) -> Vec<i32> {
    shares[id].get(&topic(number)).map(|partitions| partitions.iter().copied().collect()).unwrap_or_default()
}

#[test]
fn a_range_goes_to_static_members_first_and_the_first_get_one_more() {
    let ann = Candidate { instance_id: Some("z".into()), ..member("ann", &[1]) };
    let shares = ask(Assignor::Range, vec![member("aaa", &[1]), ann], &[(1, 3)]);
    assert_eq!((share(&shares, "ann", 1), share(&shares, "aaa", 1)), (vec![0, 1], vec![2]));
}

#[test]
fn ranges_of_topics_of_equal_size_match_and_strangers_to_a_topic_get_none_of_it() {
    let shares =
        ask(Assignor::Range, vec![member("a", &[1, 2]), member("b", &[1, 2]), member("c", &[2])], &[(1, 2), (2, 3)]);
    assert_eq!(["a", "b", "c"].map(|id| share(&shares, id, 1)), [vec![0], vec![1], vec![]]);
    assert_eq!(["a", "b", "c"].map(|id| share(&shares, id, 2)), [vec![0], vec![1], vec![2]]);
}

#[test]
fn uniform_shares_stay_where_they_are_up_to_the_quota() {
    let shares = ask(Assignor::Uniform, vec![with(member("a", &[1]), 1, &[0, 1, 2, 3]), member("b", &[1])], &[(1, 4)]);
    assert_eq!((share(&shares, "a", 1), share(&shares, "b", 1)), (vec![0, 1], vec![2, 3]));
}

#[test]
fn the_extra_partition_stays_with_who_has_it() {
    let members = vec![with(member("a", &[1]), 1, &[0]), with(member("b", &[1]), 1, &[1, 2])];
    let shares = ask(Assignor::Uniform, members, &[(1, 3)]);
    assert_eq!((share(&shares, "a", 1), share(&shares, "b", 1)), (vec![0], vec![1, 2]));
}

#[test]
fn members_are_walked_in_javas_order() {
    // In a table of 16 slots 'a' (97) and 'q' (113) share slot 1, and 'b' (98) comes after them in slot 2.
    let shares = ask(Assignor::Uniform, vec![member("b", &[1]), member("q", &[1]), member("a", &[1])], &[(1, 3)]);
    assert_eq!(["a", "q", "b"].map(|id| share(&shares, id, 1)), [vec![0], vec![1], vec![2]]);
}

#[test]
fn differing_subscriptions_are_evened_out() {
    let members = vec![with(member("a", &[1, 2]), 1, &[0, 1, 2, 3]), member("b", &[1]), member("c", &[2])];
    let shares = ask(Assignor::Uniform, members, &[(1, 4), (2, 2)]);
    let sizes = ["a", "b", "c"].map(|id| shares[id].values().map(BTreeSet::len).sum::<usize>());
    assert_eq!(sizes, [2, 2, 2]);
    assert_eq!((share(&shares, "a", 1), share(&shares, "b", 1)), (vec![0, 1], vec![2, 3]));
    assert_eq!(share(&shares, "c", 2), [0, 1]);
}

#[test]
fn nobody_gets_partitions_of_a_topic_that_is_gone() {
    let shares = ask(Assignor::Uniform, vec![with(member("a", &[2]), 1, &[0]), member("b", &[2])], &[(2, 2)]);
    assert!(share(&shares, "a", 1).is_empty());
    assert_eq!(shares["a"].len() + shares["b"].len(), 2);
}
