//! What a client that thousands of services use (librdkafka, by rdkafka) makes of each fault, in each scope.
//!
//! Every test plays the same scene twice, with the fault and without it, and says what it saw in each. A fault that does
//! nothing cannot pass.

mod bad_input;
mod brokers;
mod connections;
mod errors;
mod frames;
mod groups;
mod lies;
mod logs;
mod scene;
mod scopes;
mod timing;
