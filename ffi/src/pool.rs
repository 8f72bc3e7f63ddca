//! A small pool of threads for the core's parallel regions.
//!
//! A region lasts from microseconds to milliseconds, and one follows another: what counts is how fast workers start
//! and how little they do while there is nothing to do. A worker that runs out of work looks for more for fifty
//! microseconds, then sleeps. The thread that calls works too, and a second one that calls meanwhile works alone.

use crate::ptr::Loan;
use dsv4_core::arch::disjoint::Parallel;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Threads that run the core's tasks. Any number of sessions may share one.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    loan: Loan,
    /// Regions announced so far.
    regions: AtomicUsize,
    stop: AtomicBool,
    /// Workers asleep, or about to be.
    sleepers: AtomicUsize,
    sleep: Mutex<()>,
    wake: Condvar,
}

impl Pool {
    /// A pool of `threads` threads, the calling one included: 1 (or 0) starts none. Where the system refuses to start
    /// as many, the pool has fewer.
    pub fn new(threads: usize) -> Arc<Self> {
        let shared = Arc::<Shared>::default();
        let start = |i| {
            let shared = shared.clone();
            std::thread::Builder::new().name(format!("dsv4-{i}")).spawn(move || shared.work()).ok()
        };
        let workers = (1..threads).map_while(start).collect();
        Arc::new(Self { shared, workers })
    }

    /// A pool of [`Self::default_threads`].
    pub fn physical() -> Arc<Self> {
        Self::new(Self::default_threads())
    }

    /// As many threads as the machine has physical cores, or as this process may use if that is less.
    pub fn default_threads() -> usize {
        num_cpus::get_physical().min(num_cpus::get()).max(1)
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
        let alone = n < 2 || self.workers.is_empty();
        let shared = &self.shared;
        let lent = !alone
            && shared.loan.lend(&work, || {
                shared.announce();
                work();
            });
        if !lent {
            work();
        }
    }

    fn threads(&self) -> usize {
        self.workers.len() + 1
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.announce();
        for worker in self.workers.drain(..) {
            // A worker that panicked (only a task can) has ended as well.
            let _ = worker.join();
        }
    }
}

/// Looking for what comes soon, before a thread sleeps.
pub(crate) struct Patience {
    since: Instant,
    looks: usize,
}

impl Patience {
    /// Between the regions of a token there are up to 40 microseconds, and a thread that sleeps takes as long to wake up.
    const LASTS: Duration = Duration::from_micros(50);

    /// So often without a break: a few microseconds.
    const SPINS: usize = 100;

    pub(crate) fn new() -> Self {
        Self { since: Instant::now(), looks: 0 }
    }

    /// Waits for a moment. Whether to look once more.
    pub(crate) fn lasts(&mut self) -> bool {
        self.looks += 1;
        if self.looks < Self::SPINS {
            std::hint::spin_loop();
            return true;
        }
        // Whoever has work and no processor goes first.
        std::thread::yield_now();
        self.since.elapsed() < Self::LASTS
    }
}

impl Shared {
    /// Tells the workers that there is something new.
    fn announce(&self) {
        // Either this sees the sleeper, or the sleeper sees the new number: both are sequentially consistent.
        self.regions.fetch_add(1, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            drop(self.sleep.lock().unwrap_or_else(PoisonError::into_inner));
            self.wake.notify_all();
        }
    }

    /// A worker's life.
    fn work(&self) {
        let mut seen = 0;
        loop {
            seen = self.next_region(seen);
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            self.loan.borrow();
        }
    }

    /// Waits until there are other regions than the `seen` first; gives their number.
    fn next_region(&self, seen: usize) -> usize {
        let newer = || Some(self.regions.load(Ordering::SeqCst)).filter(|&regions| regions != seen);
        let mut patience = Patience::new();
        while patience.lasts() {
            if let Some(regions) = newer() {
                return regions;
            }
        }
        let mut guard = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let regions = loop {
            if let Some(regions) = newer() {
                break regions;
            }
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        };
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        regions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(pool: &Pool, n: usize) -> usize {
        let calls = AtomicUsize::new(0);
        pool.run(n, &|| {
            calls.fetch_add(1, Ordering::Relaxed);
        });
        calls.into_inner()
    }

    #[test]
    fn calls_exactly_n_times() {
        for threads in [0, 1, 2, 5] {
            let pool = Pool::new(threads);
            assert_eq!(pool.threads(), threads.max(1));
            for n in [0, 1, 2, 3, 7, 100, 1000] {
                assert_eq!(count(&pool, n), n);
            }
        }
    }

    #[test]
    fn wakes_up_after_sleeping() {
        let pool = Pool::new(3);
        for _ in 0..20 {
            std::thread::sleep(std::time::Duration::from_millis(1));
            assert_eq!(count(&pool, 50), 50);
        }
    }

    #[test]
    fn serves_several_callers_at_once() {
        let pool = Pool::new(3);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..500).for_each(|n| assert_eq!(count(&pool, n % 40), n % 40)));
            }
        });
    }

    #[test]
    fn a_task_may_call_run_itself() {
        let pool = Pool::new(2);
        let calls = AtomicUsize::new(0);
        pool.run(10, &|| {
            calls.fetch_add(count(&pool, 10), Ordering::Relaxed);
        });
        assert_eq!(calls.into_inner(), 100);
    }
}
