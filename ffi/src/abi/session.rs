//! Sessions.

use super::error::{Failure, LastError, dsv4_error, report, status};
use super::log::dsv4_log_level::DSV4_LOG_INFO;
use super::model::{Use, dsv4_model, dsv4_progress, dsv4_progress_fn};
use super::status::dsv4_status;
use crate::ptr::{self, Object, Out, Place, User, Versioned};
use bytemuck::Zeroable;
use dsv4_core::cache::CacheFormat;
use dsv4_core::error::{Error, Result};
use dsv4_core::kernel::MatmulMode;
use dsv4_core::session::{Logits, Progress, Run, Session, SessionParams};
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, TryLockError};

use dsv4_cache::*;
use dsv4_matmul::*;

/// How matrices are multiplied: `matmul` of dsv4_session_params.
#[repr(u32)]
pub enum dsv4_matmul {
    /// Activations in 8-bit blocks where the weights are quantized too.
    DSV4_MATMUL_FAST = 0,
    /// f32 activations against dequantized weights.
    DSV4_MATMUL_EXACT = 1,
}

/// How the cache is stored: `cache` of dsv4_session_params.
#[repr(u32)]
pub enum dsv4_cache {
    /// The library's choice, which may change with its version.
    DSV4_CACHE_DEFAULT = 0,
    /// f32, as computed.
    DSV4_CACHE_F32 = 1,
}

/// What a session is made for. All zeros but `size` are the defaults, as is NULL.
#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct dsv4_session_params {
    /// sizeof(dsv4_session_params).
    pub size: usize,
    /// Tokens at most, up to the model's; 0: 4096, or the model's if that is less.
    pub context: usize,
    /// Tokens evaluated together at most: more make prefill faster and memory larger, and never change results. 0: 512.
    pub batch: usize,
    /// Tokens that dsv4_session_rewind can go back, at least; 0: 32. To position 0 it always can.
    pub rewind: usize,
    /// A dsv4_matmul.
    pub matmul: u32,
    /// A dsv4_cache.
    pub cache: u32,
}

impl Versioned for dsv4_session_params {}

impl dsv4_session_params {
    fn read(from: *const Self, model: &dsv4_model) -> Result<SessionParams> {
        let given = ptr::read_sized(from, "params")?;
        let or = |value, default: usize| if value == 0 { default } else { value };
        let mut params = SessionParams::new(or(given.context, model.core.config().context.min(4096)));
        params.batch = or(given.batch, params.batch);
        params.rewind = or(given.rewind, params.rewind);
        params.matmul = match given.matmul {
            n if n == DSV4_MATMUL_FAST as u32 => MatmulMode::Fast,
            n if n == DSV4_MATMUL_EXACT as u32 => MatmulMode::Exact,
            _ => return Err(Error::BadArgument { what: "matmul" }),
        };
        params.cache = match given.cache {
            n if n == DSV4_CACHE_DEFAULT as u32 => CacheFormat::default(),
            n if n == DSV4_CACHE_F32 as u32 => CacheFormat::F32,
            _ => return Err(Error::BadArgument { what: "cache" }),
        };
        Ok(params)
    }
}

/// One timeline over a model: tokens in, logits out. One call at a time may use it, on any thread; a second one that comes
/// meanwhile gets DSV4_BUSY. Only dsv4_session_cancel may come at any time.
pub struct dsv4_session {
    /// Locked for the length of every call.
    timeline: Mutex<Timeline>,
    cancel: AtomicBool,
    last: LastError,
    model: Use,
}

struct Timeline {
    core: Session<'static>,
    progress: dsv4_progress_fn,
    user: User,
}

impl Object for dsv4_session {
    const MAGIC: u64 = u64::from_le_bytes(*b"dsv4.ses");
}

