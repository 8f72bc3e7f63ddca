//! Plain JavaScript objects.

use js_sys::{Object, Reflect};
use wasm_bindgen::JsValue;

/// `object[key] = value`.
pub(crate) fn set(object: &Object, key: &str, value: impl Into<JsValue>) {
    // Fails on frozen objects only, and these are ours.
    let _ = Reflect::set(object, &key.into(), &value.into());
}

/// An object of these entries.
pub(crate) fn object<const N: usize>(entries: [(&str, JsValue); N]) -> Object {
    let object = Object::new();
    for (key, value) in entries {
        set(&object, key, value);
    }
    object
}
