//! Planned faults as they come out of `Cluster::handle`: what an error does in every API, version and scope, and what
//! becomes of requests and answers that are kept back.

mod errors;
mod held;
mod plans;
mod world;
