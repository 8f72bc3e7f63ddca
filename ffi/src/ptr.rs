//! All `unsafe` of this crate: mapping files, lending a closure to other threads for the length of a call, and what the C
//! ABI is given as pointers.
#![allow(unsafe_code)]

use crate::pool::Patience;
use bytemuck::{Pod, Zeroable};
use dsv4_core::arch::disjoint::Parallel;
use dsv4_core::arena::ALIGN;
use dsv4_core::error::{Error, Result};
use memmap2::Mmap;
use std::alloc::Layout;
use std::ffi::{CStr, c_char, c_void};
use std::fs::File;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Maps the whole of `file` for reading, in large pages where the system has them for files.
pub(crate) fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: nobody may write to the file or shorten it while it is mapped. No process can enforce that; it is the
    // documented contract of `Files::open`, as of everything that maps files.
    let map = unsafe { Mmap::map(file) }?;
    // Weights are matrices of megabytes, read from end to end, again for every token: worth pages of that size, which one
    // thread reads a tenth faster. A file comes to lie in them as it is read from the disk, or not at all. A system that
    // has none for files refuses the advice, and nothing else changes.
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::HugePage);
    Ok(map)
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
    /// Lends `task` while `meanwhile` runs, and returns once nobody uses it any more. Does nothing and gives `false`
    /// if another task is lent.
    pub(crate) fn lend(&self, task: &Task<'_>, meanwhile: impl FnOnce()) -> bool {
        /// Takes the task back, whether `meanwhile` returns or panics.
        struct TakeBack<'a>(&'a Loan);
        impl Drop for TakeBack<'_> {
            fn drop(&mut self) {
                let loan = self.0;
                *loan.task() = None;
                let mut patience = Patience::new();
                while patience.lasts() {
                    if loan.borrowers.load(Ordering::Acquire) == 0 {
                        return;
                    }
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

/// What a C caller's pointer promises, once it is not NULL and aligned: that it points to what the header says, for as
/// long as the header says. Nothing can check that; everything below that a pointer can be checked for is checked, and
/// every `SAFETY` that says "the caller" means that promise.
fn checked<T>(pointer: *const T, what: &'static str) -> Result<NonNull<T>> {
    NonNull::new(pointer.cast_mut()).filter(|p| p.is_aligned()).ok_or(Error::BadArgument { what })
}

/// What may have any bits: numbers, and pointers, which are checked when they are followed.
pub(crate) trait Plain: Copy {}
impl<T: Pod> Plain for T {}

/// Whether a slice of `len` values can exist.
fn length<T>(len: usize, what: &'static str) -> Result<usize> {
    len.checked_mul(size_of::<T>()).filter(|&n| isize::try_from(n).is_ok()).ok_or(Error::BadArgument { what })
}

/// The `len` values at `start`, which may be anything if there are none.
pub(crate) fn slice<'a, T: Plain>(start: *const T, len: usize, what: &'static str) -> Result<&'a [T]> {
    if len == 0 {
        return Ok(&[]);
    }
    length::<T>(len, what)?;
    let start = checked(start, what)?;
    // SAFETY: aligned, not NULL, of a possible length; any bits are a `Pod`; the caller keeps them unchanged meanwhile.
    Ok(unsafe { std::slice::from_raw_parts(start.as_ptr(), len) })
}

/// The same, to be written.
pub(crate) fn slice_mut<'a, T: Pod>(start: *mut T, len: usize, what: &'static str) -> Result<&'a mut [T]> {
    if len == 0 {
        return Ok(&mut []);
    }
    length::<T>(len, what)?;
    let start = checked(start, what)?;
    // SAFETY: as in `slice`; the caller lets nobody else read or write them meanwhile.
    Ok(unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), len) })
}

/// The value at `from`.
pub(crate) fn read<T: Plain>(from: *const T, what: &'static str) -> Result<T> {
    let from = checked(from, what)?;
    // SAFETY: aligned and not NULL; any bits are a `Plain`.
    Ok(unsafe { from.read() })
}

/// The text at `start`, up to its NUL.
pub(crate) fn c_str<'a>(start: *const c_char, what: &'static str) -> Result<&'a CStr> {
    let start = checked(start, what)?;
    // SAFETY: the caller ends it with a NUL and keeps it unchanged meanwhile.
    Ok(unsafe { CStr::from_ptr(start.as_ptr()) })
}

