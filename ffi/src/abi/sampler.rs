//! Samplers.

use super::error::{LastError, dsv4_error, report, status};
use super::memory::{allocator, dsv4_allocator};
use super::status::dsv4_status;
use crate::ptr::{self, Object, Out, Place, Versioned};
use bytemuck::{Pod, Zeroable};
use dsv4_core::arena::Arena;
use dsv4_core::error::{Error, Result};
use dsv4_core::sampler::{LogSoftmax, LogitBias, Sampler, Sampling, TokenLogProb};
use std::ffi::c_void;
use std::sync::{Mutex, TryLockError};

/// How to choose tokens. All zeros but `size` and `vocab` take the likeliest each time.
#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct dsv4_sampler_params {
    /// sizeof(dsv4_sampler_params).
    pub size: usize,
    /// The model's vocabulary, of dsv4_model_info.
    pub vocab: usize,
    /// Any number: the same one gives the same tokens on every machine.
    pub seed: u64,
    /// 0 or more: 0 always takes the highest logit, 1 draws from the model's own distribution.
    pub temperature: f32,
    /// Keep this many of the likeliest; 0 keeps all.
    pub top_k: u32,
    /// Keep the likeliest with this share of the weight together; 0 and 1 keep all.
    pub top_p: f32,
    /// Keep what has at least this share of the likeliest one's weight; 0 keeps all.
    pub min_p: f32,
    /// Divides positive logits of recent tokens and multiplies negative ones; 0 and 1 do nothing.
    pub repetition: f32,
    /// Subtracted from the logits of recent tokens.
    pub presence: f32,
    /// Subtracted once an occurrence.
    pub frequency: f32,
    /// Who gives memory, or NULL for the C library. Read during the call only.
    pub allocator: *const dsv4_allocator,
}

impl Versioned for dsv4_sampler_params {}

impl dsv4_sampler_params {
    fn sampling(&self) -> Result<Sampling> {
        let or_one = |value: f32| if value == 0.0 { 1.0 } else { value };
        let sampling = Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: or_one(self.top_p),
            min_p: self.min_p,
            repetition: or_one(self.repetition),
            presence: self.presence,
            frequency: self.frequency,
        };
        sampling.check()?;
        Ok(sampling)
    }

    /// The bytes of scratch.
    fn need(&self) -> Result<usize> {
        if self.vocab == 0 {
            return Err(Error::BadArgument { what: "vocab" });
        }
        let mut arena = Arena::counting();
        arena.take::<u32>(Sampler::scratch(self.vocab))?;
        Ok(arena.used())
    }
}

/// What to add to one token's logit; infinite to force or to forbid it. Never grows.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct dsv4_logit_bias {
    /// The token.
    pub token: u32,
    /// Added before temperature.
    pub add: f32,
}

/// A token and its probability. Never grows.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct dsv4_log_prob {
    /// The token.
    pub token: u32,
    /// The natural logarithm of its probability, at most 0.
    pub log_prob: f32,
}

/// Chooses tokens, and has the state of its random numbers. One call at a time may use it, on any thread; a second one
/// that comes meanwhile gets DSV4_BUSY.
pub struct dsv4_sampler {
    state: Mutex<State>,
    last: LastError,
}

struct State {
    sampler: Sampler,
    scratch: &'static mut [u32],
}

impl Object for dsv4_sampler {
    const MAGIC: u64 = u64::from_le_bytes(*b"dsv4.sam");
}

fn with(sampler: *const dsv4_sampler, work: impl FnOnce(&mut State) -> Result<()>) -> dsv4_status {
    let sampler = match ptr::object(sampler) {
        Ok(sampler) => sampler,
        Err(error) => return error.into(),
    };
    let result = match sampler.state.try_lock() {
        Ok(mut state) => work(&mut state),
        Err(TryLockError::Poisoned(poisoned)) => work(&mut poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => return Error::Busy.into(),
    };
    sampler.last.keep(result)
}

fn create(
    params: *const dsv4_sampler_params,
    given: Option<(*mut c_void, usize)>,
    out: *mut *mut dsv4_sampler,
) -> Result<()> {
    let out = Out::new(out, "sampler")?;
    let params = ptr::read_sized(params, "params")?;
    let sampler = Sampler::new(params.sampling()?, params.seed);
    let allocator = allocator(params.allocator)?;
    let place = given.map_or(Place::Allocated(allocator), |(memory, bytes)| Place::Given(memory, bytes));
    let made = ptr::create(place, params.need()?, |memory| {
        let scratch = Arena::new(memory)?.take(Sampler::scratch(params.vocab))?;
        Ok(dsv4_sampler { state: Mutex::new(State { sampler, scratch }), last: LastError::default() })
    })?;
    out.set(made);
    Ok(())
}

/// The bytes of memory that dsv4_sampler_new_in needs for these parameters. DSV4_BAD_ARGUMENT for those that make no sense;
/// `error`, if not NULL, has the details. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_sampler_plan(
    params: *const dsv4_sampler_params,
    bytes: *mut usize,
    error: *mut dsv4_error,
) -> dsv4_status {
    let plan = || {
        let out = Out::new(bytes, "bytes")?;
        let params = ptr::read_sized(params, "params")?;
        params.sampling()?;
        out.set(ptr::need::<dsv4_sampler>(params.need()?)?);
        Ok(())
    };
    report(plan(), error)
}

