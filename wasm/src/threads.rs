//! Threads: workers of the page that share this module's memory, and run the core's tasks. The one file of this crate with
//! `unsafe`: to lend a task to other threads for the length of a call, its lifetime has to be forgotten.
//!
//! A worker that runs out of work looks for more for some microseconds, then sleeps. A session's evaluation is the only
//! caller, from the one thread that JavaScript calls.
#![allow(unsafe_code)]

use dsv4_core::arch::disjoint::Parallel;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use wasm_bindgen::prelude::wasm_bindgen;

type Task<'a> = dyn Fn() + Sync + 'a;

/// A task, its lifetime forgotten.
#[derive(Clone, Copy)]
struct Lent(*const Task<'static>);

// SAFETY: what it points to is `Sync`, and `Pool::run` keeps it alive for as long as any worker may use it.
unsafe impl Send for Lent {}

/// The workers' common ground.
pub(crate) struct Pool {
    /// Workers that have entered [`work`].
    workers: AtomicUsize,
    /// Tasks lent so far.
    lent: AtomicUsize,
    /// Workers that use the task now. Grows under the lock of `task` only, while there is one.
    borrowers: AtomicUsize,
    /// The task, while it may be borrowed.
    task: Mutex<Option<Lent>>,
    /// There is a new task, or the last borrower is done.
    changed: Condvar,
}

static POOL: Pool = Pool {
    workers: AtomicUsize::new(0),
    lent: AtomicUsize::new(0),
    borrowers: AtomicUsize::new(0),
    task: Mutex::new(None),
    changed: Condvar::new(),
};

pub(crate) fn pool() -> &'static Pool {
    &POOL
}

/// How often to look before sleeping: some microseconds.
const SPINS: usize = 20_000;

fn spin_until(holds: impl Fn() -> bool) -> bool {
    (0..SPINS).any(|_| {
        std::hint::spin_loop();
        holds()
    })
}

impl Pool {
    fn task(&self) -> MutexGuard<'_, Option<Lent>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps until `holds` does, and keeps the lock.
    fn wait_until(&self, holds: impl Fn() -> bool) -> MutexGuard<'_, Option<Lent>> {
        let waiting = self.changed.wait_while(self.task(), |_| !holds());
        waiting.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Parallel for Pool {
    fn run(&self, n: usize, task: &(dyn Fn() + Sync)) {
        let left = AtomicUsize::new(n);
        let claim = || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        let work = || {
            while claim() {
                task();
            }
        };
        if n < 2 || self.threads() == 1 {
            return work();
        }
        let borrowed: &Task<'_> = &work;
        // SAFETY: only the lifetime changes. Below, this call takes the task back and waits until nobody uses it any
        // more; a panic in between aborts.
        let forgotten: &Task<'static> = unsafe { std::mem::transmute::<&Task<'_>, &Task<'static>>(borrowed) };
        *self.task() = Some(Lent(forgotten));
        self.lent.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_all();
        work();
        *self.task() = None;
        let over = || self.borrowers.load(Ordering::Acquire) == 0;
        if !spin_until(over) {
            drop(self.wait_until(over));
        }
    }

    fn threads(&self) -> usize {
        self.workers.load(Ordering::Relaxed) + 1
    }
}

/// A worker's life: never returns.
#[wasm_bindgen]
pub fn work() {
    let pool = pool();
    pool.workers.fetch_add(1, Ordering::Relaxed);
    let mut seen = 0;
    loop {
        let newer = || pool.lent.load(Ordering::SeqCst) != seen;
        if !spin_until(newer) {
            drop(pool.wait_until(newer));
        }
        seen = pool.lent.load(Ordering::SeqCst);
        let lent = {
            let task = pool.task();
            let Some(lent) = *task else { continue };
            pool.borrowers.fetch_add(1, Ordering::Relaxed);
            lent
        };
        // SAFETY: the lender waits until `borrowers`, which counts this worker, is 0 again, and so keeps the task alive.
        unsafe { (*lent.0)() };
        pool.borrowers.fetch_sub(1, Ordering::Release);
        // Under the lock, so that a lender who is about to sleep hears it.
        drop(pool.task());
        pool.changed.notify_all();
    }
}
