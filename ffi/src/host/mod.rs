//! The core's values, owning what they borrow: a model its mapped files and memory, a session its model and memory.

mod generate;
mod model;
mod session;
mod template;
mod tokenizer;

pub use dsv4_core::token::Think;
pub use generate::{Event, Finish, Generate, Generated, rate};
pub use model::Model;
pub use session::Session;
pub use template::Template;
pub use tokenizer::Tokenizer;
