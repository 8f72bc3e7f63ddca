//! The std host of `dsv4-core`.
