//! Tokenizers.

use super::error::{Failure, LastError, dsv4_error, report, status};
use super::memory::{allocator, dsv4_allocator};
use super::model::{blame, dsv4_bytes, dsv4_model, path};
use super::status::dsv4_status;
use crate::file::Files;
use crate::ptr::{self, Allocator, Object, Out, Place, Versioned};
use bytemuck::{Pod, Zeroable};
use dsv4_core::error::{Error, Result};
use dsv4_core::format::gguf::Gguf as Header;
use dsv4_core::token::{Gguf, Source, StreamDecoder, Tokenizer};
use std::ffi::{c_char, c_int, c_void};

/// Where a tokenizer comes from: exactly one of `model`, `path` and `file`, which it does not need afterwards.
#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct dsv4_tokenizer_params {
    /// sizeof(dsv4_tokenizer_params).
    pub size: usize,
    /// A model, whose tokenizer is meant.
    pub model: *const dsv4_model,
    /// A `.gguf` file or a `tokenizer.json`, as `path` of dsv4_model_params.
    pub path: *const c_char,
    /// The bytes of such a file. Read during the call only.
    pub file: *const dsv4_bytes,
    /// Who gives memory, or NULL for the C library. Read during the call only.
    pub allocator: *const dsv4_allocator,
}

impl Versioned for dsv4_tokenizer_params {}

/// No such token: `bos` or `eos` of a vocabulary without it.
pub const DSV4_NO_TOKEN: u32 = u32::MAX;

/// What a tokenizer is. Set `size` before it is passed.
#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct dsv4_tokenizer_info {
    /// sizeof(dsv4_tokenizer_info).
    pub size: usize,
    /// One more than the highest token.
    pub vocab: usize,
    /// The token that begins a text, or DSV4_NO_TOKEN.
    pub bos: u32,
    /// The token that ends a text, or DSV4_NO_TOKEN.
    pub eos: u32,
}

impl Versioned for dsv4_tokenizer_info {}

/// The bytes of a character that is not whole yet, between the tokens of a stream. All zeros begin one; copies are as good
/// as the original. Never grows.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct dsv4_stream {
    /// The bytes.
    pub held: [u8; 4],
    /// How many they are.
    pub len: u32,
}

impl dsv4_stream {
    fn decoder(&self) -> Result<StreamDecoder> {
        let wrong = Error::BadArgument { what: "stream" };
        let held = usize::try_from(self.len).ok().and_then(|len| self.held.get(..len)).ok_or(wrong)?;
        let mut decoder = StreamDecoder::new();
        let text = decoder.push(held, &mut [0; StreamDecoder::out_len(4)])?.is_empty();
        if text { Ok(decoder) } else { Err(wrong) }
    }

    fn of(decoder: &StreamDecoder) -> Self {
        let mut stream = Self::zeroed();
        for (to, from) in stream.held.iter_mut().zip(decoder.held()) {
            *to = *from;
            stream.len += 1;
        }
        stream
    }
}

/// Text to tokens and back. It never changes: any number of threads may use it at the same time.
pub struct dsv4_tokenizer {
    core: Tokenizer<'static>,
    /// `None` where the memory is the caller's.
    allocator: Option<Allocator>,
    last: LastError,
}

impl Object for dsv4_tokenizer {
    const MAGIC: u64 = u64::from_le_bytes(*b"dsv4.tok");
}

fn with(tokenizer: *const dsv4_tokenizer, work: impl FnOnce(&dsv4_tokenizer) -> Result<()>) -> dsv4_status {
    match ptr::object(tokenizer) {
        Ok(tokenizer) => tokenizer.last.keep(work(tokenizer)),
        Err(error) => error.into(),
    }
}

/// What the parameters name.
struct Origin {
    source: Source<'static>,
    /// What `source` borrows if the library mapped it.
    _files: Option<Files>,
}

