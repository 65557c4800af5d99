//! The nouns: what a cluster knows. No request or response type appears below this folder.

pub mod groups;