/// Runs `work` on a session that nobody else uses at this moment, and remembers its error.
fn with(session: *const dsv4_session, work: impl FnOnce(&mut Timeline, &dsv4_session) -> Result<()>) -> dsv4_status {
    let session = match ptr::object(session) {
        Ok(session) => session,
        Err(error) => return error.into(),
    };
    let result = match session.timeline.try_lock() {
        Ok(mut timeline) => work(&mut timeline, session),
        Err(TryLockError::Poisoned(poisoned)) => work(&mut poisoned.into_inner(), session),
        Err(TryLockError::WouldBlock) => return Error::Busy.into(),
    };
    session.last.keep(result)
}

fn need(model: &dsv4_model, params: &SessionParams) -> Result<usize> {
    Ok(Session::plan(model.core.config(), params)?.bytes())
}

fn create(
    model: *const dsv4_model,
    params: *const dsv4_session_params,
    given: Option<(*mut c_void, usize)>,
    out: *mut *mut dsv4_session,
) -> std::result::Result<(), Failure> {
    let out = Out::new(out, "session")?;
    let model = Use::new(model)?;
    let params = dsv4_session_params::read(params, model.0)?;
    let place = given.map_or(Place::Allocated(model.0.allocator), |(memory, bytes)| Place::Given(memory, bytes));
    let (log, more) = (model.0.log, need(model.0, &params)?);
    let session = ptr::create(place, more, |memory| {
        let core = Session::new(&model.0.core, &params, memory)?;
        let timeline = Mutex::new(Timeline { core, progress: None, user: User(std::ptr::null_mut()) });
        Ok(dsv4_session { timeline, cancel: AtomicBool::new(false), last: LastError::default(), model })
    })?;
    let (bytes, context) = (ptr::need::<dsv4_session>(more)?, params.context);
    log.line(DSV4_LOG_INFO, format_args!("session: {context} tokens in {bytes} bytes"));
    out.set(session);
    Ok(())
}

/// The bytes of memory that dsv4_session_new_in needs for these parameters, exactly.
///
/// Errors: DSV4_BAD_ARGUMENT for parameters that make no sense, DSV4_TOO_LARGE; `error`, if not NULL, has the details. Any
/// thread.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_session_plan(
    model: *const dsv4_model,
    params: *const dsv4_session_params,
    bytes: *mut usize,
    error: *mut dsv4_error,
) -> dsv4_status {
    let plan = || {
        let out = Out::new(bytes, "bytes")?;
        let model = ptr::object(model)?;
        let more = need(model, &dsv4_session_params::read(params, model)?)?;
        out.set(ptr::need::<dsv4_session>(more)?);
        Ok(())
    };
    report(plan(), error)
}

/// Makes an empty session in memory of the model's allocator.
///
/// On success `*session` is the caller's, who frees it by dsv4_session_free before the model. Errors: as
/// dsv4_session_plan; DSV4_MEMORY_TOO_SMALL if the allocator has none; `error`, if not NULL, has the details. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_session_new(
    model: *const dsv4_model,
    params: *const dsv4_session_params,
    session: *mut *mut dsv4_session,
    error: *mut dsv4_error,
) -> dsv4_status {
    report(create(model, params, None, session), error)
}

/// Makes an empty session in the `bytes` bytes at `memory`, which start at a multiple of 64 and are the session's until
/// dsv4_session_free. Nothing is allocated, now or by any use.
///
/// Errors: as dsv4_session_plan; DSV4_MEMORY_TOO_SMALL, whose `need` is dsv4_session_plan's; DSV4_MEMORY_MISALIGNED.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_session_new_in(
    model: *const dsv4_model,
    params: *const dsv4_session_params,
    memory: *mut c_void,
    bytes: usize,
    session: *mut *mut dsv4_session,
    error: *mut dsv4_error,
) -> dsv4_status {
    report(create(model, params, Some((memory, bytes)), session), error)
}