impl Origin {
    fn of(params: &dsv4_tokenizer_params) -> std::result::Result<Self, Failure> {
        let in_file = |bytes: &'static [u8]| {
            let header = || Gguf::from_header(&Header::parse(bytes)?).map(Source::Gguf);
            if bytes.starts_with(b"GGUF") { header() } else { Ok(Source::Json(bytes)) }
        };
        let dsv4_tokenizer_params { model, path: file_path, file, .. } = *params;
        let (source, files) = match (model.is_null(), file_path.is_null(), file.is_null()) {
            (false, true, true) => (Source::Gguf(Gguf::from_header(ptr::object(model)?.core.header())?), None),
            (true, false, true) => {
                let files = Files::open_one(path(file_path)?)?;
                (in_file(ptr::kept(files.first())).map_err(|error| blame(file_path, error))?, Some(files))
            }
            (true, true, false) => {
                let file = ptr::read(file, "file")?;
                (in_file(ptr::slice(file.data.cast(), file.len, "file")?)?, None)
            }
            _ => return Err(Error::BadArgument { what: "exactly one of model, path and file is needed" }.into()),
        };
        Ok(Self { source, _files: files })
    }
}

fn create(
    params: *const dsv4_tokenizer_params,
    given: Option<(*mut c_void, usize)>,
    out: *mut *mut dsv4_tokenizer,
) -> std::result::Result<(), Failure> {
    let out = Out::new(out, "tokenizer")?;
    let params = ptr::read_sized(params, "params")?;
    let allocator = allocator(params.allocator)?;
    let (place, allocator) = match given {
        None => (Place::Allocated(allocator), Some(allocator)),
        Some((memory, bytes)) => (Place::Given(memory, bytes), None),
    };
    let Origin { source, _files } = Origin::of(&params)?;
    let made = Tokenizer::plan(&source).and_then(|more| {
        ptr::create(place, more, |memory| {
            Ok(dsv4_tokenizer { core: Tokenizer::new(&source, memory)?, allocator, last: LastError::default() })
        })
    });
    out.set(made.map_err(|error| blame(params.path, error))?);
    Ok(())
}

/// The bytes of memory that dsv4_tokenizer_new_in needs for these parameters.
///
/// Errors: DSV4_NO_TOKENIZER and all else that can be wrong with a file; `error`, if not NULL, has the details. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_tokenizer_plan(
    params: *const dsv4_tokenizer_params,
    bytes: *mut usize,
    error: *mut dsv4_error,
) -> dsv4_status {
    let plan = || {
        let out = Out::new(bytes, "bytes")?;
        let params = ptr::read_sized(params, "params")?;
        let more = Tokenizer::plan(&Origin::of(&params)?.source).map_err(|error| blame(params.path, error))?;
        out.set(ptr::need::<dsv4_tokenizer>(more)?);
        Ok(())
    };
    report(plan(), error)
}

/// Makes a tokenizer in memory of `params->allocator`: a few milliseconds for each 10,000 tokens.
///
/// On success `*tokenizer` is the caller's, who frees it by dsv4_tokenizer_free; it outlives a model that it came from.
/// Errors: as dsv4_tokenizer_plan, DSV4_MEMORY_TOO_SMALL; `error`, if not NULL, has the details. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_tokenizer_new(
    params: *const dsv4_tokenizer_params,
    tokenizer: *mut *mut dsv4_tokenizer,
    error: *mut dsv4_error,
) -> dsv4_status {
    report(create(params, None, tokenizer), error)
}

/// Makes a tokenizer in the `bytes` bytes at `memory`, which start at a multiple of 64 and are the tokenizer's until
/// dsv4_tokenizer_free. Nothing is allocated, now or by any use, if it does not come from `path`.
///
/// Errors: as dsv4_tokenizer_new; DSV4_MEMORY_TOO_SMALL, whose `need` is dsv4_tokenizer_plan's; DSV4_MEMORY_MISALIGNED.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_tokenizer_new_in(
    params: *const dsv4_tokenizer_params,
    memory: *mut c_void,
    bytes: usize,
    tokenizer: *mut *mut dsv4_tokenizer,
    error: *mut dsv4_error,
) -> dsv4_status {
    report(create(params, Some((memory, bytes)), tokenizer), error)
}

/// Tells what the tokenizer is: fills `info` as far as its `size` goes. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_tokenizer_get_info(
    tokenizer: *const dsv4_tokenizer,
    info: *mut dsv4_tokenizer_info,
) -> dsv4_status {
    with(tokenizer, |tokenizer| {
        let core = &tokenizer.core;
        let [bos, eos] = [core.bos(), core.eos()].map(|token| token.unwrap_or(DSV4_NO_TOKEN));
        let found = dsv4_tokenizer_info { size: size_of::<dsv4_tokenizer_info>(), vocab: core.vocab_len(), bos, eos };
        ptr::write_sized(info, &found, "info")
    })
}

