// C++17 with threads: sessions of one model on several threads at the same time give what one alone gives, over the
// library's pool and over the caller's threads; calls from two threads on one session are refused, not mixed.
//
//     threads MODEL.gguf ROUNDS
#include <dsv4.hpp>

#include <atomic>
#include <cstdio>
#include <thread>

namespace {

using tokens = std::vector<std::uint32_t>;

struct texts {
    const dsv4::model &model;
    const dsv4::tokenizer &tokenizer;

    // `most` tokens after `prompt`, drawn with `seed`.
    tokens generate(std::string_view prompt, std::uint64_t seed, std::size_t most) const {
        const auto vocab = model.info().vocab;
        auto params = dsv4::defaults<dsv4_session_params>();
        params.context = 256;
        auto session = dsv4::session::make(model, params).value();
        auto choice = dsv4::defaults<dsv4_sampler_params>();
        choice.vocab = vocab;
        choice.seed = seed;
        choice.temperature = 1;
        auto sampler = dsv4::sampler::make(choice).value();
        std::vector<float> logits(vocab);
        tokens made;
        tokens next = tokenizer.encode(prompt, true).value();
        while (made.size() < most) {
            session.eval(next, logits).value();
            next = {sampler.sample(logits).value()};
            made.push_back(next[0]);
        }
        return made;
    }
};

// The caller's threads: as many as there are tasks, up to three, anew each time. Slow, but it is a test.
void parallel(void *user, std::size_t n, void (*task)(void *context), void *context) {
    ++*static_cast<std::atomic<int> *>(user);
    std::atomic<std::size_t> left{n};
    const auto work = [&] {
        for (std::size_t now = left; now > 0;) {
            if (left.compare_exchange_weak(now, now - 1)) task(context);
        }
    };
    std::vector<std::thread> threads;
    for (std::size_t i = 1; i < n && i < 3; ++i) threads.emplace_back(work);
    work();
    for (auto &thread : threads) thread.join();
}

int failures = 0;
void expect(bool holds, const char *what) {
    if (holds) return;
    ++failures;
    std::fprintf(stderr, "not so: %s\n", what);
}

void several_sessions(const texts &texts, int rounds) {
    const std::string_view prompts[] = {"One day", "What is", "A silver goose", "Tim"};
    const std::size_t most = 12;
    std::vector<tokens> alone;
    for (std::size_t i = 0; i < 4; ++i) alone.push_back(texts.generate(prompts[i], i, most));
    for (int round = 0; round < rounds; ++round) {
        std::vector<tokens> together(4);
        std::vector<std::thread> threads;
        for (std::size_t i = 0; i < 4; ++i) {
            threads.emplace_back([&, i] { together[i] = texts.generate(prompts[i], i, most); });
        }
        for (auto &thread : threads) thread.join();
        expect(together == alone, "sessions side by side give what they give alone");
    }
}

void one_session(const texts &texts, int rounds) {
    auto session = dsv4::session::make(texts.model).value();
    const auto prompt = texts.tokenizer.encode("One day Tim went to the school and saw a goose.").value();
    std::atomic<int> ok{0}, busy{0}, cancelled{0}, other{0};
    const auto use = [&](bool cancels) {
        for (int i = 0; i < rounds; ++i) {
            if (cancels) session.cancel();
            dsv4_status status = dsv4_session_eval(session.get(), prompt.data(), prompt.size(), nullptr, 0);
            if (status == DSV4_OK) status = dsv4_session_rewind(session.get(), 0);
            ++(status == DSV4_OK ? ok : status == DSV4_BUSY ? busy : status == DSV4_CANCELLED ? cancelled : other);
        }
    };
    std::thread first(use, false), second(use, true), third(use, false);
    first.join();
    second.join();
    third.join();
    std::printf("one session, three threads: %d ok, %d busy, %d cancelled\n", ok.load(), busy.load(), cancelled.load());
    expect(other == 0, "a session used by several threads is busy, cancelled, or does its work");
}

int run(const char *path, int rounds) {
    std::vector<tokens> by_pool, by_caller;
    {
        const auto model = dsv4::model::open(path, 3).value();
        const auto tokenizer = dsv4::tokenizer::of(model).value();
        const texts texts{model, tokenizer};
        several_sessions(texts, rounds);
        one_session(texts, rounds * 4);
        by_pool.push_back(texts.generate("One day", 7, 20));
        expect(tokenizer.decode(by_pool[0]).value().size() > 10, "there is text");

        auto session = dsv4::session::make(model).value();
        std::size_t calls = 0;
        session.on_progress([&](const dsv4_progress &progress) { return ++calls < 2 && progress.of == 3; }).value();
        const auto cancelled = session.eval(tokens{1, 2, 3});
        expect(!cancelled && cancelled.error().status == DSV4_CANCELLED && calls == 2, "progress can cancel");
        expect(session.position().value() == 0, "what was cancelled is not there");

        session.on_progress({}).value();
        session.eval(tokens{1, 2, 3}).value();
        auto snapshot = session.save().value();
        auto other = dsv4::session::make(model).value();
        other.restore(snapshot).value();
        expect(other.position().value() == 3 && other.save().value() == snapshot, "what was saved goes on elsewhere");
        snapshot.pop_back();
        const auto damaged = other.restore(snapshot);
        expect(!damaged && damaged.error().status == DSV4_SNAPSHOT_DAMAGED, "a damaged snapshot is an error");
    }
    {
        std::atomic<int> regions{0};
        auto params = dsv4::defaults<dsv4_model_params>();
        params.path = path;
        params.threads = 3;
        params.parallel = parallel;
        params.parallel_user = &regions;
        const auto model = dsv4::model::open(params).value();
        const auto tokenizer = dsv4::tokenizer::of(model).value();
        by_caller.push_back(texts{model, tokenizer}.generate("One day", 7, 20));
        expect(regions > 0, "the caller's threads are used");
    }
    expect(by_pool == by_caller, "whoever's threads, the same tokens");

    const auto missing = dsv4::model::open("no such file");
    expect(!missing && missing.error().status == DSV4_IO, "errors are results");
#ifdef DSV4_HPP_EXCEPTIONS
    try {
        dsv4::model::open("no such file").value();
        expect(false, "value() of an error throws");
    } catch (const dsv4::exception &caught) {
        expect(caught.error().status == DSV4_IO, "errors are exceptions");
    }
#endif
    return failures != 0;
}

}  // namespace

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    return run(argv[1], std::atoi(argv[2]));
}