/// Makes a sampler in memory of `params->allocator`.
///
/// On success `*sampler` is the caller's, who frees it by dsv4_sampler_free. Errors: DSV4_BAD_ARGUMENT,
/// DSV4_MEMORY_TOO_SMALL; `error`, if not NULL, has the details. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_sampler_new(
    params: *const dsv4_sampler_params,
    sampler: *mut *mut dsv4_sampler,
    error: *mut dsv4_error,
) -> dsv4_status {
    report(create(params, None, sampler).map_err(Into::into), error)
}

/// Makes a sampler in the `bytes` bytes at `memory`, which start at a multiple of 64 and are the sampler's until
/// dsv4_sampler_free. Nothing is allocated, now or by any use.
///
/// Errors: as dsv4_sampler_new; DSV4_MEMORY_TOO_SMALL, whose `need` is dsv4_sampler_plan's; DSV4_MEMORY_MISALIGNED.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_sampler_new_in(
    params: *const dsv4_sampler_params,
    memory: *mut c_void,
    bytes: usize,
    sampler: *mut *mut dsv4_sampler,
    error: *mut dsv4_error,
) -> dsv4_status {
    report(create(params, Some((memory, bytes)), sampler).map_err(Into::into), error)
}

/// Chooses `*token` by one row of logits, which it spoils. `recent` are the tokens to penalize, `bias` what to add to
/// single logits; both may be empty.
///
/// Errors: DSV4_BAD_ARGUMENT unless `n_logits` is 1 to `vocab` of the parameters; DSV4_BAD_TOKEN for a token past the logits;
/// DSV4_BUSY while another call uses the sampler. No random number is used up then.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_sampler_sample(
    sampler: *mut dsv4_sampler,
    logits: *mut f32,
    n_logits: usize,
    recent: *const u32,
    n_recent: usize,
    bias: *const dsv4_logit_bias,
    n_bias: usize,
    token: *mut u32,
) -> dsv4_status {
    with(sampler, |State { sampler, scratch }| {
        let out = Out::new(token, "token")?;
        let logits = ptr::slice_mut(logits, n_logits, "logits")?;
        if logits.len() > scratch.len() {
            return Err(Error::BadArgument { what: "logits" });
        }
        let recent = ptr::slice(recent, n_recent, "recent")?;
        let bias: &[LogitBias] = bytemuck::cast_slice(ptr::slice(bias, n_bias, "bias")?);
        out.set(sampler.sample(logits, recent, bias, scratch)?);
        Ok(())
    })
}

/// The likeliest tokens by one row of logits, downwards, before penalties, bias, temperature and cuts: at most `capacity`
/// of them to `top`, their number to `*n_top`. Before dsv4_sampler_sample spoils the logits.
///
/// Errors: DSV4_BAD_ARGUMENT unless `n_logits` is 1 to `vocab` of the parameters; DSV4_BUSY while another call uses the
/// sampler.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_sampler_top(
    sampler: *mut dsv4_sampler,
    logits: *const f32,
    n_logits: usize,
    top: *mut dsv4_log_prob,
    capacity: usize,
    n_top: *mut usize,
) -> dsv4_status {
    with(sampler, |State { scratch, .. }| {
        let count = Out::new(n_top, "n_top")?;
        let logits = ptr::slice(logits, n_logits, "logits")?;
        if logits.is_empty() || logits.len() > scratch.len() {
            return Err(Error::BadArgument { what: "logits" });
        }
        let top: &mut [TokenLogProb] = bytemuck::cast_slice_mut(ptr::slice_mut(top, capacity, "top")?);
        count.set(LogSoftmax::new(logits).top(scratch, top)?);
        Ok(())
    })
}

/// The natural logarithm of `token`'s probability by one row of logits, before penalties, bias, temperature and cuts.
///
/// Errors: DSV4_BAD_ARGUMENT, DSV4_BAD_TOKEN for a token past the logits. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_log_prob_of(logits: *const f32, n_logits: usize, token: u32, log_prob: *mut f32) -> dsv4_status {
    let find = || {
        let out = Out::new(log_prob, "log_prob")?;
        let logits = ptr::slice(logits, n_logits, "logits")?;
        if token as usize >= logits.len() {
            return Err(Error::BadToken { token });
        }
        out.set(LogSoftmax::new(logits).of(token));
        Ok(())
    };
    status(find())
}

/// The details of the last error of a call on this sampler; all zeros if there was none. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_sampler_last_error(sampler: *const dsv4_sampler, error: *mut dsv4_error) -> dsv4_status {
    status(ptr::object(sampler).and_then(|sampler| sampler.last.write(error)))
}

/// Frees a sampler; NULL does nothing. DSV4_BUSY, and nothing is freed, while another call uses it.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_sampler_free(sampler: *mut dsv4_sampler) -> dsv4_status {
    if sampler.is_null() {
        return dsv4_status::DSV4_OK;
    }
    let free = || {
        if matches!(ptr::object(sampler)?.state.try_lock(), Err(TryLockError::WouldBlock)) {
            return Err(Error::Busy);
        }
        ptr::destroy(sampler)
    };
    status(free())
}