/// Pieces up to this many bytes are encoded in scratch on the stack. Plain text has no longer ones.
const SHORT: usize = 512;

/// Encodes the `len` bytes of UTF-8 at `text`: writes the number of tokens to `*n_tokens`, and them to `tokens`, which has
/// room for `capacity`; NULL only counts. There is at most one a byte.
///
/// With `special` other than 0, added tokens in the text (`<think>` and its like) are recognized: for text that a program
/// wrote. With 0 all of it is plain text: for text of strangers.
///
/// Errors: DSV4_BAD_ARGUMENT for text that is not UTF-8; DSV4_MEMORY_TOO_SMALL, with `need` in bytes, if there is not enough
/// room, or if text without a break for more than 512 bytes meets a tokenizer in the caller's memory (others allocate for
/// it). Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_tokenizer_encode(
    tokenizer: *const dsv4_tokenizer,
    text: *const c_char,
    len: usize,
    special: c_int,
    tokens: *mut u32,
    capacity: usize,
    n_tokens: *mut usize,
) -> dsv4_status {
    with(tokenizer, |tokenizer| {
        let count = Out::new(n_tokens, "n_tokens")?;
        let text = ptr::slice(text.cast(), len, "text")?;
        let text = std::str::from_utf8(text).map_err(|_| Error::BadArgument { what: "text: not UTF-8" })?;
        let only_count = tokens.is_null();
        let out = if only_count { &mut [] } else { ptr::slice_mut(tokens, capacity, "tokens")? };
        let mut encode = |scratch: &mut [u32]| match tokenizer.core.encode(text, special != 0, scratch, out) {
            // Of tokens there are at most as many as bytes; of scratch, more.
            Err(Error::MemoryTooSmall { need, .. }) if only_count && need <= 4 * text.len() as u64 => {
                Ok((need / 4) as usize)
            }
            result => result,
        };
        let found = match (encode(&mut [0; Tokenizer::scratch(SHORT)]), tokenizer.allocator) {
            (Err(Error::MemoryTooSmall { need, .. }), Some(allocator)) if need > 4 * text.len() as u64 => {
                allocator.lend_words((need / 4) as usize, encode)?
            }
            (result, _) => result,
        }?;
        count.set(found);
        Ok(())
    })
}

/// The bytes of `n_tokens` tokens, one after the other: writes their number to `*len`, and them to `text`, which has room for
/// `capacity`; NULL only counts. No NUL is added. They are whole characters only if the tokens end with one: see
/// dsv4_tokenizer_stream.
///
/// Errors: DSV4_BAD_TOKEN; DSV4_MEMORY_TOO_SMALL, with `need` in bytes. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_tokenizer_decode(
    tokenizer: *const dsv4_tokenizer,
    tokens: *const u32,
    n_tokens: usize,
    text: *mut c_char,
    capacity: usize,
    len: *mut usize,
) -> dsv4_status {
    with(tokenizer, |tokenizer| {
        let count = Out::new(len, "len")?;
        let tokens = ptr::slice(tokens, n_tokens, "tokens")?;
        let only_count = text.is_null();
        let out = if only_count { &mut [] } else { ptr::slice_mut(text.cast::<u8>(), capacity, "text")? };
        count.set(match tokenizer.core.decode(tokens, out) {
            Err(Error::MemoryTooSmall { need, .. }) if only_count => need as usize,
            result => result?,
        });
        Ok(())
    })
}

/// Text from tokens as they come: writes what `token` completes to `text`, which has room for `capacity` bytes, and its
/// length to `*len`. Only whole characters are written, what is not UTF-8 as U+FFFD, and control tokens as nothing. No NUL
/// is added.
///
/// Errors: DSV4_BAD_TOKEN; DSV4_BAD_ARGUMENT for a stream that is none; DSV4_MEMORY_TOO_SMALL, with `need` in bytes: the
/// stream has not changed then. Any thread, one at a time for each stream.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_tokenizer_stream(
    tokenizer: *const dsv4_tokenizer,
    stream: *mut dsv4_stream,
    token: u32,
    text: *mut c_char,
    capacity: usize,
    len: *mut usize,
) -> dsv4_status {
    with(tokenizer, |tokenizer| {
        let core = &tokenizer.core;
        let bytes = core.piece(token).ok_or(Error::BadToken { token })?;
        let bytes = if core.is_control(token) { &[] } else { bytes };
        push(stream, text, capacity, len, |decoder, out| Ok(decoder.push(bytes, out)?.len()))
    })
}