/// Where one result goes: checked before the work, written after it.
pub(crate) struct Out<T>(NonNull<T>);

impl<T: Copy> Out<T> {
    /// [`Error::BadArgument`] for NULL and misaligned pointers.
    pub(crate) fn new(to: *mut T, what: &'static str) -> Result<Self> {
        checked(to, what).map(Self)
    }

    pub(crate) fn set(self, value: T) {
        // SAFETY: aligned and not NULL; the caller has room for a T there.
        unsafe { self.0.write(value) };
    }
}

/// A struct of the header that begins with its `size` in bytes, so that it can grow. Zeros are its defaults. Only for
/// `#[repr(C)]` structs with a `usize` first, and of values that may have any bits, or are pointers, or functions or
/// NULL.
pub(crate) trait Versioned: Copy + Zeroable {}

/// Reads a struct whose caller may know fewer fields than we do, which are zero then, or more, which must be zero then.
/// NULL gives all zeros.
pub(crate) fn read_sized<T: Versioned>(from: *const T, what: &'static str) -> Result<T> {
    let mut value = T::zeroed();
    if from.is_null() {
        return Ok(value);
    }
    let from = checked(from, what)?;
    // SAFETY: the caller's struct begins with its size.
    let size = unsafe { from.cast::<usize>().read() };
    if !(size_of::<usize>()..=MAX_STRUCT).contains(&size) {
        return Err(Error::BadArgument { what });
    }
    let known = size.min(size_of::<T>());
    // SAFETY: the caller's struct has `size` bytes, ours has at least `known`; a `Versioned` may be anything.
    unsafe { std::ptr::copy_nonoverlapping(from.cast::<u8>().as_ptr(), (&raw mut value).cast::<u8>(), known) };
    // SAFETY: the rest of the caller's `size` bytes.
    let unknown = unsafe { std::slice::from_raw_parts(from.cast::<u8>().as_ptr().add(known), size - known) };
    if unknown.iter().any(|&b| b != 0) {
        return Err(Error::Unsupported { what: "a field that this version does not know" });
    }
    Ok(value)
}

/// Writes as much of `value` as the struct at `to` has room for by its `size`, which stays what it is.
pub(crate) fn write_sized<T: Versioned>(to: *mut T, value: &T, what: &'static str) -> Result<()> {
    let to = checked(to, what)?;
    // SAFETY: the caller's struct begins with its size.
    let size = unsafe { to.cast::<usize>().read() };
    if !(size_of::<usize>()..=MAX_STRUCT).contains(&size) {
        return Err(Error::BadArgument { what });
    }
    let head = size_of::<usize>();
    let from = (&raw const *value).cast::<u8>();
    // SAFETY: both structs have the bytes from `head` to the smaller of the two sizes.
    unsafe {
        let room = size.min(size_of::<T>()) - head;
        std::ptr::copy_nonoverlapping(from.add(head), to.cast::<u8>().as_ptr().add(head), room);
    };
    Ok(())
}

/// No struct will ever be longer: a `size` beyond it is one that was not set.
const MAX_STRUCT: usize = 4096;

/// A pointer that a caller wants to see again in its callbacks.
#[derive(Clone, Copy)]
pub(crate) struct User(pub(crate) *mut c_void);

// SAFETY: it is never followed here; the header says which threads the callbacks run on.
unsafe impl Send for User {}
// SAFETY: as above.
unsafe impl Sync for User {}

/// A C caller's threads.
pub(crate) struct CallerThreads {
    pub(crate) run: RunTasks,
    pub(crate) user: User,
    pub(crate) threads: usize,
}

/// `dsv4_parallel_fn`.
pub(crate) type RunTasks = extern "C" fn(*mut c_void, usize, extern "C" fn(*mut c_void), *mut c_void);

impl Parallel for CallerThreads {
    fn run(&self, n: usize, task: &(dyn Fn() + Sync)) {
        extern "C" fn call(context: *mut c_void) {
            // SAFETY: `context` is what `run` passed, and the caller calls before `run` returns only.
            let task: &&(dyn Fn() + Sync) = unsafe { &*context.cast_const().cast() };
            task();
        }
        (self.run)(self.user.0, n, call, (&raw const task).cast_mut().cast());
    }

    fn threads(&self) -> usize {
        self.threads.max(1)
    }
}

/// How memory is had from the caller's allocator.
pub(crate) type Alloc = extern "C" fn(*mut c_void, usize, usize) -> *mut c_void;
/// And how it is given back.
pub(crate) type Free = extern "C" fn(*mut c_void, *mut c_void, usize);

