/*
 * dsv4: DeepSeek-V4 in your program. include/README.md tells the way through this header.
 *
 * Every function returns a dsv4_status (but the three that tell what the library is). Arguments come in this order: the
 * handle, what goes in, what comes out. Single outputs are written only if the status is DSV4_OK; arrays and dsv4_error
 * structs as the function says. Pointers may not be NULL unless it is said. Structs begin with their size, so that they
 * can grow: set it to sizeof, and all that you do not set to zero. Nothing is ever printed, and no signal or environment
 * is looked at.
 *
 * Made from ffi/src/abi by cbindgen; edit there.
 */


#ifndef DSV4_H
#define DSV4_H

#include <stddef.h>
#include <stdint.h>

/*
 The version of the ABI that this header describes. It changes only if a program compiled against an older header
 would break: functions, statuses and fields at the ends of structs are added without it.
 */
#define DSV4_ABI_VERSION 1

/*
 No such token: `bos` or `eos` of a vocabulary without it.
 */
#define DSV4_NO_TOKEN UINT32_MAX

/*
 A token is structure that readers should not see as text: `<｜User｜>` and its like.
 */
#define DSV4_TOKEN_CONTROL 1

/*
 A token that dsv4_tokenizer_encode finds with `special` only.
 */
#define DSV4_TOKEN_ADDED 2

/*
 What came of a call. The numbers are permanent and the same in every language; new ones may be added.
 */
enum dsv4_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /*
     All went well: the outputs are written.
     */
    DSV4_OK = 0,
    /*
     The file ends early.
     */
    DSV4_TRUNCATED = 1,
    /*
     Not a GGUF file.
     */
    DSV4_NOT_GGUF = 2,
    /*
     A GGUF version other than 2 and 3.
     */
    DSV4_UNSUPPORTED_VERSION = 3,
    /*
     A count or length that cannot be true of these bytes.
     */
    DSV4_BAD_COUNT = 4,
    /*
     A key or tensor name that is not valid.
     */
    DSV4_BAD_NAME = 5,
    /*
     A metadata value of a wrong or unknown type.
     */
    DSV4_BAD_VALUE_TYPE = 6,
    /*
     A metadata value that makes no sense.
     */
    DSV4_BAD_VALUE = 7,
    /*
     A metadata key that is needed and missing.
     */
    DSV4_MISSING_KEY = 8,
    /*
     A metadata key given twice.
     */
    DSV4_DUPLICATE_KEY = 9,
    /*
     Another architecture than deepseek4.
     */
    DSV4_UNSUPPORTED_ARCHITECTURE = 10,
    /*
     A JSON text that is not valid.
     */
    DSV4_BAD_JSON = 11,
    /*
     A tensor that is needed and missing.
     */
    DSV4_MISSING_TENSOR = 20,
    /*
     A tensor given twice.
     */
    DSV4_DUPLICATE_TENSOR = 21,
    /*
     A tensor whose shape is not the one that the sizes demand.
     */
    DSV4_BAD_SHAPE = 22,
    /*
     A tensor of a type that does not exist, is not supported, or does not fit.
     */
    DSV4_BAD_TENSOR_TYPE = 23,
    /*
     A tensor whose bytes lie outside the file, are unaligned, or overlap another's.
     */
    DSV4_BAD_OFFSET = 24,
    /*
     Split files that are missing, doubled, out of order or of different models.
     */
    DSV4_BAD_SPLIT = 25,
    /*
     Memory or an output too small (`need` of dsv4_error says how much), or the allocator has none.
     */
    DSV4_MEMORY_TOO_SMALL = 40,
    /*
     Memory that does not start at a multiple of 64.
     */
    DSV4_MEMORY_MISALIGNED = 41,
    /*
     Sizes that this machine's address space cannot hold.
     */
    DSV4_TOO_LARGE = 42,
    /*
     An argument that makes no sense: NULL, misaligned, a wrong length, a handle that was freed.
     */
    DSV4_BAD_ARGUMENT = 50,
    /*
     A token outside the vocabulary.
     */
    DSV4_BAD_TOKEN = 51,
    /*
     More tokens than the session's context holds.
     */
    DSV4_CONTEXT_FULL = 52,
    /*
     A callback or dsv4_session_cancel stopped it; what was evaluated before stays valid.
     */
    DSV4_CANCELLED = 53,
    /*
     The hash table of a routing layer names an expert that does not exist.
     */
    DSV4_BAD_EXPERT = 54,
    /*
     Rewinding further back than the session keeps.
     */
    DSV4_CANNOT_REWIND = 55,
    /*
     Something that this build does not have.
     */
    DSV4_UNSUPPORTED = 56,
    /*
     The file has no byte-level BPE tokenizer.
     */
    DSV4_NO_TOKENIZER = 70,
    /*
     A pre-tokenizer that is not supported.
     */
    DSV4_UNSUPPORTED_PRE_TOKENIZER = 71,
    /*
     A token or merge rule that is not valid.
     */
    DSV4_BAD_VOCABULARY = 72,
    /*
     The bytes are not a snapshot.
     */
    DSV4_NOT_SNAPSHOT = 80,
    /*
     A snapshot of a version that this library does not know.
     */
    DSV4_UNSUPPORTED_SNAPSHOT = 81,
    /*
     A snapshot that ends early, goes on too long, was changed, or contradicts itself.
     */
    DSV4_SNAPSHOT_DAMAGED = 82,
    /*
     A snapshot of another model.
     */
    DSV4_SNAPSHOT_OF_OTHER_MODEL = 83,
    /*
     A snapshot of a session with another `matmul` or `cache`.
     */
    DSV4_SNAPSHOT_OF_OTHER_NUMBERS = 84,
    /*
     The operating system refused.
     */
    DSV4_IO = 90,
    /*
     The handle is used by another call at this moment, or other handles still depend on it.
     */
    DSV4_BUSY = 91,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum dsv4_status dsv4_status;
