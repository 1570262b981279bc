//! The table, by what was done to the object.

mod fields;
mod frames;
mod length;
mod midway;
mod owner;
mod sidecar;
