//! wasm-bindgen over `dsv4-core`.