#else
typedef int32_t dsv4_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/*
 How matrices are multiplied: `matmul` of dsv4_session_params.
 */
enum dsv4_matmul
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /*
     Activations in 8-bit blocks where the weights are quantized too.
     */
    DSV4_MATMUL_FAST = 0,
    /*
     f32 activations against dequantized weights.
     */
    DSV4_MATMUL_EXACT = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum dsv4_matmul dsv4_matmul;
#else
typedef uint32_t dsv4_matmul;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/*
 How the cache is stored: `cache` of dsv4_session_params.
 */
enum dsv4_cache
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /*
     The library's choice, which may change with its version.
     */
    DSV4_CACHE_DEFAULT = 0,
    /*
     f32, as computed.
     */
    DSV4_CACHE_F32 = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum dsv4_cache dsv4_cache;
#else
typedef uint32_t dsv4_cache;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/*
 How much a line of the log matters.
 */
enum dsv4_log_level
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /*
     Something failed; the same call returns a status other than DSV4_OK.
     */
    DSV4_LOG_ERROR = 1,
    /*
     Something is assumed or unusual.
     */
    DSV4_LOG_WARNING = 2,
    /*
     What was done.
     */
    DSV4_LOG_INFO = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum dsv4_log_level dsv4_log_level;
#else
typedef int32_t dsv4_log_level;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/*
 A loaded model. It never changes: any number of threads may use it at the same time.
 */
typedef struct dsv4_model dsv4_model;

/*
 Chooses tokens, and has the state of its random numbers. One call at a time may use it, on any thread; a second one
 that comes meanwhile gets DSV4_BUSY.
 */
typedef struct dsv4_sampler dsv4_sampler;

/*
 One timeline over a model: tokens in, logits out. One call at a time may use it, on any thread; a second one that comes
 meanwhile gets DSV4_BUSY. Only dsv4_session_cancel may come at any time.
 */
typedef struct dsv4_session dsv4_session;

/*
 Text to tokens and back. It never changes: any number of threads may use it at the same time.
 */
typedef struct dsv4_tokenizer dsv4_tokenizer;

/*
 Bytes that the caller keeps, unchanged, for as long as whatever was made of them.
 */
typedef struct dsv4_bytes {
    /*
     Where they begin, at any alignment.
     */
    const void *data;
    /*
     How many they are.
     */
    size_t len;
} dsv4_bytes;

/*
 Runs parallel work on the caller's threads: it must call `task(context)` `n` times in all, on whatever threads, the
 calling one or others, and return when all these calls have returned. Called on the thread that evaluates. Calls left
 out or made twice do no harm; calls after the return do.
 */
typedef void (*dsv4_parallel_fn)(void *user, size_t n, void (*task)(void *context), void *context);

/*
 Two functions that give memory and take it back. Both may be called on any thread that calls the library.
 */
typedef struct dsv4_allocator {
    /*
     sizeof(dsv4_allocator).
     */
    size_t size;
    /*
     Gives `bytes` bytes that start at a multiple of `align` (64), or NULL. Their values do not matter.
     */
    void *(*alloc)(void *user, size_t bytes, size_t align);
    /*
     Takes back what `alloc` gave, with the number of bytes it was asked for.
     */
    void (*free)(void *user, void *memory, size_t bytes);
    /*
     The first argument of both.
     */
    void *user;
} dsv4_allocator;

