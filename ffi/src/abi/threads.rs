//! Who does the work of a model's sessions: the library's pool, the caller's threads, or the calling thread alone.

use crate::pool::Pool;
use crate::ptr::{CallerThreads, User};
use dsv4_core::arch::disjoint::{Parallel, Serial};
use std::ffi::c_void;
use std::sync::Arc;

/// Runs parallel work on the caller's threads: it must call `task(context)` `n` times in all, on whatever threads, the
/// calling one or others, and return when all these calls have returned. Called on the thread that evaluates. Calls left
/// out or made twice do no harm; calls after the return do.
pub type dsv4_parallel_fn =
    Option<extern "C" fn(user: *mut c_void, n: usize, task: extern "C" fn(context: *mut c_void), context: *mut c_void)>;

/// The threads of a model's sessions.
pub(super) enum Threads {
    Alone,
    Pool(Arc<Pool>),
    Caller(CallerThreads),
}

impl Threads {
    /// `parallel` over `threads` threads, or where that is NULL a pool of `threads`, 0 meaning the physical cores.
    pub(super) fn new(parallel: dsv4_parallel_fn, user: *mut c_void, threads: u32) -> Self {
        let threads = usize::try_from(threads).unwrap_or(usize::MAX);
        match (parallel, threads) {
            (Some(run), _) => Self::Caller(CallerThreads { run, user: User(user), threads }),
            (None, 1) => Self::Alone,
            (None, 0) => Self::Pool(Pool::physical()),
            (None, _) => Self::Pool(Pool::new(threads)),
        }
    }

    pub(super) fn parallel(&self) -> &dyn Parallel {
        match self {
            Self::Alone => &Serial,
            Self::Pool(pool) => &**pool,
            Self::Caller(threads) => threads,
        }
    }
}
