//! The one thing the coordinator reads in what consumers say to each other: the topics they subscribe to.

use bytes::Bytes;

/// The topics in a consumer's subscription. Version 0 is the beginning of every version: the version, an array of
/// strings and the user's data.
pub(super) fn topics_of_subscription(mut bytes: Bytes) -> Option<Vec<String>> {
    let bytes = &mut bytes;
    let _version = take(bytes, 2)?;
    let count = usize::try_from(take_i32(bytes)?).ok()?;
    // A topic takes two bytes at least, so this reserves nothing that is not there.
    let mut topics = Vec::with_capacity(count.min(bytes.len() / 2));
    for _ in 0..count {
        let length = take(bytes, 2)?;
        let length = usize::try_from(i16::from_be_bytes([length[0], length[1]])).ok()?;
        topics.push(String::from_utf8_lossy(&take(bytes, length)?).into_owned());
    }
    if let Ok(length) = usize::try_from(take_i32(bytes)?) {
        take(bytes, length)?;
    }
    Some(topics)
}

fn take_i32(bytes: &mut Bytes) -> Option<i32> {
    take(bytes, 4)?.as_ref().try_into().ok().map(i32::from_be_bytes)
}

fn take(bytes: &mut Bytes, length: usize) -> Option<Bytes> {
    (bytes.len() >= length).then(|| bytes.split_to(length))
}