/*
 Takes one line of the log: `level` is a dsv4_log_level, `message` one line in UTF-8 without line feed that exists only
 during the call. Called on the thread whose call has something to say, never by others; it must not call the library
 on the same handle.
 */
typedef void (*dsv4_log_fn)(void *user, int level, const char *message);

/*
 How far a call is.
 */
typedef struct dsv4_progress {
    /*
     sizeof(dsv4_progress) of the library: fields past it do not exist.
     */
    size_t size;
    /*
     The part done, 0 to 1.
     */
    float fraction;
    /*
     Layers done for the batch in work (evaluation only).
     */
    uint32_t layer;
    /*
     Tokens of this call that are evaluated, and stay so if it is cancelled now (evaluation only).
     */
    size_t tokens;
    /*
     Tokens of this call: 1 when decoding, the prompt's when prefilling, 0 when loading.
     */
    size_t of;
} dsv4_progress;

/*
 Told how far a call is: a result other than 0 cancels it. `progress` exists only during the call. Called on the thread
 that made the call: while a model loads a few times, during an evaluation after every layer of every batch.
 */
typedef int (*dsv4_progress_fn)(void *user, const struct dsv4_progress *progress);

/*
 How to open a model. All zeros but `size` and either `path` or `shards` are the defaults.
 */
typedef struct dsv4_model_params {
    /*
     sizeof(dsv4_model_params).
     */
    size_t size;
    /*
     The `.gguf` file, or the first of its splits, which are found beside it. It is mapped, and must not be changed or
     shortened before dsv4_model_free. Bytes as the system has them; UTF-8 on Windows.
     */
    const char *path;
    /*
     Instead of `path`: the bytes of the file, or of its splits in order. The list is only read during the call; the
     bytes are the caller's, who keeps them, unchanged, until dsv4_model_free.
     */
    const struct dsv4_bytes *shards;
    /*
     How many `shards` there are.
     */
    size_t n_shards;
    /*
     Threads that a session of this model works with at most: 0 as many as there are physical cores, 1 the calling one
     alone. Without `parallel` the library starts the others and ends them with the model; all its sessions share them.
     */
    uint32_t threads;
    /*
     The caller's threads instead of the library's, or NULL; `threads` then says how many of them may work at once.
     */
    dsv4_parallel_fn parallel;
    /*
     The first argument of `parallel`.
     */
    void *parallel_user;
    /*
     Who gives memory to the model and to its sessions, or NULL for the C library. Read during the call only.
     */
    const struct dsv4_allocator *allocator;
    /*
     The log, or NULL.
     */
    dsv4_log_fn log;
    /*
     The first argument of `log`.
     */
    void *log_user;
    /*
     Told how far loading is, or NULL.
     */
    dsv4_progress_fn progress;
    /*
     The first argument of `progress`.
     */
    void *progress_user;
} dsv4_model_params;

/*
 The details of an error. Set `size` to sizeof(dsv4_error) before it is passed.
 */
typedef struct dsv4_error {
    /*
     sizeof(dsv4_error).
     */
    size_t size;
    /*
     The dsv4_status.
     */
    int32_t status;
    /*
     The operating system's number for DSV4_IO, or 0.
     */
    int32_t os;
    /*
     Bytes needed in all, for DSV4_MEMORY_TOO_SMALL; else 0.
     */
    uint64_t need;
    /*
     Offset in the file, or position in the text, where there is one; else 0.
     */
    uint64_t at;
    /*
     The tensor or key in question, ended by NUL; "" where there is none.
     */
    char name[64];
    /*
     A sentence in English on one line, ended by NUL; cut if it is longer. "" if there is no error.
     */
    char message[512];
} dsv4_error;

/*
 What a model is. Set `size` before it is passed.
 */
typedef struct dsv4_model_info {
    /*
     sizeof(dsv4_model_info).
     */
    size_t size;
    /*
     Tokens of the vocabulary: the length of a row of logits.
     */
    size_t vocab;
    /*
     Positions that the model was made for: the most that a session can have.
     */
    size_t context;
    /*
     Layers, without those that only draft.
     */
    size_t layers;
    /*
     The width of a residual stream.
     */
    size_t hidden;
    /*
     Routed experts of a layer.
     */
    size_t experts;
    /*
     Of these, how many work on each token.
     */
    size_t experts_used;
    /*
     Bytes of all tensors.
     */
    uint64_t weight_bytes;
    /*
     Bytes of memory that the model takes beside its weights.
     */
    uint64_t memory_bytes;
} dsv4_model_info;

