//! The `Model`.
