//! Models.

use super::error::{Failure, LastError, dsv4_error, report, status};
use super::log::dsv4_log_level::{DSV4_LOG_ERROR, DSV4_LOG_INFO, DSV4_LOG_WARNING};
use super::log::{Log, dsv4_log_fn};
use super::memory::{allocator, dsv4_allocator};
use super::status::dsv4_status;
use super::threads::{Threads, dsv4_parallel_fn};
use crate::file::{FileError, Files};
use crate::ptr::{self, Allocator, Object, Out, Place, Plain, User, Versioned};
use bytemuck::Zeroable;
use dsv4_core::arch::level::Level;
use dsv4_core::error::{Error, Result};
use dsv4_core::model::Model;
use std::ffi::{OsStr, c_char, c_int, c_void};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that the caller keeps, unchanged, for as long as whatever was made of them.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dsv4_bytes {
    /// Where they begin, at any alignment.
    pub data: *const c_void,
    /// How many they are.
    pub len: usize,
}

impl Plain for dsv4_bytes {}

/// How far a call is.
#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct dsv4_progress {
    /// sizeof(dsv4_progress) of the library: fields past it do not exist.
    pub size: usize,
    /// The part done, 0 to 1.
    pub fraction: f32,
    /// Layers done for the batch in work (evaluation only).
    pub layer: u32,
    /// Tokens of this call that are evaluated, and stay so if it is cancelled now (evaluation only).
    pub tokens: usize,
    /// Tokens of this call: 1 when decoding, the prompt's when prefilling, 0 when loading.
    pub of: usize,
}

/// Told how far a call is: a result other than 0 cancels it. `progress` exists only during the call. Called on the thread
/// that made the call: while a model loads a few times, during an evaluation after every layer of every batch.
pub type dsv4_progress_fn = Option<extern "C" fn(user: *mut c_void, progress: *const dsv4_progress) -> c_int>;

/// How to open a model. All zeros but `size` and either `path` or `shards` are the defaults.
#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct dsv4_model_params {
    /// sizeof(dsv4_model_params).
    pub size: usize,
    /// The `.gguf` file, or the first of its splits, which are found beside it. It is mapped, and must not be changed or
    /// shortened before dsv4_model_free. Bytes as the system has them; UTF-8 on Windows.
    pub path: *const c_char,
    /// Instead of `path`: the bytes of the file, or of its splits in order. The list is only read during the call; the
    /// bytes are the caller's, who keeps them, unchanged, until dsv4_model_free.
    pub shards: *const dsv4_bytes,
    /// How many `shards` there are.
    pub n_shards: usize,
    /// Threads that a session of this model works with at most: 0 as many as there are physical cores, 1 the calling one
    /// alone. Without `parallel` the library starts the others and ends them with the model; all its sessions share them.
    pub threads: u32,
    /// The caller's threads instead of the library's, or NULL; `threads` then says how many of them may work at once.
    pub parallel: dsv4_parallel_fn,
    /// The first argument of `parallel`.
    pub parallel_user: *mut c_void,
    /// Who gives memory to the model and to its sessions, or NULL for the C library. Read during the call only.
    pub allocator: *const dsv4_allocator,
    /// The log, or NULL.
    pub log: dsv4_log_fn,
    /// The first argument of `log`.
    pub log_user: *mut c_void,
    /// Told how far loading is, or NULL.
    pub progress: dsv4_progress_fn,
    /// The first argument of `progress`.
    pub progress_user: *mut c_void,
}

impl Versioned for dsv4_model_params {}

/// What a model is. Set `size` before it is passed.
#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct dsv4_model_info {
    /// sizeof(dsv4_model_info).
    pub size: usize,
    /// Tokens of the vocabulary: the length of a row of logits.
    pub vocab: usize,
    /// Positions that the model was made for: the most that a session can have.
    pub context: usize,
    /// Layers, without those that only draft.
    pub layers: usize,
    /// The width of a residual stream.
    pub hidden: usize,
    /// Routed experts of a layer.
    pub experts: usize,
    /// Of these, how many work on each token.
    pub experts_used: usize,
    /// Bytes of all tensors.
    pub weight_bytes: u64,
    /// Bytes of memory that the model takes beside its weights.
    pub memory_bytes: u64,
}

impl Versioned for dsv4_model_info {}

/// A loaded model. It never changes: any number of threads may use it at the same time.
pub struct dsv4_model {
    pub(super) core: Model<'static>,
    pub(super) threads: Threads,
    pub(super) allocator: Allocator,
    pub(super) log: Log,
    last: LastError,
    memory_bytes: usize,
    /// Sessions that borrow it; `GONE` once it is being freed.
    users: AtomicUsize,
    /// What `core` borrows if the library mapped it.
    _files: Option<Files>,
}