/*
 Where a tokenizer comes from: exactly one of `model`, `path` and `file`, which it does not need afterwards.
 */
typedef struct dsv4_tokenizer_params {
    /*
     sizeof(dsv4_tokenizer_params).
     */
    size_t size;
    /*
     A model, whose tokenizer is meant.
     */
    const struct dsv4_model *model;
    /*
     A `.gguf` file or a `tokenizer.json`, as `path` of dsv4_model_params.
     */
    const char *path;
    /*
     The bytes of such a file. Read during the call only.
     */
    const struct dsv4_bytes *file;
    /*
     Who gives memory, or NULL for the C library. Read during the call only.
     */
    const struct dsv4_allocator *allocator;
} dsv4_tokenizer_params;

/*
 What a tokenizer is. Set `size` before it is passed.
 */
typedef struct dsv4_tokenizer_info {
    /*
     sizeof(dsv4_tokenizer_info).
     */
    size_t size;
    /*
     One more than the highest token.
     */
    size_t vocab;
    /*
     The token that begins a text, or DSV4_NO_TOKEN.
     */
    uint32_t bos;
    /*
     The token that ends a text, or DSV4_NO_TOKEN.
     */
    uint32_t eos;
} dsv4_tokenizer_info;

/*
 The bytes of a character that is not whole yet, between the tokens of a stream. All zeros begin one; copies are as good
 as the original. Never grows.
 */
typedef struct dsv4_stream {
    /*
     The bytes.
     */
    uint8_t held[4];
    /*
     How many they are.
     */
    uint32_t len;
} dsv4_stream;

/*
 What a session is made for. All zeros but `size` are the defaults, as is NULL.
 */
typedef struct dsv4_session_params {
    /*
     sizeof(dsv4_session_params).
     */
    size_t size;
    /*
     Tokens at most, up to the model's; 0: 4096, or the model's if that is less.
     */
    size_t context;
    /*
     Tokens evaluated together at most: more make prefill faster and memory larger, and never change results. 0: 512.
     */
    size_t batch;
    /*
     Tokens that dsv4_session_rewind can go back, at least; 0: 32. To position 0 it always can.
     */
    size_t rewind;
    /*
     A dsv4_matmul.
     */
    uint32_t matmul;
    /*
     A dsv4_cache.
     */
    uint32_t cache;
} dsv4_session_params;

/*
 How to choose tokens. All zeros but `size` and `vocab` take the likeliest each time.
 */
typedef struct dsv4_sampler_params {
    /*
     sizeof(dsv4_sampler_params).
     */
    size_t size;
    /*
     The model's vocabulary, of dsv4_model_info.
     */
    size_t vocab;
    /*
     Any number: the same one gives the same tokens on every machine.
     */
    uint64_t seed;
    /*
     0 or more: 0 always takes the highest logit, 1 draws from the model's own distribution.
     */
    float temperature;
    /*
     Keep this many of the likeliest; 0 keeps all.
     */
    uint32_t top_k;
    /*
     Keep the likeliest with this share of the weight together; 0 and 1 keep all.
     */
    float top_p;
    /*
     Keep what has at least this share of the likeliest one's weight; 0 keeps all.
     */
    float min_p;
    /*
     Divides positive logits of recent tokens and multiplies negative ones; 0 and 1 do nothing.
     */
    float repetition;
    /*
     Subtracted from the logits of recent tokens.
     */
    float presence;
    /*
     Subtracted once an occurrence.
     */
    float frequency;
    /*
     Who gives memory, or NULL for the C library. Read during the call only.
     */
    const struct dsv4_allocator *allocator;
} dsv4_sampler_params;

/*
 What to add to one token's logit; infinite to force or to forbid it. Never grows.
 */
typedef struct dsv4_logit_bias {
    /*
     The token.
     */
    uint32_t token;
    /*
     Added before temperature.
     */
    float add;
} dsv4_logit_bias;

/*
 A token and its probability. Never grows.
 */
typedef struct dsv4_log_prob {
    /*
     The token.
     */
    uint32_t token;
    /*
     The natural logarithm of its probability, at most 0.
     */
    float log_prob;
} dsv4_log_prob;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 The name of `status`, e.g. "DSV4_NOT_GGUF"; "unknown status" for other numbers. Static; any thread.
 */
const char *dsv4_status_name(int32_t status);

/*
 The library's DSV4_ABI_VERSION: a program that loads it at run time compares it with its header's. Any thread.
 */
uint32_t dsv4_abi_version(void);