/// Ends a stream: writes U+FFFD to `text` if a character was left half, nothing otherwise, and its length to `*len`. The
/// stream then begins anew.
///
/// Errors: DSV4_BAD_ARGUMENT, DSV4_MEMORY_TOO_SMALL (4 bytes are enough). Any thread, one at a time for each stream.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_stream_end(
    stream: *mut dsv4_stream,
    text: *mut c_char,
    capacity: usize,
    len: *mut usize,
) -> dsv4_status {
    status(push(stream, text, capacity, len, |decoder, out| {
        let rest = decoder.finish().as_bytes();
        let small = Error::MemoryTooSmall { need: rest.len() as u64, got: out.len() as u64 };
        out.get_mut(..rest.len()).ok_or(small)?.copy_from_slice(rest);
        Ok(rest.len())
    }))
}

fn push(
    stream: *mut dsv4_stream,
    text: *mut c_char,
    capacity: usize,
    len: *mut usize,
    work: impl FnOnce(&mut StreamDecoder, &mut [u8]) -> Result<usize>,
) -> Result<()> {
    let count = Out::new(len, "len")?;
    let out = ptr::slice_mut(text.cast::<u8>(), capacity, "text")?;
    let mut decoder = ptr::read(stream, "stream")?.decoder()?;
    let stream = Out::new(stream, "stream")?;
    count.set(work(&mut decoder, out)?);
    stream.set(dsv4_stream::of(&decoder));
    Ok(())
}

/// A token is structure that readers should not see as text: `<｜User｜>` and its like.
pub const DSV4_TOKEN_CONTROL: u32 = 1;
/// A token that dsv4_tokenizer_encode finds with `special` only.
pub const DSV4_TOKEN_ADDED: u32 = 2;

/// A token's own bytes, which need not be whole characters: `*bytes` points to `*len` of them in the tokenizer, without a
/// NUL, until that is freed. `*flags` are of DSV4_TOKEN_CONTROL and DSV4_TOKEN_ADDED. Errors: DSV4_BAD_TOKEN. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_tokenizer_piece(
    tokenizer: *const dsv4_tokenizer,
    token: u32,
    bytes: *mut *const c_char,
    len: *mut usize,
    flags: *mut u32,
) -> dsv4_status {
    with(tokenizer, |tokenizer| {
        let (start, count, kind) = (Out::new(bytes, "bytes")?, Out::new(len, "len")?, Out::new(flags, "flags")?);
        let core = &tokenizer.core;
        let piece = core.piece(token).ok_or(Error::BadToken { token })?;
        start.set(piece.as_ptr().cast());
        count.set(piece.len());
        let flag = |holds, flag| if holds { flag } else { 0 };
        kind.set(flag(core.is_control(token), DSV4_TOKEN_CONTROL) | flag(core.is_added(token), DSV4_TOKEN_ADDED));
        Ok(())
    })
}

/// The token whose text is exactly the `len` bytes at `text`, `<think>` say. Errors: DSV4_BAD_TOKEN if there is none. Any
/// thread.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_tokenizer_find(
    tokenizer: *const dsv4_tokenizer,
    text: *const c_char,
    len: usize,
    token: *mut u32,
) -> dsv4_status {
    with(tokenizer, |tokenizer| {
        let out = Out::new(token, "token")?;
        let text = std::str::from_utf8(ptr::slice(text.cast(), len, "text")?).ok();
        let found = text.and_then(|text| tokenizer.core.token_id(text));
        out.set(found.ok_or(Error::BadToken { token: DSV4_NO_TOKEN })?);
        Ok(())
    })
}

/// The details of the last error of a call on this tokenizer, by whichever thread; all zeros if there was none. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_tokenizer_last_error(tokenizer: *const dsv4_tokenizer, error: *mut dsv4_error) -> dsv4_status {
    status(ptr::object(tokenizer).and_then(|tokenizer| tokenizer.last.write(error)))
}

/// Frees a tokenizer; NULL does nothing. No other call may use it at the same time or afterwards.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_tokenizer_free(tokenizer: *mut dsv4_tokenizer) -> dsv4_status {
    if tokenizer.is_null() { dsv4_status::DSV4_OK } else { status(ptr::destroy(tokenizer)) }
}
