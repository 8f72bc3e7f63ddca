// dsv4 for C++17: handles that free themselves, spans and string views, and results instead of out parameters.
//
// Every call that can fail gives a result<T>: test it and read error(), or call value(), which throws dsv4::exception.
// The choice is made call by call; compiled without exceptions, value() of an error ends the program.
// All that dsv4.h says about lifetimes and threads holds: a model outlives its sessions.
#ifndef DSV4_HPP
#define DSV4_HPP

#include "dsv4.h"

#include <cstdlib>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#if defined(__cpp_exceptions) || defined(_CPPUNWIND)
#define DSV4_HPP_EXCEPTIONS 1
#endif

namespace dsv4 {

// What went wrong.
struct failure {
    dsv4_status status = DSV4_OK;
    std::string message;
    std::string name;        // the tensor or key, if there is one
    std::uint64_t need = 0;  // bytes, for DSV4_MEMORY_TOO_SMALL
    std::uint64_t at = 0;    // offset, if there is one

    failure() = default;
    explicit failure(dsv4_status code) : status(code), message(dsv4_status_name(code)) {}
    failure(dsv4_status code, const dsv4_error &details)
        : status(code), message(details.message), name(details.name), need(details.need), at(details.at) {
        if (message.empty()) message = dsv4_status_name(code);
    }
};

class exception : public std::runtime_error {
public:
    explicit exception(failure what) : std::runtime_error(what.message), failure_(std::move(what)) {}
    const failure &error() const noexcept { return failure_; }

private:
    failure failure_;
};

struct nothing {};

// A value or an error.
template <class T = nothing>
class [[nodiscard]] result {
public:
    result(T value) : holds_(std::in_place_index<0>, std::move(value)) {}
    result(failure what) : holds_(std::in_place_index<1>, std::move(what)) {}

    explicit operator bool() const noexcept { return holds_.index() == 0; }
    // Only of an error.
    const failure &error() const { return std::get<1>(holds_); }
    T &value() & {
        check();
        return std::get<0>(holds_);
    }
    T &&value() && {
        check();
        return std::get<0>(std::move(holds_));
    }

private:
    void check() const {
        if (*this) return;
#ifdef DSV4_HPP_EXCEPTIONS
        throw exception(error());
#else
        std::abort();
#endif
    }
    std::variant<T, failure> holds_;
};

// Some values that lie one after another, borrowed.
template <class T>
class span {
public:
    span() = default;
    span(T *data, std::size_t size) : data_(data), size_(size) {}
    // Of a temporary: until the end of the full expression, as a string_view.
    template <class Container, class = std::enable_if_t<!std::is_same_v<std::decay_t<Container>, span>>,
              class = decltype(std::declval<Container &>().data())>
    span(Container &&values) : data_(values.data()), size_(values.size()) {}

    T *data() const noexcept { return data_; }
    std::size_t size() const noexcept { return size_; }
    T *begin() const noexcept { return data_; }
    T *end() const noexcept { return data_ + size_; }
    T &operator[](std::size_t i) const { return data_[i]; }

private:
    T *data_ = nullptr;
    std::size_t size_ = 0;
};

// What the C structs are by default: zeros, and their size.
template <class Params>
Params defaults() {
    Params params{};
    params.size = sizeof params;
    return params;
}

namespace detail {

template <class T, dsv4_status (*Free)(T *)>
struct freer {
    void operator()(T *handle) const noexcept { Free(handle); }
};
template <class T, dsv4_status (*Free)(T *)>
using owned = std::unique_ptr<T, freer<T, Free>>;

// The result of a call that tells its error by `last` of the handle.
template <class T>
result<> of(dsv4_status status, const T *handle, dsv4_status (*last)(const T *, dsv4_error *)) {
    if (status == DSV4_OK) return nothing{};
    // Whoever uses the handle at this moment, its last error is another call's.
    dsv4_error details = defaults<dsv4_error>();
    if (status == DSV4_BUSY || last(handle, &details) != DSV4_OK || details.status != status) return failure(status);
    return failure(status, details);
}

}  // namespace detail

class model {
public:
    static result<model> open(const char *path, std::uint32_t threads = 0) {
        auto params = defaults<dsv4_model_params>();
        params.path = path;
        params.threads = threads;
        return open(params);
    }