/*
 The library's version, e.g. "0.1.0". Static; any thread.
 */
const char *dsv4_version(void);

/*
 The bytes of memory that dsv4_model_open_in needs for these parameters: only headers are read, so the tensors' data may
 be cut off.

 Errors: all that is wrong with the file's headers and metadata; `error`, if not NULL, has the details. Any thread.
 */
dsv4_status dsv4_model_plan(const struct dsv4_model_params *params, size_t *bytes, struct dsv4_error *error);

/*
 Opens a model in memory of `params->allocator`. Only headers are read, so the time does not depend on the file's size.

 On success `*model` is the caller's, who frees it by dsv4_model_free after everything that was made from it. Errors: all
 that can be wrong with a file, DSV4_IO, DSV4_MEMORY_TOO_SMALL if the allocator has none, DSV4_CANCELLED by the progress
 callback; `error`, if not NULL, has the details. Any thread.
 */
dsv4_status dsv4_model_open(const struct dsv4_model_params *params,
                            struct dsv4_model **model,
                            struct dsv4_error *error);

/*
 Opens a model in the `bytes` bytes at `memory`, which start at a multiple of 64 and are the model's until
 dsv4_model_free. With `shards`, and `threads` 1 or `parallel`, nothing is allocated, now or by any use.

 Errors: as dsv4_model_open; DSV4_MEMORY_TOO_SMALL, whose `need` is dsv4_model_plan's; DSV4_MEMORY_MISALIGNED.
 */
dsv4_status dsv4_model_open_in(const struct dsv4_model_params *params,
                               void *memory,
                               size_t bytes,
                               struct dsv4_model **model,
                               struct dsv4_error *error);

/*
 Tells what the model is: fills `info` as far as its `size` goes. Any thread.
 */
dsv4_status dsv4_model_get_info(const struct dsv4_model *model, struct dsv4_model_info *info);

/*
 The details of the last error of a call on this model, by whichever thread; all zeros if there was none. Any thread.
 */
dsv4_status dsv4_model_last_error(const struct dsv4_model *model, struct dsv4_error *error);

/*
 Frees a model; NULL does nothing. DSV4_BUSY, and nothing is freed, while it has sessions. No other call may use the
 model at the same time or afterwards.
 */
dsv4_status dsv4_model_free(struct dsv4_model *model);

/*
 The bytes of memory that dsv4_tokenizer_new_in needs for these parameters.

 Errors: DSV4_NO_TOKENIZER and all else that can be wrong with a file; `error`, if not NULL, has the details. Any thread.
 */
dsv4_status dsv4_tokenizer_plan(const struct dsv4_tokenizer_params *params,
                                size_t *bytes,
                                struct dsv4_error *error);

/*
 Makes a tokenizer in memory of `params->allocator`: a few milliseconds for each 10,000 tokens.

 On success `*tokenizer` is the caller's, who frees it by dsv4_tokenizer_free; it outlives a model that it came from.
 Errors: as dsv4_tokenizer_plan, DSV4_MEMORY_TOO_SMALL; `error`, if not NULL, has the details. Any thread.
 */
dsv4_status dsv4_tokenizer_new(const struct dsv4_tokenizer_params *params,
                               struct dsv4_tokenizer **tokenizer,
                               struct dsv4_error *error);

/*
 Makes a tokenizer in the `bytes` bytes at `memory`, which start at a multiple of 64 and are the tokenizer's until
 dsv4_tokenizer_free. Nothing is allocated, now or by any use, if it does not come from `path`.

 Errors: as dsv4_tokenizer_new; DSV4_MEMORY_TOO_SMALL, whose `need` is dsv4_tokenizer_plan's; DSV4_MEMORY_MISALIGNED.
 */
dsv4_status dsv4_tokenizer_new_in(const struct dsv4_tokenizer_params *params,
                                  void *memory,
                                  size_t bytes,
                                  struct dsv4_tokenizer **tokenizer,
                                  struct dsv4_error *error);

/*
 Tells what the tokenizer is: fills `info` as far as its `size` goes. Any thread.
 */
dsv4_status dsv4_tokenizer_get_info(const struct dsv4_tokenizer *tokenizer, struct dsv4_tokenizer_info *info);

/*
 Encodes the `len` bytes of UTF-8 at `text`: writes the number of tokens to `*n_tokens`, and them to `tokens`, which has
 room for `capacity`; NULL only counts. There is at most one a byte.

 With `special` other than 0, added tokens in the text (`<think>` and its like) are recognized: for text that a program
 wrote. With 0 all of it is plain text: for text of strangers.

 Errors: DSV4_BAD_ARGUMENT for text that is not UTF-8; DSV4_MEMORY_TOO_SMALL, with `need` in bytes, if there is not enough
 room, or if text without a break for more than 512 bytes meets a tokenizer in the caller's memory (others allocate for
 it). Any thread.
 */