impl Object for dsv4_model {
    const MAGIC: u64 = u64::from_le_bytes(*b"dsv4.mod");
}

const GONE: usize = usize::MAX;

/// A use of a model that keeps it from being freed.
pub(super) struct Use(pub(super) &'static dsv4_model);

impl Use {
    pub(super) fn new(model: *const dsv4_model) -> Result<Self> {
        let model = ptr::object(model)?;
        let one_more = |users| (users < GONE - 1).then(|| users + 1);
        match model.users.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more) {
            Ok(_) => Ok(Self(model)),
            Err(_) => Err(Error::Busy),
        }
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        self.0.users.fetch_sub(1, Ordering::Release);
    }
}

/// The path that a caller's text means.
pub(super) fn path<'a>(text: *const c_char) -> Result<&'a Path> {
    let text = ptr::c_str(text, "path")?;
    #[cfg(unix)]
    let path = Some(<OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(text.to_bytes()));
    #[cfg(not(unix))]
    let path = text.to_str().ok().map(OsStr::new);
    path.map(Path::new).ok_or(Error::BadArgument { what: "path: not UTF-8" })
}

/// Splits at most: so many fit on the stack.
const MAX_SHARDS: usize = 256;

/// The weights of a model.
struct Weights {
    list: [&'static [u8]; MAX_SHARDS],
    count: usize,
    /// What the list is of, if the library mapped it.
    files: Option<Files>,
}

impl Weights {
    fn of(params: &dsv4_model_params) -> std::result::Result<Self, Failure> {
        let mut weights = Self { list: [&[]; MAX_SHARDS], count: 0, files: None };
        let given = ptr::slice(params.shards, params.n_shards, "shards")?;
        match (params.path.is_null(), given.is_empty()) {
            (false, true) => {
                let files = Files::open(path(params.path)?)?;
                files.iter().try_for_each(|bytes| weights.push(ptr::kept(bytes)))?;
                weights.files = Some(files);
            }
            (true, false) => {
                for shard in given {
                    weights.push(ptr::slice(shard.data.cast(), shard.len, "shards")?)?;
                }
            }
            _ => return Err(Error::BadArgument { what: "one of path and shards is needed" }.into()),
        }
        Ok(weights)
    }

    fn push(&mut self, bytes: &'static [u8]) -> Result<()> {
        *self.list.get_mut(self.count).ok_or(Error::TooLarge)? = bytes;
        self.count += 1;
        Ok(())
    }

    fn slices(&self) -> &[&'static [u8]] {
        self.list.get(..self.count).unwrap_or_default()
    }

    /// What the model needs beside its handle: the list, and the core's region.
    fn need(&self) -> Result<usize> {
        let list = ptr::list_bytes(self.count)?;
        list.checked_add(Model::plan(self.slices())?).ok_or(Error::TooLarge)
    }
}

/// `error`, with the path if there is one.
pub(super) fn blame(of: *const c_char, error: Error) -> Failure {
    match path(of) {
        Ok(path) => FileError::new(path, error).into(),
        Err(_) => error.into(),
    }
}

fn open(
    params: *const dsv4_model_params,
    given: Option<(*mut c_void, usize)>,
    out: *mut *mut dsv4_model,
) -> std::result::Result<(), Failure> {
    let out = Out::new(out, "model")?;
    let params = ptr::read_sized(params, "params")?;
    let log = Log { callback: params.log, user: User(params.log_user) };
    let opened = open_logged(&params, given, log);
    match opened {
        Ok(model) => out.set(model),
        Err(failure) => {
            log.line(DSV4_LOG_ERROR, format_args!("{failure}"));
            return Err(failure);
        }
    }
    Ok(())
}

fn open_logged(
    params: &dsv4_model_params,
    given: Option<(*mut c_void, usize)>,
    log: Log,
) -> std::result::Result<*mut dsv4_model, Failure> {
    let allocator = allocator(params.allocator)?;
    let mut weights = Weights::of(params)?;
    let more = weights.need().map_err(|error| blame(params.path, error))?;
    let memory_bytes = ptr::need::<dsv4_model>(more)?;
    let place = given.map_or(Place::Allocated(allocator), |(memory, bytes)| Place::Given(memory, bytes));
    let progress = &mut |fraction| {
        let Some(progress) = params.progress else { return true };
        let now = dsv4_progress { size: size_of::<dsv4_progress>(), fraction, layer: 0, tokens: 0, of: 0 };
        progress(params.progress_user, &raw const now) == 0
    };
    let model = ptr::create(place, more, |memory| {
        let (shards, memory) = ptr::lay_list(memory, weights.slices().iter().copied())?;
        let core = Model::load(shards, memory, progress)?;
        // After loading: a file that is refused starts no threads.
        let threads = Threads::new(params.parallel, params.parallel_user, params.threads);
        let (last, users) = (LastError::default(), AtomicUsize::new(0));
        let _files = weights.files.take();
        Ok(dsv4_model { core, threads, allocator, log, last, memory_bytes, users, _files })
    });
    let model = model.map_err(|error| blame(params.path, error))?;
    let config = ptr::object(model)?.core.config();
    let (layers, vocab, level) = (config.layers, config.vocab, Level::detect().kind().name());
    let threads = ptr::object(model)?.threads.parallel().threads();
    log.line(DSV4_LOG_INFO, format_args!("model: {layers} layers, {vocab} tokens, {threads} threads, {level}"));
    if config.yarn_assumed {
        log.line(DSV4_LOG_WARNING, format_args!("the file does not say how positions are scaled: as published, then"));
    }
    Ok(model)
}

/// The bytes of memory that dsv4_model_open_in needs for these parameters: only headers are read, so the tensors' data may
/// be cut off.
///
/// Errors: all that is wrong with the file's headers and metadata; `error`, if not NULL, has the details. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_model_plan(
    params: *const dsv4_model_params,
    bytes: *mut usize,
    error: *mut dsv4_error,
) -> dsv4_status {
    let plan = || {
        let out = Out::new(bytes, "bytes")?;
        let params = ptr::read_sized(params, "params")?;
        let more = Weights::of(&params)?.need().map_err(|error| blame(params.path, error))?;
        out.set(ptr::need::<dsv4_model>(more)?);
        Ok(())
    };
    report(plan(), error)
}

