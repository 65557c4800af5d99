//! Nouns: what the broker knows. No request or response type appears here.

pub mod configs;