dsv4_status dsv4_tokenizer_encode(const struct dsv4_tokenizer *tokenizer,
                                  const char *text,
                                  size_t len,
                                  int special,
                                  uint32_t *tokens,
                                  size_t capacity,
                                  size_t *n_tokens);

/*
 The bytes of `n_tokens` tokens, one after the other: writes their number to `*len`, and them to `text`, which has room for
 `capacity`; NULL only counts. No NUL is added. They are whole characters only if the tokens end with one: see
 dsv4_tokenizer_stream.

 Errors: DSV4_BAD_TOKEN; DSV4_MEMORY_TOO_SMALL, with `need` in bytes. Any thread.
 */
dsv4_status dsv4_tokenizer_decode(const struct dsv4_tokenizer *tokenizer,
                                  const uint32_t *tokens,
                                  size_t n_tokens,
                                  char *text,
                                  size_t capacity,
                                  size_t *len);

/*
 Text from tokens as they come: writes what `token` completes to `text`, which has room for `capacity` bytes, and its
 length to `*len`. Only whole characters are written, what is not UTF-8 as U+FFFD, and control tokens as nothing. No NUL
 is added.

 Errors: DSV4_BAD_TOKEN; DSV4_BAD_ARGUMENT for a stream that is none; DSV4_MEMORY_TOO_SMALL, with `need` in bytes: the
 stream has not changed then. Any thread, one at a time for each stream.
 */
dsv4_status dsv4_tokenizer_stream(const struct dsv4_tokenizer *tokenizer,
                                  struct dsv4_stream *stream,
                                  uint32_t token,
                                  char *text,
                                  size_t capacity,
                                  size_t *len);

/*
 Ends a stream: writes U+FFFD to `text` if a character was left half, nothing otherwise, and its length to `*len`. The
 stream then begins anew.

 Errors: DSV4_BAD_ARGUMENT, DSV4_MEMORY_TOO_SMALL (4 bytes are enough). Any thread, one at a time for each stream.
 */
dsv4_status dsv4_stream_end(struct dsv4_stream *stream, char *text, size_t capacity, size_t *len);

/*
 A token's own bytes, which need not be whole characters: `*bytes` points to `*len` of them in the tokenizer, without a
 NUL, until that is freed. `*flags` are of DSV4_TOKEN_CONTROL and DSV4_TOKEN_ADDED. Errors: DSV4_BAD_TOKEN. Any thread.
 */
dsv4_status dsv4_tokenizer_piece(const struct dsv4_tokenizer *tokenizer,
                                 uint32_t token,
                                 const char **bytes,
                                 size_t *len,
                                 uint32_t *flags);

/*
 The token whose text is exactly the `len` bytes at `text`, `<think>` say. Errors: DSV4_BAD_TOKEN if there is none. Any
 thread.
 */
dsv4_status dsv4_tokenizer_find(const struct dsv4_tokenizer *tokenizer, const char *text, size_t len, uint32_t *token);

/*
 The details of the last error of a call on this tokenizer, by whichever thread; all zeros if there was none. Any thread.
 */
dsv4_status dsv4_tokenizer_last_error(const struct dsv4_tokenizer *tokenizer,
                                      struct dsv4_error *error);

/*
 Frees a tokenizer; NULL does nothing. No other call may use it at the same time or afterwards.
 */
dsv4_status dsv4_tokenizer_free(struct dsv4_tokenizer *tokenizer);

/*
 The bytes of memory that dsv4_session_new_in needs for these parameters, exactly.

 Errors: DSV4_BAD_ARGUMENT for parameters that make no sense, DSV4_TOO_LARGE; `error`, if not NULL, has the details. Any
 thread.
 */
dsv4_status dsv4_session_plan(const struct dsv4_model *model,
                              const struct dsv4_session_params *params,
                              size_t *bytes,
                              struct dsv4_error *error);

/*
 Makes an empty session in memory of the model's allocator.

 On success `*session` is the caller's, who frees it by dsv4_session_free before the model. Errors: as
 dsv4_session_plan; DSV4_MEMORY_TOO_SMALL if the allocator has none; `error`, if not NULL, has the details. Any thread.
 */
dsv4_status dsv4_session_new(const struct dsv4_model *model,
                             const struct dsv4_session_params *params,
                             struct dsv4_session **session,
                             struct dsv4_error *error);

