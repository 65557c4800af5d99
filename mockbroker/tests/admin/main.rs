//! What administrators ask of a cluster, and what the cluster does by itself, told through `Cluster::handle`.

mod connections;
mod kafka;
mod moves;
mod quotas;
mod releases;
mod upkeep;