/// Who gives memory: a caller's two functions, or the system.
#[derive(Clone, Copy)]
pub(crate) enum Allocator {
    System,
    Caller { alloc: Alloc, free: Free, user: User },
}

impl Allocator {
    /// The system's is asked for `ALIGN` bytes more, since its way to zeroed pages that nobody has touched is an
    /// allocation of ordinary alignment.
    fn system(bytes: usize) -> Option<Layout> {
        Layout::from_size_align(bytes.checked_add(ALIGN)?, 16).ok()
    }

    /// `bytes` bytes, not 0, at a multiple of [`ALIGN`].
    fn alloc(self, bytes: usize) -> Result<Block> {
        let none = Error::MemoryTooSmall { need: bytes as u64, got: 0 };
        let (whole, start) = match self {
            Self::System => {
                let layout = Self::system(bytes).ok_or(Error::TooLarge)?;
                // SAFETY: the layout's size is not 0.
                let whole = unsafe { std::alloc::alloc_zeroed(layout) };
                (whole, whole.wrapping_add(whole.align_offset(ALIGN)))
            }
            Self::Caller { alloc, user, .. } => {
                let whole = alloc(user.0, bytes, ALIGN).cast::<u8>();
                (whole, whole)
            }
        };
        if whole.is_null() {
            return Err(none);
        }
        let block = Block { allocator: self, whole, start, bytes };
        if !start.addr().is_multiple_of(ALIGN) {
            block.free();
            return Err(Error::MemoryMisaligned { align: ALIGN as u32 });
        }
        Ok(block)
    }

    /// Runs `work` over `len` words, zeroed or not, that exist only for the length of this call.
    pub(crate) fn lend_words<T>(self, len: usize, work: impl FnOnce(&mut [u32]) -> T) -> Result<T> {
        let bytes = length::<u32>(len, "length")?.max(1);
        let block = self.alloc(bytes)?;
        // SAFETY: the block is ours alone, aligned, and has that many bytes.
        let done = work(unsafe { std::slice::from_raw_parts_mut(block.start.cast(), len) });
        block.free();
        Ok(done)
    }
}

/// Memory from an allocator.
struct Block {
    allocator: Allocator,
    whole: *mut u8,
    start: *mut u8,
    bytes: usize,
}

impl Block {
    fn free(self) {
        match self.allocator {
            Allocator::System => {
                // SAFETY: `whole` came from `alloc_zeroed` with this layout, which existed then.
                unsafe {
                    let layout = Layout::from_size_align_unchecked(self.bytes + ALIGN, 16);
                    std::alloc::dealloc(self.whole, layout);
                }
            }
            Allocator::Caller { free, user, .. } => free(user.0, self.whole.cast(), self.bytes),
        }
    }
}

/// Where an object is to lie.
pub(crate) enum Place {
    /// In the caller's bytes.
    Given(*mut c_void, usize),
    /// In as many as it needs, from an allocator.
    Allocated(Allocator),
}

/// What opaque pointers point to.
pub(crate) trait Object: 'static {
    /// Tells this kind from the others, from what was freed, and from what never was one.
    const MAGIC: u64;
}

/// An object at the start of its memory.
#[repr(C, align(64))]
struct Placed<T> {
    magic: AtomicU64,
    /// `None` where the memory is the caller's.
    block: Option<Block>,
    object: T,
}

/// The bytes that an object takes that needs `more` beside itself: what [`create`] wants.
pub(crate) fn need<T>(more: usize) -> Result<usize> {
    size_of::<Placed<T>>().checked_add(more).filter(|&n| isize::try_from(n).is_ok()).ok_or(Error::TooLarge)
}