    static result<model> open(const dsv4_model_params &params) {
        dsv4_model *handle = nullptr;
        dsv4_error details = defaults<dsv4_error>();
        const dsv4_status status = dsv4_model_open(&params, &handle, &details);
        if (status != DSV4_OK) return failure(status, details);
        return model(handle);
    }

    dsv4_model_info info() const {
        auto info = defaults<dsv4_model_info>();
        dsv4_model_get_info(get(), &info);
        return info;
    }

    dsv4_model *get() const noexcept { return handle_.get(); }

private:
    explicit model(dsv4_model *handle) : handle_(handle) {}
    detail::owned<dsv4_model, dsv4_model_free> handle_;
};

using stream = dsv4_stream;

class tokenizer {
public:
    static result<tokenizer> of(const model &model) {
        auto params = defaults<dsv4_tokenizer_params>();
        params.model = model.get();
        return open(params);
    }

    static result<tokenizer> open(const dsv4_tokenizer_params &params) {
        dsv4_tokenizer *handle = nullptr;
        dsv4_error details = defaults<dsv4_error>();
        const dsv4_status status = dsv4_tokenizer_new(&params, &handle, &details);
        if (status != DSV4_OK) return failure(status, details);
        return tokenizer(handle);
    }

    dsv4_tokenizer_info info() const {
        auto info = defaults<dsv4_tokenizer_info>();
        dsv4_tokenizer_get_info(get(), &info);
        return info;
    }

    // `special`: added tokens in the text are recognized.
    result<std::vector<std::uint32_t>> encode(std::string_view text, bool special = false) const {
        std::vector<std::uint32_t> tokens(text.size());
        std::size_t count = 0;
        auto done = result_of(
            dsv4_tokenizer_encode(get(), text.data(), text.size(), special, tokens.data(), tokens.size(), &count));
        if (!done) return done.error();
        tokens.resize(count);
        return tokens;
    }

    result<std::string> decode(span<const std::uint32_t> tokens) const {
        std::size_t len = 0;
        auto done = result_of(dsv4_tokenizer_decode(get(), tokens.data(), tokens.size(), nullptr, 0, &len));
        std::string text(len, '\0');
        if (done) {
            done = result_of(dsv4_tokenizer_decode(get(), tokens.data(), tokens.size(), text.data(), len, &len));
        }
        if (!done) return done.error();
        return text;
    }

    // The text that `token` completes.
    result<std::string> push(stream &stream, std::uint32_t token) const {
        const char *bytes = nullptr;
        std::size_t len = 0;
        std::uint32_t flags = 0;
        auto done = result_of(dsv4_tokenizer_piece(get(), token, &bytes, &len, &flags));
        std::string text(3 * (len + 1), '\0');
        if (done) done = result_of(dsv4_tokenizer_stream(get(), &stream, token, text.data(), text.size(), &len));
        if (!done) return done.error();
        text.resize(len);
        return text;
    }

    dsv4_tokenizer *get() const noexcept { return handle_.get(); }

private:
    explicit tokenizer(dsv4_tokenizer *handle) : handle_(handle) {}
    result<> result_of(dsv4_status status) const { return detail::of(status, get(), dsv4_tokenizer_last_error); }
    detail::owned<dsv4_tokenizer, dsv4_tokenizer_free> handle_;
};

class sampler {
public:
    static result<sampler> make(const dsv4_sampler_params &params) {
        dsv4_sampler *handle = nullptr;
        dsv4_error details = defaults<dsv4_error>();
        const dsv4_status status = dsv4_sampler_new(&params, &handle, &details);
        if (status != DSV4_OK) return failure(status, details);
        return sampler(handle);
    }

