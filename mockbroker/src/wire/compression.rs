//! The four compressions of Kafka's record batches, in pure Rust so that the core builds anywhere.

use std::io::{self, Read, Write};

/// A compression type, by its number in a batch's attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub enum Codec {
    /// Plain records.
    None,
    /// Gzip.
    Gzip,
    /// Snappy, in Java's framing (`xerial`) or raw.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Codec {
    /// All of them, in numeric order.
    pub const ALL: &[Self] = &[Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec with this number.
    pub fn from_id(id: i16) -> Option<Self> {
        usize::try_from(id).ok().and_then(|id| Self::ALL.get(id)).copied()
    }

    /// Its number.
    pub fn id(self) -> i16 {
        self as i16
    }
}

/// Compresses `plain` as a producer would.
pub fn compress(codec: Codec, plain: &[u8]) -> io::Result<Vec<u8>> {
    match codec {
        Codec::None => Ok(plain.to_vec()),
        Codec::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(plain)?;
            encoder.finish()
        }
        Codec::Snappy => Ok(xerial_frame(plain)?),
        Codec::Lz4 => {
            let info = lz4_flex::frame::FrameInfo::new().block_size(lz4_flex::frame::BlockSize::Max64KB);
            let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
            encoder.write_all(plain)?;
            encoder.finish().map_err(io::Error::other)
        }
        Codec::Zstd => Ok(ruzstd::encoding::compress_to_vec(plain, ruzstd::encoding::CompressionLevel::Fastest)),
    }
}

/// Decompresses `packed`, refusing to grow past `limit` bytes.
pub fn decompress(codec: Codec, packed: &[u8], limit: usize) -> io::Result<Vec<u8>> {
    match codec {
        Codec::None => Ok(packed.to_vec()),
        Codec::Gzip => read_bounded(flate2::read::MultiGzDecoder::new(packed), limit),
        Codec::Snappy => snappy(packed, limit),
        Codec::Lz4 => read_bounded(lz4_flex::frame::FrameDecoder::new(packed), limit),
        Codec::Zstd => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(packed).map_err(io::Error::other)?;
            read_bounded(decoder, limit)
        }
    }
}

fn read_bounded(reader: impl Read, limit: usize) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    reader.take(limit as u64 + 1).read_to_end(&mut out)?;
    if out.len() > limit { Err(io::Error::other(format!("decompresses to more than {limit} bytes"))) } else { Ok(out) }
}

/// The header of snappy-java's stream format: magic, version 1, compatible with version 1.
const XERIAL: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
/// Plain bytes in one block of that format.
const XERIAL_BLOCK: usize = 32 * 1024;

fn xerial_frame(plain: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = XERIAL.to_vec();
    for block in plain.chunks(XERIAL_BLOCK) {
        let packed = snap::raw::Encoder::new().compress_vec(block).map_err(io::Error::other)?;
        out.extend((packed.len() as u32).to_be_bytes());
        out.extend(packed);
    }
    Ok(out)
}

fn snappy(packed: &[u8], limit: usize) -> io::Result<Vec<u8>> {
    let Some(mut rest) = packed.strip_prefix(&XERIAL[..8]).and_then(|rest| rest.get(8..)) else {
        return snappy_block(packed, limit); // librdkafka and Go clients may send the raw format
    };
    let mut out = Vec::new();
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>().ok_or(io::ErrorKind::UnexpectedEof)?;
        let length = u32::from_be_bytes(*length) as usize;
        if after.len() < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (block, after) = after.split_at(length);
        out.extend(snappy_block(block, limit - out.len())?);
        rest = after;
    }
    Ok(out)
}

fn snappy_block(block: &[u8], limit: usize) -> io::Result<Vec<u8>> {
    let size = snap::raw::decompress_len(block).map_err(io::Error::other)?;
    // A snappy copy element turns 3 bytes into at most 64, so an honest length is bounded by the input too.
    if size > limit || size > block.len().saturating_mul(64) {
        return Err(io::Error::other(format!("claims to decompress to {size} bytes")));
    }
    snap::raw::Decoder::new().decompress_vec(block).map_err(io::Error::other)
}