/// Opens a model in memory of `params->allocator`. Only headers are read, so the time does not depend on the file's size.
///
/// On success `*model` is the caller's, who frees it by dsv4_model_free after everything that was made from it. Errors: all
/// that can be wrong with a file, DSV4_IO, DSV4_MEMORY_TOO_SMALL if the allocator has none, DSV4_CANCELLED by the progress
/// callback; `error`, if not NULL, has the details. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_model_open(
    params: *const dsv4_model_params,
    model: *mut *mut dsv4_model,
    error: *mut dsv4_error,
) -> dsv4_status {
    report(open(params, None, model), error)
}

/// Opens a model in the `bytes` bytes at `memory`, which start at a multiple of 64 and are the model's until
/// dsv4_model_free. With `shards`, and `threads` 1 or `parallel`, nothing is allocated, now or by any use.
///
/// Errors: as dsv4_model_open; DSV4_MEMORY_TOO_SMALL, whose `need` is dsv4_model_plan's; DSV4_MEMORY_MISALIGNED.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_model_open_in(
    params: *const dsv4_model_params,
    memory: *mut c_void,
    bytes: usize,
    model: *mut *mut dsv4_model,
    error: *mut dsv4_error,
) -> dsv4_status {
    report(open(params, Some((memory, bytes)), model), error)
}

/// Tells what the model is: fills `info` as far as its `size` goes. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_model_get_info(model: *const dsv4_model, info: *mut dsv4_model_info) -> dsv4_status {
    let tell = || {
        let model = ptr::object(model)?;
        let (config, tensors) = (model.core.config(), model.core.tensors());
        let found = dsv4_model_info {
            size: size_of::<dsv4_model_info>(),
            vocab: config.vocab,
            context: config.context,
            layers: config.layers,
            hidden: config.hidden,
            experts: config.experts,
            experts_used: config.experts_used,
            weight_bytes: tensors.filter_map(|tensor| tensor.bytes()).fold(0, u64::saturating_add),
            memory_bytes: model.memory_bytes as u64,
        };
        Ok(model.last.keep(ptr::write_sized(info, &found, "info")))
    };
    tell().unwrap_or_else(|error: Error| error.into())
}

/// The details of the last error of a call on this model, by whichever thread; all zeros if there was none. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_model_last_error(model: *const dsv4_model, error: *mut dsv4_error) -> dsv4_status {
    status(ptr::object(model).and_then(|model| model.last.write(error)))
}

/// Frees a model; NULL does nothing. DSV4_BUSY, and nothing is freed, while it has sessions. No other call may use the
/// model at the same time or afterwards.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_model_free(model: *mut dsv4_model) -> dsv4_status {
    if model.is_null() {
        return dsv4_status::DSV4_OK;
    }
    let free = || {
        let users = &ptr::object(model)?.users;
        // Acquire: what the last session did happens before.
        if users.compare_exchange(0, GONE, Ordering::Acquire, Ordering::Relaxed).is_err() {
            return Err(Error::Busy);
        }
        ptr::destroy(model)
    };
    status(free())
}
