//! All `unsafe` of this crate: mapping files, and lending a closure to other threads for the length of a call.
#![allow(unsafe_code)]

use memmap2::Mmap;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Maps the whole of `file` for reading.
pub(crate) fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: nobody may write to the file or shorten it while it is mapped. No process can enforce that; it is the
    // documented contract of `Files::open`, as of everything that maps files.
    unsafe { Mmap::map(file) }
}

type Task<'a> = dyn Fn() + Sync + 'a;

/// A task, its lifetime forgotten.
struct Lent(*const Task<'static>);

// SAFETY: what it points to is `Sync`, and `Loan` keeps it alive for as long as any thread may use it.
unsafe impl Send for Lent {}

/// A place where one thread lends a task to others, and gets it back from all of them before the call ends.
#[derive(Default)]
pub(crate) struct Loan {
    /// Held by the lender.
    lender: Mutex<()>,
    /// The task, while it may be borrowed.
    task: Mutex<Option<Lent>>,
    /// Threads that use the task now. Changes under the lock of `task` only.
    borrowers: AtomicUsize,
    returned: Condvar,
}

impl Loan {
    /// Looks this often whether the last borrower is done before it sleeps: the last tasks of a region end together.
    const SPINS: usize = 200;

    /// Lends `task` while `meanwhile` runs, and returns once nobody uses it any more. Does nothing and gives `false`
    /// if another task is lent.
    pub(crate) fn lend(&self, task: &Task<'_>, meanwhile: impl FnOnce()) -> bool {
        /// Takes the task back, whether `meanwhile` returns or panics.
        struct TakeBack<'a>(&'a Loan);
        impl Drop for TakeBack<'_> {
            fn drop(&mut self) {
                let loan = self.0;
                *loan.task() = None;
                for _ in 0..Loan::SPINS {
                    if loan.borrowers.load(Ordering::Acquire) == 0 {
                        return;
                    }
                    std::hint::spin_loop();
                }
                let mut task = loan.task();
                while loan.borrowers.load(Ordering::Acquire) > 0 {
                    task = loan.returned.wait(task).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }

        let Ok(_lender) = self.lender.try_lock() else { return false };
        let _take_back = TakeBack(self);
        // SAFETY: only the lifetime changes. `_take_back` ends the loan before this call, and so the borrow, ends.
        let lent: &Task<'static> = unsafe { std::mem::transmute::<&Task<'_>, &Task<'static>>(task) };
        *self.task() = Some(Lent(lent));
        meanwhile();
        true
    }

    /// Calls the task that is lent, if there is one.
    pub(crate) fn borrow(&self) {
        /// Gives the task back, whether it returns or panics.
        struct GiveBack<'a>(&'a Loan);
        impl Drop for GiveBack<'_> {
            fn drop(&mut self) {
                let task = self.0.task();
                let last = self.0.borrowers.fetch_sub(1, Ordering::Release) == 1;
                if last && task.is_none() {
                    self.0.returned.notify_one();
                }
            }
        }

        let task = {
            let task = self.task();
            let Some(lent) = &*task else { return };
            self.borrowers.fetch_add(1, Ordering::Relaxed);
            lent.0
        };
        let _give_back = GiveBack(self);
        // SAFETY: the lender waits until `borrowers`, which counts this thread, is 0 again, and so keeps the task alive.
        unsafe { (*task)() };
    }

    fn task(&self) -> MutexGuard<'_, Option<Lent>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