/// Appends `n_tokens` tokens and computes logits into the caller's array, by its length: `n_logits` 0 none, the
/// vocabulary's length those of the last token, `n_tokens` times that those of every token, row by row. Logits are natural
/// logarithms of weights, in f32.
///
/// Errors: DSV4_BAD_TOKEN, DSV4_CONTEXT_FULL, DSV4_BAD_ARGUMENT before anything is computed; DSV4_CANCELLED and
/// DSV4_BAD_EXPERT after some whole batches: dsv4_session_position then says how many tokens the session holds, and all of
/// them are valid. DSV4_BUSY while another call uses the session. The logits mean nothing after an error.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_session_eval(
    session: *mut dsv4_session,
    tokens: *const u32,
    n_tokens: usize,
    logits: *mut f32,
    n_logits: usize,
) -> dsv4_status {
    with(session, |timeline, session| {
        let tokens = ptr::slice(tokens, n_tokens, "tokens")?;
        let logits = ptr::slice_mut(logits, n_logits, "logits")?;
        let model = session.model.0;
        let config = model.core.config();
        let wanted = match logits.len() {
            0 => Logits::None,
            n if n == config.vocab => Logits::Last(logits),
            _ => Logits::All(logits),
        };
        let Timeline { core, progress: callback, user } = timeline;
        let (callback, user, batch) = (*callback, *user, core.params().batch);
        let progress = &mut |now: Progress| {
            let going_on = !session.cancel.swap(false, Ordering::Relaxed);
            let Some(callback) = callback else { return going_on };
            let in_work = batch.min(now.of.saturating_sub(now.tokens)) as f32;
            let fraction = (now.tokens as f32 + in_work * now.layer as f32 / config.layers as f32) / now.of as f32;
            let Progress { tokens, of, layer } = now;
            let size = size_of::<dsv4_progress>();
            let now = dsv4_progress { size, fraction, layer: layer as u32, tokens, of };
            going_on && callback(user.0, &raw const now) == 0
        };
        let run = &mut Run { parallel: model.threads.parallel(), progress, observer: None };
        core.eval(tokens, wanted, run)
    })
}

/// Makes the evaluation that runs on another thread, or in the interrupted one if a signal handler calls this, end with
/// DSV4_CANCELLED within a layer's time; if none runs, the next one. Safe at any time, on any thread, in signal handlers,
/// and from callbacks, as long as the session is not freed.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_session_cancel(session: *mut dsv4_session) -> dsv4_status {
    status(ptr::object(session).map(|session| session.cancel.store(true, Ordering::Relaxed)))
}

/// Has `progress` told how far evaluations are, from now on; NULL ends that. `user` is its first argument. DSV4_BUSY while
/// another call uses the session.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_session_set_progress(
    session: *mut dsv4_session,
    progress: dsv4_progress_fn,
    user: *mut c_void,
) -> dsv4_status {
    with(session, |timeline, _| {
        (timeline.progress, timeline.user) = (progress, User(user));
        Ok(())
    })
}

/// How many tokens the session holds. DSV4_BUSY while another call uses it.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_session_position(session: *const dsv4_session, position: *mut usize) -> dsv4_status {
    with(session, |timeline, _| {
        Out::new(position, "position")?.set(timeline.core.position());
        Ok(())
    })
}

/// The tokens that the session holds, in their order: writes their number to `*n_tokens` and them to `tokens`, which has
/// room for `capacity`; NULL only counts. DSV4_MEMORY_TOO_SMALL, with `need` in bytes, if there is not enough room;
/// DSV4_BUSY while another call uses the session.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_session_tokens(
    session: *const dsv4_session,
    tokens: *mut u32,
    capacity: usize,
    n_tokens: *mut usize,
) -> dsv4_status {
    with(session, |timeline, _| {
        let count = Out::new(n_tokens, "n_tokens")?;
        let held = timeline.core.tokens();
        if !tokens.is_null() {
            let out = ptr::slice_mut(tokens, capacity, "tokens")?;
            let small = Error::MemoryTooSmall { need: size_of_val(held) as u64, got: size_of_val(out) as u64 };
            out.get_mut(..held.len()).ok_or(small)?.copy_from_slice(held);
        }
        count.set(held.len());
        Ok(())
    })
}

