//! The core's errors as JavaScript's.

use dsv4_core::error::Error;
use wasm_bindgen::JsValue;

/// An error on its way to JavaScript.
pub(crate) struct Failure(pub(crate) Error);

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl From<Failure> for JsValue {
    /// An `Error` whose `name` and `code` are the core's.
    fn from(Failure(error): Failure) -> Self {
        let object = js_sys::Error::new(&error.to_string());
        object.set_name(error.name());
        crate::object::set(&object, "code", error.code());
        object.into()
    }
}
