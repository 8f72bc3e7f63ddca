//! The plain objects that calls give are described in `wasm/ts/types.ts`.

use wasm_bindgen::prelude::wasm_bindgen;

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r#"import type { ModelInfo, SessionPlan, Trace } from "../types.js";"#;
