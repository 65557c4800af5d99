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

/// Why bytes are not what they should be. Kafka answers for the two in different ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Malformed {
    /// They end where a number should be.
    Short,
    /// A length in them is not the truth.
    Lie,
}

type Read<T> = Result<T, Malformed>;

/// The topics in a consumer's subscription.
pub(super) fn topics_of_subscription(mut bytes: Bytes) -> Read<Vec<String>> {
    let bytes = &mut bytes;
    let _version = take(bytes, 2)?;
    let topics = take_strings(bytes)?;
    take_bytes(bytes)?;
    Ok(topics)
}

impl Subscription {
    pub(super) fn read(mut bytes: Bytes) -> Read<Self> {
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
        if subscription.version >= 0 { Ok(subscription) } else { Err(Malformed::Short) }
    }
}

impl Assigned {
    /// Reads an assignment; no bytes are none.
    pub(super) fn read(mut bytes: Bytes) -> Read<Self> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let bytes = &mut bytes;
        let _version = take(bytes, 2)?;
        Ok(Self { partitions: take_partitions(bytes)?, user_data: take_bytes(bytes)? })
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

fn take_partitions(bytes: &mut Bytes) -> Read<Vec<(String, Vec<i32>)>> {
    let count = take_count(bytes)?;
    let mut topics = Vec::new();
    for _ in 0..count {
        let topic = take_string(bytes)?.ok_or(Malformed::Lie)?;
        let indices = take_count(bytes)?;
        topics.push((topic, (0..indices).map(|_| take_i32(bytes)).collect::<Read<_>>()?));
    }
    Ok(topics)
}

fn take_strings(bytes: &mut Bytes) -> Read<Vec<String>> {
    let count = take_count(bytes)?;
    (0..count).map(|_| take_string(bytes)?.ok_or(Malformed::Lie)).collect()
}

/// A number of elements, each of which takes a byte at least.
fn take_count(bytes: &mut Bytes) -> Read<usize> {
    let count = usize::try_from(take_i32(bytes)?).map_err(|_| Malformed::Lie)?;
    if count <= bytes.len() { Ok(count) } else { Err(Malformed::Lie) }
}

/// A string; the inner option is that of the protocol.
fn take_string(bytes: &mut Bytes) -> Read<Option<String>> {
    match usize::try_from(take_i16(bytes)?) {
        Ok(length) => Ok(Some(String::from_utf8_lossy(&take_claimed(bytes, length)?).into_owned())),
        Err(_) => Ok(None),
    }
}

fn take_bytes(bytes: &mut Bytes) -> Read<Bytes> {
    match usize::try_from(take_i32(bytes)?) {
        Ok(length) => take_claimed(bytes, length),
        Err(_) => Ok(Bytes::new()),
    }
}

fn take_i16(bytes: &mut Bytes) -> Read<i16> {
    take(bytes, 2)?.as_ref().try_into().map(i16::from_be_bytes).map_err(|_| Malformed::Short)
}

fn take_i32(bytes: &mut Bytes) -> Read<i32> {
    take(bytes, 4)?.as_ref().try_into().map(i32::from_be_bytes).map_err(|_| Malformed::Short)
}

fn take_claimed(bytes: &mut Bytes, length: usize) -> Read<Bytes> {
    take(bytes, length).map_err(|_| Malformed::Lie)
}

fn take(bytes: &mut Bytes, length: usize) -> Read<Bytes> {
    if bytes.len() >= length { Ok(bytes.split_to(length)) } else { Err(Malformed::Short) }
}
