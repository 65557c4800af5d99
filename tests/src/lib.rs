//! What the suites share: Apache Kafka as a reference, a raw client, and the differential frame.
//!
//! - [`kafka`] fetches Apache Kafka 4.3.0 and runs it on loopback;
//! - [`raw`] speaks the wire protocol with a codec that is not the broker's own, and can misspeak on purpose;
//! - [`batch`] writes record batches by hand, broken ones too, and reads them back;
//! - [`tree`] turns any decoded answer into one comparable tree;
//! - [`differential`] plays a script against two brokers and reports where their answers part;
//! - [`known`] is the list of differences that are accepted, with reasons;
//! - [`own`] lends the raw client what its codec does not know yet;
//! - [`target`] is the broker under test: ours, or whatever `REHEARSAL_BOOTSTRAP` names;
//! - [`python`] installs clients from PyPI;
//! - [`runtime`] answers what this machine has, and says aloud what is skipped for want of it.

pub mod batch;
pub mod differential;
pub mod kafka;
pub mod known;
pub mod own;
pub mod python;
pub mod raw;
pub mod runtime;
pub mod target;
pub mod tree;

/// The README's examples, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