/// Goes back to `position` tokens: what follows gives the same bits as if the rest had never been evaluated. 0 is always
/// possible, and as far back as `rewind` of the parameters; else DSV4_CANNOT_REWIND. DSV4_BAD_ARGUMENT past the present;
/// DSV4_BUSY while another call uses the session.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_session_rewind(session: *mut dsv4_session, position: usize) -> dsv4_status {
    with(session, |timeline, _| timeline.core.rewind(position))
}

/// Goes back to where the session and the `n_tokens` tokens part, as far as it can: `*kept` of them need not be evaluated
/// again, and at least one is left, so that there are logits. DSV4_BUSY while another call uses the session.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_session_keep_prefix(
    session: *mut dsv4_session,
    tokens: *const u32,
    n_tokens: usize,
    kept: *mut usize,
) -> dsv4_status {
    with(session, |timeline, _| {
        let out = Out::new(kept, "kept")?;
        out.set(timeline.core.keep_prefix(ptr::slice(tokens, n_tokens, "tokens")?));
        Ok(())
    })
}

/// The bytes that dsv4_session_save writes now; they grow with the position. DSV4_BUSY while another call uses the session.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_session_snapshot_size(session: *const dsv4_session, bytes: *mut usize) -> dsv4_status {
    with(session, |timeline, _| {
        Out::new(bytes, "bytes")?.set(timeline.core.snapshot_bytes());
        Ok(())
    })
}

/// Saves the session's timeline: writes a snapshot, in a format that other versions of the library read, to the `capacity`
/// bytes at `snapshot`, and its length to `*bytes`. It holds the tokens and what following ones look back at; to go on
/// from it takes the model too.
///
/// Errors: DSV4_MEMORY_TOO_SMALL, whose `need` is dsv4_session_snapshot_size's; DSV4_BUSY while another call uses the
/// session.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_session_save(
    session: *const dsv4_session,
    snapshot: *mut c_void,
    capacity: usize,
    bytes: *mut usize,
) -> dsv4_status {
    with(session, |timeline, _| {
        let count = Out::new(bytes, "bytes")?;
        count.set(timeline.core.save(ptr::slice_mut(snapshot.cast::<u8>(), capacity, "snapshot")?)?);
        Ok(())
    })
}

/// Takes over the timeline of the snapshot in the `bytes` bytes at `snapshot`, in the place of the session's: what follows
/// gives the same bits as in the session that was saved. The session's context must hold it; its `batch` and `rewind` may
/// be others, and it can go back as far as both sessions could.
///
/// Errors, and after each the session is as it was: DSV4_NOT_SNAPSHOT, DSV4_UNSUPPORTED_SNAPSHOT, DSV4_SNAPSHOT_DAMAGED,
/// DSV4_SNAPSHOT_OF_OTHER_MODEL, DSV4_SNAPSHOT_OF_OTHER_NUMBERS (another `matmul` or `cache`), DSV4_CONTEXT_FULL,
/// DSV4_BUSY while another call uses the session. A checksum finds accidents; a snapshot made with intent can make the
/// model say anything, and do no other harm.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_session_restore(
    session: *mut dsv4_session,
    snapshot: *const c_void,
    bytes: usize,
) -> dsv4_status {
    with(session, |timeline, _| timeline.core.restore(ptr::slice(snapshot.cast::<u8>(), bytes, "snapshot")?))
}

/// The details of the last error of a call on this session; all zeros if there was none. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_session_last_error(session: *const dsv4_session, error: *mut dsv4_error) -> dsv4_status {
    status(ptr::object(session).and_then(|session| session.last.write(error)))
}

/// Frees a session; NULL does nothing. DSV4_BUSY, and nothing is freed, while another call uses it.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_session_free(session: *mut dsv4_session) -> dsv4_status {
    if session.is_null() {
        return dsv4_status::DSV4_OK;
    }
    let free = || {
        if matches!(ptr::object(session)?.timeline.try_lock(), Err(TryLockError::WouldBlock)) {
            return Err(Error::Busy);
        }
        ptr::destroy(session)
    };
    status(free())
}