/*
 Makes an empty session in the `bytes` bytes at `memory`, which start at a multiple of 64 and are the session's until
 dsv4_session_free. Nothing is allocated, now or by any use.

 Errors: as dsv4_session_plan; DSV4_MEMORY_TOO_SMALL, whose `need` is dsv4_session_plan's; DSV4_MEMORY_MISALIGNED.
 */
dsv4_status dsv4_session_new_in(const struct dsv4_model *model,
                                const struct dsv4_session_params *params,
                                void *memory,
                                size_t bytes,
                                struct dsv4_session **session,
                                struct dsv4_error *error);

/*
 Appends `n_tokens` tokens and computes logits into the caller's array, by its length: `n_logits` 0 none, the
 vocabulary's length those of the last token, `n_tokens` times that those of every token, row by row. Logits are natural
 logarithms of weights, in f32.

 Errors: DSV4_BAD_TOKEN, DSV4_CONTEXT_FULL, DSV4_BAD_ARGUMENT before anything is computed; DSV4_CANCELLED and
 DSV4_BAD_EXPERT after some whole batches: dsv4_session_position then says how many tokens the session holds, and all of
 them are valid. DSV4_BUSY while another call uses the session. The logits mean nothing after an error.
 */
dsv4_status dsv4_session_eval(struct dsv4_session *session,
                              const uint32_t *tokens,
                              size_t n_tokens,
                              float *logits,
                              size_t n_logits);

/*
 Makes the evaluation that runs on another thread, or in the interrupted one if a signal handler calls this, end with
 DSV4_CANCELLED within a layer's time; if none runs, the next one. Safe at any time, on any thread, in signal handlers,
 and from callbacks, as long as the session is not freed.
 */
dsv4_status dsv4_session_cancel(struct dsv4_session *session);

/*
 Has `progress` told how far evaluations are, from now on; NULL ends that. `user` is its first argument. DSV4_BUSY while
 another call uses the session.
 */
dsv4_status dsv4_session_set_progress(struct dsv4_session *session, dsv4_progress_fn progress, void *user);

/*
 How many tokens the session holds. DSV4_BUSY while another call uses it.
 */
dsv4_status dsv4_session_position(const struct dsv4_session *session, size_t *position);

/*
 The tokens that the session holds, in their order: writes their number to `*n_tokens` and them to `tokens`, which has
 room for `capacity`; NULL only counts. DSV4_MEMORY_TOO_SMALL, with `need` in bytes, if there is not enough room;
 DSV4_BUSY while another call uses the session.
 */
dsv4_status dsv4_session_tokens(const struct dsv4_session *session,
                                uint32_t *tokens,
                                size_t capacity,
                                size_t *n_tokens);

/*
 Goes back to `position` tokens: what follows gives the same bits as if the rest had never been evaluated. 0 is always
 possible, and as far back as `rewind` of the parameters; else DSV4_CANNOT_REWIND. DSV4_BAD_ARGUMENT past the present;
 DSV4_BUSY while another call uses the session.
 */
dsv4_status dsv4_session_rewind(struct dsv4_session *session, size_t position);

/*
 Goes back to where the session and the `n_tokens` tokens part, as far as it can: `*kept` of them need not be evaluated
 again, and at least one is left, so that there are logits. DSV4_BUSY while another call uses the session.
 */
dsv4_status dsv4_session_keep_prefix(struct dsv4_session *session,
                                     const uint32_t *tokens,
                                     size_t n_tokens,
                                     size_t *kept);

/*
 The bytes that dsv4_session_save writes now; they grow with the position. DSV4_BUSY while another call uses the session.
 */
dsv4_status dsv4_session_snapshot_size(const struct dsv4_session *session,
                                       size_t *bytes);

/*
 Saves the session's timeline: writes a snapshot, in a format that other versions of the library read, to the `capacity`
 bytes at `snapshot`, and its length to `*bytes`. It holds the tokens and what following ones look back at; to go on
 from it takes the model too.

 Errors: DSV4_MEMORY_TOO_SMALL, whose `need` is dsv4_session_snapshot_size's; DSV4_BUSY while another call uses the
 session.
 */
dsv4_status dsv4_session_save(const struct dsv4_session *session, void *snapshot, size_t capacity, size_t *bytes);

