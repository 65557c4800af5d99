//! Puts an error code into the field an API has for it.
//!
//! Responses differ in where errors go: for all of it, per topic, per partition, or in several places. A field is
//! found by its name, `error_code`; what it belongs to by the identifying fields of the structs around it.

use super::walk::{Scalar, ScalarMut, Visitor, VisitorMut, Walk};
use super::{Response, Str, Uuid};

/// Which of a response's error codes are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// The response's own; every one there is when it has none of its own (in that version).
    Whole,
    /// Every one there is.
    Every,
    /// Those of a topic, and of every partition of it in the response.
    Topic(Topic<'a>),
    /// Those of one partition.
    Partition(Topic<'a>, i32),
    /// Those of what is named so, and of everything in it: a group, a transactional id, a config resource, a member.
    Named(&'a str),
}

/// A topic, as tests know it: by its name, and by its id for the versions in which that stands for the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topic<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its id; zero when it is not known.
    pub id: Uuid,
}

/// Sets the targeted error codes of `response` as it will be encoded in `version`; says how many there were.
pub fn set_error_code(response: &mut Response, version: i16, target: Target<'_>, code: i16) -> usize {
    let mut survey = Survey::default();
    response.walk(version, &mut survey);
    let chosen = survey.choose(target);
    let mut setter = Setter { chosen, code, open: Vec::new(), begun: 0, is_error_code: false, set: 0 };
    response.walk_mut(version, &mut setter);
    setter.set
}

/// The fields that say which topic a struct is about, whichever comes first in it.
const TOPIC_NAMES: &[&str] = &["name", "topic", "topic_name"];
const PARTITION_INDICES: &[&str] = &["partition_index", "index", "partition", "partition_id"];
const OTHER_NAMES: &[&str] = &["group_id", "key", "transactional_id", "resource_name", "member_id", "user"];

/// What error codes are called; the second name is AddPartitionsToTxn's.
const ERROR_CODES: &[&str] = &["error_code", "partition_error_code"];

/// First pass: what every struct says about itself. An error code often comes before the name it belongs to, so
/// nothing can be decided while walking.
#[derive(Default)]
struct Survey {
    /// In the order in which they begin.
    structs: Vec<Identity>,
    /// Those that have not ended, by their place in `structs`.
    open: Vec<usize>,
    next: &'static str,
    /// How many arrays have begun since the innermost struct did: what is in them is not about the struct.
    arrays: Vec<usize>,
}

#[derive(Default)]
struct Identity {
    parent: Option<usize>,
    topic_name: Option<Str>,
    topic_id: Option<Uuid>,
    other_names: Vec<Str>,
    partition: Option<i32>,
    has_error_code: bool,
}

impl Visitor for Survey {
    fn begin_struct(&mut self, _: &'static str) {
        let parent = self.open.last().copied();
        self.open.push(self.structs.len());
        self.arrays.push(0);
        self.structs.push(Identity { parent, ..Identity::default() });
    }

    fn field(&mut self, name: &'static str) {
        self.next = name;
    }

    fn end_struct(&mut self) {
        self.open.pop();
        self.arrays.pop();
    }

    fn begin_array(&mut self, _: usize) {
        if let Some(arrays) = self.arrays.last_mut() {
            *arrays += 1;
        }
    }

    fn end_array(&mut self) {
        if let Some(arrays) = self.arrays.last_mut() {
            *arrays -= 1;
        }
    }

    fn scalar(&mut self, value: Scalar<'_>) {
        let (Some(&place), Some(0)) = (self.open.last(), self.arrays.last()) else { return };
        let identity = &mut self.structs[place];
        match value {
            Scalar::Str(text) if TOPIC_NAMES.contains(&self.next) => identity.topic_name = Some(text.clone()),
            Scalar::Str(text) if OTHER_NAMES.contains(&self.next) => identity.other_names.push(text.clone()),
            Scalar::Uuid(id) if self.next == "topic_id" => identity.topic_id = Some(id),
            Scalar::I32(index) if PARTITION_INDICES.contains(&self.next) => identity.partition = Some(index),
            Scalar::I16(_) if ERROR_CODES.contains(&self.next) => identity.has_error_code = true,
            _ => {}
        }
    }
}

impl Survey {
    /// For every struct, whether its error code is to be set.
    fn choose(&self, target: Target<'_>) -> Vec<bool> {
        let root_has_one = self.structs.first().is_some_and(|root| root.has_error_code);
        let chosen = |place| match target {
            Target::Every => true,
            Target::Whole => place == 0 || !root_has_one,
            Target::Topic(topic) => self.within(place).any(|identity| identity.is_topic(topic)),
            Target::Partition(topic, index) => {
                self.structs[place].partition == Some(index)
                    && self.within(place).any(|identity| identity.is_topic(topic))
            }
            Target::Named(name) => self.within(place).any(|identity| identity.is_named(name)),
        };
        (0..self.structs.len()).map(chosen).collect()
    }

    /// A struct and those around it, innermost first.
    fn within(&self, place: usize) -> impl Iterator<Item = &Identity> {
        std::iter::successors(self.structs.get(place), |identity| identity.parent.map(|parent| &self.structs[parent]))
    }
}

impl Identity {
    fn is_topic(&self, topic: Topic<'_>) -> bool {
        self.topic_name.as_ref().is_some_and(|name| name == topic.name)
            || self.topic_id.is_some_and(|id| !id.is_zero() && id == topic.id)
    }

    fn is_named(&self, name: &str) -> bool {
        self.topic_name.iter().chain(&self.other_names).any(|own| own == name)
    }
}

/// Second pass: the same structs in the same order.
struct Setter {
    chosen: Vec<bool>,
    code: i16,
    open: Vec<usize>,
    begun: usize,
    is_error_code: bool,
    set: usize,
}

impl VisitorMut for Setter {
    fn begin_struct(&mut self, _: &'static str) {
        self.open.push(self.begun);
        self.begun += 1;
    }

    fn field(&mut self, name: &'static str) {
        self.is_error_code = ERROR_CODES.contains(&name);
    }

    fn end_struct(&mut self) {
        self.open.pop();
    }

    fn scalar(&mut self, value: ScalarMut<'_>) {
        if let (true, Some(&place), ScalarMut::I16(field)) = (self.is_error_code, self.open.last(), value)
            && self.chosen[place]
        {
            *field = self.code;
            self.set += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::generated::fetch_response::{FetchResponse, FetchableTopicResponse, PartitionData};
    use crate::wire::generated::metadata_response::{
        MetadataResponse, MetadataResponsePartition, MetadataResponseTopic,
    };

    const ORDERS: Topic<'static> = Topic { name: "orders", id: Uuid::from_bytes([7; 16]) };

    fn fetched() -> Response {
        let partition = |partition_index| PartitionData { partition_index, ..Default::default() };
        let topic = |name: &str, id| FetchableTopicResponse {
            topic: name.into(),
            topic_id: Uuid::from_bytes([id; 16]),
            partitions: vec![partition(0), partition(1)],
        };
        FetchResponse { responses: vec![topic("orders", 7), topic("other", 8)], ..Default::default() }.into()
    }

    fn codes(response: &Response) -> (i16, Vec<i16>) {
        let Response::Fetch(fetch) = response else { panic!("not a fetch") };
        let partitions = fetch.responses.iter().flat_map(|topic| &topic.partitions);
        (fetch.error_code, partitions.map(|partition| partition.error_code).collect())
    }

    #[test]
    fn an_error_for_the_whole_response_goes_to_the_top_or_where_there_is_none_everywhere() {
        let mut response = fetched();
        assert_eq!(set_error_code(&mut response, 12, Target::Whole, 70), 1);
        assert_eq!(codes(&response), (70, vec![0; 4]));

        // Version 4 of Fetch has no error code at the top.
        let mut response = fetched();
        assert_eq!(set_error_code(&mut response, 4, Target::Whole, 70), 4);
        assert_eq!(codes(&response), (0, vec![70; 4]));
    }

    #[test]
    fn the_rows_of_a_transactions_partitions_have_a_name_of_their_own_for_it() {
        use crate::wire::generated::add_partitions_to_txn_response::{
            AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResponse, AddPartitionsToTxnTopicResult,
        };
        let topic = AddPartitionsToTxnTopicResult {
            name: "orders".into(),
            results_by_partition: vec![AddPartitionsToTxnPartitionResult::default()],
        };
        let answer = AddPartitionsToTxnResponse { results_by_topic_v3_and_below: vec![topic], ..Default::default() };
        let mut response = answer.into();
        assert_eq!(set_error_code(&mut response, 3, Target::Partition(ORDERS, 0), 51), 1);
        assert_eq!(set_error_code(&mut response, 3, Target::Whole, 51), 1);
    }

    #[test]
    fn an_error_for_a_topic_or_partition_stays_there_in_versions_with_names_and_with_ids() {
        for version in [12, 13] {
            let mut response = fetched();
            assert_eq!(set_error_code(&mut response, version, Target::Topic(ORDERS), 6), 2);
            assert_eq!(codes(&response), (0, vec![6, 6, 0, 0]));

            let mut response = fetched();
            assert_eq!(set_error_code(&mut response, version, Target::Partition(ORDERS, 1), 6), 1);
            assert_eq!(codes(&response), (0, vec![0, 6, 0, 0]));
        }
    }

    #[test]
    fn an_error_code_that_comes_before_the_name_of_its_topic_is_found() {
        let partition = MetadataResponsePartition { partition_index: 3, ..Default::default() };
        let orders =
            MetadataResponseTopic { name: Some("orders".into()), partitions: vec![partition], ..Default::default() };
        let mut response = MetadataResponse { topics: vec![orders], ..Default::default() }.into();
        assert_eq!(set_error_code(&mut response, 9, Target::Topic(ORDERS), 5), 2);
        assert_eq!(set_error_code(&mut response, 9, Target::Partition(ORDERS, 3), 9), 1);
        assert_eq!(set_error_code(&mut response, 9, Target::Partition(ORDERS, 4), 9), 0);
        let Response::Metadata(metadata) = response else { panic!("not metadata") };
        assert_eq!((metadata.topics[0].error_code, metadata.topics[0].partitions[0].error_code), (5, 9));
    }
}