    // Spoils the logits.
    result<std::uint32_t> sample(span<float> logits, span<const std::uint32_t> recent = {},
                                 span<const dsv4_logit_bias> bias = {}) {
        std::uint32_t token = 0;
        const dsv4_status status = dsv4_sampler_sample(get(), logits.data(), logits.size(), recent.data(),
                                                       recent.size(), bias.data(), bias.size(), &token);
        auto done = detail::of(status, get(), dsv4_sampler_last_error);
        if (!done) return done.error();
        return token;
    }

    dsv4_sampler *get() const noexcept { return handle_.get(); }

private:
    explicit sampler(dsv4_sampler *handle) : handle_(handle) {}
    detail::owned<dsv4_sampler, dsv4_sampler_free> handle_;
};

class session {
public:
    static result<session> make(const model &model,
                                const dsv4_session_params &params = defaults<dsv4_session_params>()) {
        dsv4_session *handle = nullptr;
        dsv4_error details = defaults<dsv4_error>();
        const dsv4_status status = dsv4_session_new(model.get(), &params, &handle, &details);
        if (status != DSV4_OK) return failure(status, details);
        return session(handle);
    }

    // `logits`: none, one row for the last token, or one for every token.
    result<> eval(span<const std::uint32_t> tokens, span<float> logits = {}) {
        return result_of(dsv4_session_eval(get(), tokens.data(), tokens.size(), logits.data(), logits.size()));
    }

    // `progress` gives false to cancel; an empty function ends it.
    result<> on_progress(std::function<bool(const dsv4_progress &)> progress) {
        auto kept = std::make_unique<std::function<bool(const dsv4_progress &)>>(std::move(progress));
        const bool some = static_cast<bool>(*kept);
        auto done = result_of(dsv4_session_set_progress(get(), some ? call : nullptr, kept.get()));
        if (done) progress_ = std::move(kept);
        return done;
    }

    void cancel() noexcept { dsv4_session_cancel(get()); }
    result<> rewind(std::size_t position) { return result_of(dsv4_session_rewind(get(), position)); }
    result<std::size_t> position() const {
        std::size_t position = 0;
        auto done = result_of(dsv4_session_position(get(), &position));
        if (!done) return done.error();
        return position;
    }
    result<std::size_t> keep_prefix(span<const std::uint32_t> tokens) {
        std::size_t kept = 0;
        auto done = result_of(dsv4_session_keep_prefix(get(), tokens.data(), tokens.size(), &kept));
        if (!done) return done.error();
        return kept;
    }

    // The timeline as bytes, and such bytes in the place of the timeline.
    result<std::vector<std::uint8_t>> save() const {
        std::size_t size = 0;
        auto done = result_of(dsv4_session_snapshot_size(get(), &size));
        if (!done) return done.error();
        std::vector<std::uint8_t> snapshot(size);
        done = result_of(dsv4_session_save(get(), snapshot.data(), snapshot.size(), &size));
        if (!done) return done.error();
        return snapshot;
    }
    result<> restore(span<const std::uint8_t> snapshot) {
        return result_of(dsv4_session_restore(get(), snapshot.data(), snapshot.size()));
    }

    dsv4_session *get() const noexcept { return handle_.get(); }

private:
    explicit session(dsv4_session *handle) : handle_(handle) {}
    result<> result_of(dsv4_status status) const { return detail::of(status, get(), dsv4_session_last_error); }
    static int call(void *user, const dsv4_progress *progress) {
        return !(*static_cast<std::function<bool(const dsv4_progress &)> *>(user))(*progress);
    }
    std::unique_ptr<std::function<bool(const dsv4_progress &)>> progress_;
    detail::owned<dsv4_session, dsv4_session_free> handle_;  // last, so that it is freed first
};

}  // namespace dsv4

#endif  // DSV4_HPP
