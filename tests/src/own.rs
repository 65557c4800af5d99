//! Messages the independent codec does not know yet, through the broker's own.
//!
//! What the two sides of a differential script say is still compared; only that both are read by the code under test is a
//! weakness, which other suites make up for: the codec is generated from Kafka's schemas and checked on its own.

use anyhow::anyhow;
use bytes::{Buf, Bytes};
use kafka_protocol::protocol::buf::{ByteBuf, ByteBufMut};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message, Request, VersionRange};
use rehearsal_mockbroker::wire;
use rehearsal_mockbroker::wire::generated::streams_group_describe_request::StreamsGroupDescribeRequest;
use rehearsal_mockbroker::wire::generated::streams_group_describe_response::StreamsGroupDescribeResponse;
use rehearsal_mockbroker::wire::generated::streams_group_heartbeat_request::StreamsGroupHeartbeatRequest;
use rehearsal_mockbroker::wire::generated::streams_group_heartbeat_response::StreamsGroupHeartbeatResponse;

/// A message of the broker's own codec, in a form the raw client can send and read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Own<M>(pub M);

impl<M: wire::Message> Message for Own<M> {
    const VERSIONS: VersionRange = VersionRange { min: 0, max: 0 };
    const DEPRECATED_VERSIONS: Option<VersionRange> = None;
}

impl<M: wire::Message> Encodable for Own<M> {
    fn encode<B: ByteBufMut>(&self, buf: &mut B, version: i16) -> anyhow::Result<()> {
        for chunk in self.bytes(version)? {
            buf.put_slice(&chunk);
        }
        Ok(())
    }

    fn compute_size(&self, version: i16) -> anyhow::Result<usize> {
        Ok(self.bytes(version)?.iter().map(Bytes::len).sum())
    }
}

impl<M: wire::Message> Decodable for Own<M> {
    fn decode<B: ByteBuf>(buf: &mut B, version: i16) -> anyhow::Result<Self> {
        let mut reader = wire::Reader::new(buf.copy_to_bytes(buf.remaining()));
        let message = M::decode(&mut reader, version).map_err(|error| anyhow!("{error}"))?;
        if reader.remaining() > 0 {
            return Err(anyhow!("{} bytes are left over after the answer", reader.remaining()));
        }
        Ok(Self(message))
    }
}

impl<M: wire::Message> Own<M> {
    fn bytes(&self, version: i16) -> anyhow::Result<Vec<Bytes>> {
        let mut writer = wire::Writer::new();
        self.0.encode(&mut writer, version).map_err(|error| anyhow!("{error}"))?;
        writer.finish().map_err(|error| anyhow!("{error}"))
    }
}

/// Requests of APIs that are flexible from their first version on, with their answers.
macro_rules! requests {
    ($($key:literal: $request:ident => $response:ident;)*) => {
        $(
            impl HeaderVersion for Own<$request> {
                fn header_version(_: i16) -> i16 {
                    2
                }
            }

            impl HeaderVersion for Own<$response> {
                fn header_version(_: i16) -> i16 {
                    1
                }
            }

            impl Request for Own<$request> {
                const KEY: i16 = $key;
                type Response = Own<$response>;
            }
        )*
    };
}

requests! {
    88: StreamsGroupHeartbeatRequest => StreamsGroupHeartbeatResponse;
    89: StreamsGroupDescribeRequest => StreamsGroupDescribeResponse;
}