/*
 Takes over the timeline of the snapshot in the `bytes` bytes at `snapshot`, in the place of the session's: what follows
 gives the same bits as in the session that was saved. The session's context must hold it; its `batch` and `rewind` may
 be others, and it can go back as far as both sessions could.

 Errors, and after each the session is as it was: DSV4_NOT_SNAPSHOT, DSV4_UNSUPPORTED_SNAPSHOT, DSV4_SNAPSHOT_DAMAGED,
 DSV4_SNAPSHOT_OF_OTHER_MODEL, DSV4_SNAPSHOT_OF_OTHER_NUMBERS (another `matmul` or `cache`), DSV4_CONTEXT_FULL,
 DSV4_BUSY while another call uses the session. A checksum finds accidents; a snapshot made with intent can make the
 model say anything, and do no other harm.
 */
dsv4_status dsv4_session_restore(struct dsv4_session *session, const void *snapshot, size_t bytes);

/*
 The details of the last error of a call on this session; all zeros if there was none. Any thread.
 */
dsv4_status dsv4_session_last_error(const struct dsv4_session *session, struct dsv4_error *error);

/*
 Frees a session; NULL does nothing. DSV4_BUSY, and nothing is freed, while another call uses it.
 */
dsv4_status dsv4_session_free(struct dsv4_session *session);

/*
 The bytes of memory that dsv4_sampler_new_in needs for these parameters. DSV4_BAD_ARGUMENT for those that make no sense;
 `error`, if not NULL, has the details. Any thread.
 */
dsv4_status dsv4_sampler_plan(const struct dsv4_sampler_params *params,
                              size_t *bytes,
                              struct dsv4_error *error);

/*
 Makes a sampler in memory of `params->allocator`.

 On success `*sampler` is the caller's, who frees it by dsv4_sampler_free. Errors: DSV4_BAD_ARGUMENT,
 DSV4_MEMORY_TOO_SMALL; `error`, if not NULL, has the details. Any thread.
 */
dsv4_status dsv4_sampler_new(const struct dsv4_sampler_params *params,
                             struct dsv4_sampler **sampler,
                             struct dsv4_error *error);

/*
 Makes a sampler in the `bytes` bytes at `memory`, which start at a multiple of 64 and are the sampler's until
 dsv4_sampler_free. Nothing is allocated, now or by any use.

 Errors: as dsv4_sampler_new; DSV4_MEMORY_TOO_SMALL, whose `need` is dsv4_sampler_plan's; DSV4_MEMORY_MISALIGNED.
 */
dsv4_status dsv4_sampler_new_in(const struct dsv4_sampler_params *params,
                                void *memory,
                                size_t bytes,
                                struct dsv4_sampler **sampler,
                                struct dsv4_error *error);

/*
 Chooses `*token` by one row of logits, which it spoils. `recent` are the tokens to penalize, `bias` what to add to
 single logits; both may be empty.

 Errors: DSV4_BAD_ARGUMENT unless `n_logits` is 1 to `vocab` of the parameters; DSV4_BAD_TOKEN for a token past the logits;
 DSV4_BUSY while another call uses the sampler. No random number is used up then.
 */
dsv4_status dsv4_sampler_sample(struct dsv4_sampler *sampler,
                                float *logits,
                                size_t n_logits,
                                const uint32_t *recent,
                                size_t n_recent,
                                const struct dsv4_logit_bias *bias,
                                size_t n_bias,
                                uint32_t *token);

/*
 The likeliest tokens by one row of logits, downwards, before penalties, bias, temperature and cuts: at most `capacity`
 of them to `top`, their number to `*n_top`. Before dsv4_sampler_sample spoils the logits.

 Errors: DSV4_BAD_ARGUMENT unless `n_logits` is 1 to `vocab` of the parameters; DSV4_BUSY while another call uses the
 sampler.
 */
dsv4_status dsv4_sampler_top(struct dsv4_sampler *sampler,
                             const float *logits,
                             size_t n_logits,
                             struct dsv4_log_prob *top,
                             size_t capacity,
                             size_t *n_top);

/*
 The natural logarithm of `token`'s probability by one row of logits, before penalties, bias, temperature and cuts.

 Errors: DSV4_BAD_ARGUMENT, DSV4_BAD_TOKEN for a token past the logits. Any thread.
 */
dsv4_status dsv4_log_prob_of(const float *logits, size_t n_logits, uint32_t token, float *log_prob);

/*
 The details of the last error of a call on this sampler; all zeros if there was none. Any thread.
 */
dsv4_status dsv4_sampler_last_error(const struct dsv4_sampler *sampler, struct dsv4_error *error);

/*
 Frees a sampler; NULL does nothing. DSV4_BUSY, and nothing is freed, while another call uses it.
 */
dsv4_status dsv4_sampler_free(struct dsv4_sampler *sampler);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* DSV4_H */