/// Makes an object of `need(more)` bytes, `build` of what comes after it: `more` bytes at a multiple of [`ALIGN`],
/// which stay until [`destroy`].
pub(crate) fn create<T: Object>(
    place: Place,
    more: usize,
    build: impl FnOnce(&'static mut [u8]) -> Result<T>,
) -> Result<*mut T> {
    const { assert!(size_of::<Placed<T>>().is_multiple_of(ALIGN)) };
    let need = need::<T>(more)?;
    let (start, block) = match place {
        Place::Given(start, given) => {
            let start = checked(start.cast::<u8>(), "memory")?.as_ptr();
            if !start.addr().is_multiple_of(ALIGN) {
                return Err(Error::MemoryMisaligned { align: ALIGN as u32 });
            }
            if given < need {
                return Err(Error::MemoryTooSmall { need: need as u64, got: given as u64 });
            }
            (start, None)
        }
        Place::Allocated(allocator) => {
            let block = allocator.alloc(need)?;
            (block.start, Some(block))
        }
    };
    let placed = start.cast::<Placed<T>>();
    // SAFETY: the `need` bytes at `start` are the object's alone until `destroy`: the caller lends them for that long, or
    // they are a block that `destroy` frees.
    let rest = unsafe { std::slice::from_raw_parts_mut(start.add(size_of::<Placed<T>>()), more) };
    match build(rest) {
        Ok(object) => {
            // SAFETY: aligned and large enough.
            unsafe { placed.write(Placed { magic: AtomicU64::new(T::MAGIC), block, object }) };
            Ok(placed.cast())
        }
        Err(error) => {
            if let Some(block) = block {
                block.free();
            }
            Err(error)
        }
    }
}

/// The object that a pointer of [`create`]'s points to. Its lifetime is the caller's affair, as the header says.
pub(crate) fn object<T: Object>(pointer: *const T) -> Result<&'static T> {
    let gone = "not an object of this kind, or one that was freed";
    let placed = checked(pointer.cast::<Placed<T>>(), gone)?;
    // SAFETY: whatever the caller's pointer means by mistake, a freed object's memory included, has most likely 8 bytes.
    let magic = unsafe { (*placed.cast::<AtomicU64>().as_ptr()).load(Ordering::Acquire) };
    if magic != T::MAGIC {
        return Err(Error::BadArgument { what: gone });
    }
    // SAFETY: `create` made it, and nobody has destroyed it. It is only ever shared.
    Ok(unsafe { &(*placed.as_ptr()).object })
}

/// Ends an object and gives its memory back. Nobody may use it meanwhile; of two threads that try, one gets an error.
pub(crate) fn destroy<T: Object>(pointer: *mut T) -> Result<()> {
    object(pointer)?;
    let placed = pointer.cast::<Placed<T>>();
    // SAFETY: `object` found a live one, as the header demands; the exchange lets one thread of several pass.
    unsafe {
        let magic = &(*placed).magic;
        if magic.compare_exchange(T::MAGIC, 0, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return Err(Error::BadArgument { what: "freed twice" });
        }
        std::ptr::drop_in_place(&raw mut (*placed).object);
        if let Some(block) = (&raw const (*placed).block).read() {
            block.free();
        }
    }
    Ok(())
}

/// Borrowed bytes for as long as whoever stores the result keeps their owner beside it: an object its mapped files.
pub(crate) fn kept(bytes: &[u8]) -> &'static [u8] {
    // SAFETY: only the lifetime changes; objects that use this drop the owner last, and hand none of the bytes out.
    unsafe { std::slice::from_raw_parts(bytes.as_ptr(), bytes.len()) }
}

/// Lays the list of `slices` at the beginning of `memory`, which is aligned for it; gives it and what is left.
pub(crate) fn lay_list(
    memory: &'static mut [u8],
    slices: impl ExactSizeIterator<Item = &'static [u8]>,
) -> Result<(&'static [&'static [u8]], &'static mut [u8])> {
    let (count, got) = (slices.len(), memory.len() as u64);
    let bytes = list_bytes(count)?;
    let short = Error::MemoryTooSmall { need: bytes as u64, got };
    let (list, rest) = memory.split_at_mut_checked(bytes).ok_or(short)?;
    let start = list.as_mut_ptr().cast::<&'static [u8]>();
    checked(start, "memory")?;
    let mut laid = 0;
    for slice in slices.take(count) {
        // SAFETY: `laid` is below `count`, and `list` has room for as many; `start` is aligned.
        unsafe { start.add(laid).write(slice) };
        laid += 1;
    }
    // SAFETY: the first `laid` were written, and `list` stays borrowed for as long as the result.
    Ok((unsafe { std::slice::from_raw_parts(start, laid) }, rest))
}

/// The bytes that [`lay_list`] takes for `count` slices.
pub(crate) fn list_bytes(count: usize) -> Result<usize> {
    count.checked_mul(size_of::<&[u8]>()).and_then(|n| n.checked_next_multiple_of(ALIGN)).ok_or(Error::TooLarge)
}
