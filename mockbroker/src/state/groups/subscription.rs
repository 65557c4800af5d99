//! What the coordinator reads in what consumers say to each other, and what it says in their stead: subscriptions and
//! assignments of the classic protocol (`ConsumerProtocol`).

use bytes::{BufMut, Bytes, BytesMut};

/// A consumer's subscription. Every version begins like the one before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Subscription {
    pub(super) version: i16,
    pub(super) topics: Vec<String>,
    /// From version 1 on.
    pub(super) owned: Vec<(String, Vec<i32>)>,
    /// From version 3 on.
    pub(super) rack: Option<String>,
}

/// A consumer's assignment: partitions by topic, and whatever its assignor added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Assigned {
    pub(super) partitions: Vec<(String, Vec<i32>)>,
    pub(super) user_data: Bytes,
}

/// The topics in a consumer's subscription.
pub(super) fn topics_of_subscription(mut bytes: Bytes) -> Option<Vec<String>> {
    let bytes = &mut bytes;
    let _version = take(bytes, 2)?;
    let topics = take_strings(bytes)?;
    take_bytes(bytes)?;
    Some(topics)
}

impl Subscription {
    pub(super) fn read(mut bytes: Bytes) -> Option<Self> {
        let bytes = &mut bytes;
        let mut subscription = Self { version: take_i16(bytes)?, topics: take_strings(bytes)?, ..Self::default() };
        take_bytes(bytes)?;
        if subscription.version >= 1 {
            subscription.owned = take_partitions(bytes)?;
        }
        if subscription.version >= 2 {
            let _generation = take_i32(bytes)?;
        }
        if subscription.version >= 3 {
            subscription.rack = take_string(bytes)?;
        }
        (subscription.version >= 0).then_some(subscription)
    }
}

impl Assigned {
    /// Reads an assignment; no bytes are none.
    pub(super) fn read(mut bytes: Bytes) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::default());
        }
        let bytes = &mut bytes;
        let _version = take(bytes, 2)?;
        Some(Self { partitions: take_partitions(bytes)?, user_data: take_bytes(bytes)? })
    }

    /// The assignment in this version, whose form all versions share.
    pub(super) fn write(&self, version: i16) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_i16(version);
        bytes.put_i32(length(self.partitions.len()));
        for (topic, partitions) in &self.partitions {
            bytes.put_i16(i16::try_from(topic.len()).unwrap_or(i16::MAX));
            bytes.put_slice(topic.as_bytes());
            bytes.put_i32(length(partitions.len()));
            partitions.iter().for_each(|index| bytes.put_i32(*index));
        }
        bytes.put_i32(-1);
        bytes.freeze()
    }
}

fn length(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn take_partitions(bytes: &mut Bytes) -> Option<Vec<(String, Vec<i32>)>> {
    let count = take_count(bytes, 6)?;
    let mut topics = Vec::with_capacity(count);
    for _ in 0..count {
        let topic = take_string(bytes)??;
        let indices = take_count(bytes, 4)?;
        topics.push((topic, (0..indices).map(|_| take_i32(bytes)).collect::<Option<_>>()?));
    }
    Some(topics)
}

fn take_strings(bytes: &mut Bytes) -> Option<Vec<String>> {
    let count = take_count(bytes, 2)?;
    (0..count).map(|_| take_string(bytes)?).collect()
}

/// A length that the bytes left can hold, if each element takes so many at least.
fn take_count(bytes: &mut Bytes, element_bytes_min: usize) -> Option<usize> {
    let count = usize::try_from(take_i32(bytes)?).ok()?;
    (count <= bytes.len() / element_bytes_min).then_some(count)
}

/// A string; the inner option is that of the protocol.
fn take_string(bytes: &mut Bytes) -> Option<Option<String>> {
    match usize::try_from(take_i16(bytes)?) {
        Ok(length) => Some(Some(String::from_utf8_lossy(&take(bytes, length)?).into_owned())),
        Err(_) => Some(None),
    }
}

fn take_bytes(bytes: &mut Bytes) -> Option<Bytes> {
    match usize::try_from(take_i32(bytes)?) {
        Ok(length) => take(bytes, length),
        Err(_) => Some(Bytes::new()),
    }
}

fn take_i16(bytes: &mut Bytes) -> Option<i16> {
    take(bytes, 2)?.as_ref().try_into().ok().map(i16::from_be_bytes)
}

fn take_i32(bytes: &mut Bytes) -> Option<i32> {
    take(bytes, 4)?.as_ref().try_into().ok().map(i32::from_be_bytes)
}

fn take(bytes: &mut Bytes, length: usize) -> Option<Bytes> {
    (bytes.len() >= length).then(|| bytes.split_to(length))
}
