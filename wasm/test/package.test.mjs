// The package in Node: node --test wasm/test. DSV4 names the native command to compare with.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { Blob } from "node:buffer";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { Dsv4Error, load } from "../dist/npm/index.js";

const path = fileURLToPath(new URL("../../ffi/model/small.gguf", import.meta.url));
const file = readFileSync(path);
const bytes = () => new Uint8Array(file);
const native = process.env.DSV4 ?? fileURLToPath(new URL("../../target/debug/dsv4", import.meta.url));

/** All of a generation. */
async function all(generation) {
    const pieces = [];
    for await (const piece of generation) pieces.push(piece);
    return { ...(await generation.done), pieces };
}

const refused = (name, code) => (error) => {
    assert.ok(error instanceof Dsv4Error, `${error?.stack}`);
    assert.deepEqual([error.name, error.code], [name, code]);
    return true;
};

for (const worker of [true, false]) {
    describe(worker ? "in a worker" : "in this thread", () => {
        let model;
        before(async () => (model = await load(path, { worker })));
        after(() => model.close());

        test("says what it has loaded", () => {
            assert.equal(model.info.bytes, file.length);
            assert.deepEqual([...model.info.ratios], [0, 0, 4, 128, 4, 128]);
            assert.deepEqual([model.info.layers, model.info.experts, model.info.vocab], [6, 16, 1024]);
        });

        test("chooses the tokens that the native command chooses", async () => {
            for (const prompt of ["Tell me a story.", "What is 17 + 25?"]) {
                const args = ["run", "-p", prompt, "--temp", "0", "-n", "48", "--json"];
                const want = JSON.parse(execFileSync(native, args, { encoding: "utf8" }));
                const session = await model.session({ context: 512 });
                const got = await all(session.generate(prompt, { temperature: 0, maxTokens: 48 }));
                assert.equal(got.text, want.text);
                assert.deepEqual([...got.tokens], want.tokens);
                assert.equal(got.pieces.map((piece) => piece.text).join(""), got.text);
                await session.close();
            }
        });

        test("takes the same seed to the same text", async () => {
            const session = await model.session({ context: 512 });
            const once = () => all(session.generate("Tell me a story.", { seed: 7, maxTokens: 40, topP: 0.9 }));
            const [first, second] = [await once(), await once()];
            assert.equal(first.text, second.text);
            assert.ok(second.cachedTokens > 0);
            await session.close();
        });

        test("encodes and decodes", async () => {
            const text = "Grüße, 世界! <think> 🦊";
            const plain = await model.encode(text);
            assert.equal(await model.decode(plain), text);
            assert.ok((await model.encode("<think>", true)).length < (await model.encode("<think>")).length);
        });

        test("continues a conversation without evaluating it again", async () => {
            const session = await model.session({ context: 1024 });
            const messages = [{ role: "user", content: "Tell me a story." }];
            const first = await all(session.generate(messages, { temperature: 0 }));
            messages.push({ role: "assistant", content: first.text }, { role: "user", content: "Who was sad?" });
            const second = await all(session.generate(messages, { temperature: 0, maxTokens: 8 }));
            assert.ok(second.cachedTokens > first.promptTokens, `${second.cachedTokens} of ${second.promptTokens}`);
            await session.close();
        });

        test("shows candidates and layers", async () => {
            const session = await model.session({ context: 512 });
            const { pieces, promptTokens } = await all(
                session.generate("Tell me a story.", { temperature: 0, maxTokens: 3, top: 5, trace: true }));
            const { layers, experts, expertsUsed, streams } = model.info;
            for (const [i, { token, top, trace }] of pieces.entries()) {
                assert.equal(top.length, 5);
                assert.equal(top[0].token, token);
                const sum = top.reduce((sum, { logProb }) => sum + Math.exp(logProb), 0);
                assert.ok(sum > 0 && sum <= 1.0001);
                assert.equal(trace.fired.length, layers * experts);
                const evaluated = i === 0 ? promptTokens : 1;
                const fired = trace.fired.reduce((sum, count) => sum + count, 0);
                // The second story of the same prompt would have less to evaluate; this session is new.
                assert.equal(fired, evaluated * layers * expertsUsed);
                const mix = (2 + streams) * streams;
                assert.equal(trace.mixes.length, layers * 2 * mix);
                const comb = trace.mixes.slice(2 * streams, mix);
                for (let j = 0; j < streams; j++) {
                    let column = 0;
                    for (let i = 0; i < streams; i++) column += comb[i * streams + j];
                    assert.ok(Math.abs(column - 1) < 1e-3);
                }
            }
            await session.close();
        });

        test("stops while it evaluates the prompt, and goes on from there", async () => {
            const session = await model.session({ context: 4096 });
            const prompt = Uint32Array.from({ length: 3000 }, (_, i) => 300 + (i % 500));
            const controller = new AbortController();
            let heard;
            const generation = session.generate(prompt, {
                signal: controller.signal, temperature: 0, maxTokens: 4,
                onPrefill: ({ done }) => {
                    heard ??= done;
                    controller.abort();
                },
            });
            const { finish, tokens } = await all(generation);
            assert.equal(finish, "cancelled");
            assert.equal(tokens.length, 0);
            const kept = (await session.tokens()).length;
            assert.ok(heard > 0 && kept >= heard && kept < prompt.length, `${heard} ${kept}`);
            const short = prompt.slice(0, kept + 5);
            const again = await all(session.generate(short, { temperature: 0, maxTokens: 4, stop: [] }));
            assert.equal(again.cachedTokens, kept);
            const fresh = await model.session({ context: 4096 });
            const want = await all(fresh.generate(short, { temperature: 0, maxTokens: 4, stop: [] }));
            assert.deepEqual(again.tokens, want.tokens);
            await Promise.all([session.close(), fresh.close()]);
        });

        test("ends when the loop is left", async () => {
            const session = await model.session({ context: 512 });
            const generation = session.generate("Tell me a story.", { temperature: 0 });
            for await (const piece of generation) if (piece.position > 12) break;
            const { finish, tokens } = await generation.done;
            assert.equal(finish, "cancelled");
            assert.ok(tokens.length >= 3);
            await session.close();
        });

        test("runs two sessions side by side", async () => {
            const sessions = await Promise.all([model.session({ context: 256 }), model.session({ context: 256 })]);
            const run = (session) => all(session.generate("Tell me a story.", { temperature: 0, maxTokens: 30 }));
            const [a, b] = await Promise.all(sessions.map(run));
            assert.equal(a.text, b.text);
            assert.equal(a.tokens.length, 30);
            for (const session of sessions) await session.close();
        });

        test("refuses what makes no sense, and goes on", async () => {
            const session = await model.session({ context: 64 });
            const generate = (prompt, options) => all(session.generate(prompt, options));
            await assert.rejects(generate(new Uint32Array(65), {}), refused("ContextFull", 52));
            await assert.rejects(generate([1023, 1024], {}), refused("BadToken", 51));
            await assert.rejects(generate("x", { temperature: -1 }), refused("BadArgument", 50));
            await assert.rejects(generate([], {}), refused("BadArgument", 50));
            await assert.rejects(session.rewind(5), refused("BadArgument", 50));
            await assert.rejects(model.session({ context: 5000 }), refused("BadArgument", 50));
            assert.equal((await generate("What is 2 + 2?", { temperature: 0 })).finish, "stop");
            await session.close();
            await assert.rejects(session.tokens());
        });
    });
}

describe("sources", () => {
    const sources = {
        "bytes": () => bytes(),
        "an ArrayBuffer": () => bytes().buffer,
        "a Blob": () => new Blob([file]),
        "a stream of odd pieces": () => {
            let at = 0;
            return new ReadableStream({
                pull(stream) {
                    if (at >= file.length) return stream.close();
                    const n = 1 + ((at * 31) % 70001);
                    stream.enqueue(new Uint8Array(file.subarray(at, (at += n))));
                },
            });
        },
        "a Response": () => new Response(bytes()),
        "a file's URL": () => new URL(`file://${path}`),
    };
    for (const worker of [true, false]) {
        for (const [name, source] of Object.entries(sources)) {
            test(`${name}${worker ? ", in a worker" : ""}`, async () => {
                const given = source();
                const seen = [];
                const model = await load(given, { worker, onProgress: (progress) => seen.push(progress) });
                assert.equal(model.info.bytes, file.length);
                assert.deepEqual(seen.at(-1), { loaded: file.length, total: file.length });
                if (given instanceof Uint8Array) assert.equal(given.length, file.length);
                await model.close();
            });
        }

        test(`refused${worker ? ", in a worker" : ""}`, async () => {
            const rejects = (source, name, code) => assert.rejects(load(source, { worker }), refused(name, code));
            await rejects(new TextEncoder().encode("<!doctype html><p>Not found"), "NotGguf", 2);
            await rejects(bytes().slice(0, file.length - 1), "Truncated", 1);
            await rejects(bytes().slice(0, 1000), "Truncated", 1);
            await rejects(new Uint8Array(), "Truncated", 1);
            await rejects("no/such/file.gguf", "Io", 90);
            await rejects(new Response("gone", { status: 404 }), "Io", 90);
            await rejects([], "BadArgument", 50);
            const other = bytes();
            other.set(new TextEncoder().encode("mistral42"), file.indexOf("deepseek4"));
            await rejects(other, "UnsupportedArchitecture", 10);
        });

        test(`a wrong file is not read to its end${worker ? ", in a worker" : ""}`, async () => {
            let pulled = 0;
            const endless = new ReadableStream({
                pull(stream) {
                    pulled += 1;
                    stream.enqueue(new Uint8Array(65536).fill(pulled));
                },
            });
            await assert.rejects(load(endless, { worker }), refused("NotGguf", 2));
            assert.ok(pulled < 20);
        });

        test(`cancelled${worker ? ", in a worker" : ""}`, async () => {
            const controller = new AbortController();
            const onProgress = ({ loaded }) => loaded > file.length / 2 && controller.abort();
            const loading = load(new Blob([file]), { worker, signal: controller.signal, onProgress });
            await assert.rejects(loading, { name: "AbortError" });
        });
    }

    test("memory is what the plan says, and weights are held once", async () => {
        const model = await load(new Blob([file]));
        const { cache, scratch } = await model.plan({ context: 4096 });
        const session = await model.session({ context: 4096 });
        // Beside them: the model's own tables, the tokenizer's index, the stack.
        const [memory, planned] = [await model.memory(), file.length + cache + scratch];
        assert.ok(memory <= 1.15 * planned + (2 << 20), `${memory} for ${planned}`);
        await session.close();
        await model.close();
    });

    test("memory that runs out is an error, and what is there goes on", async () => {
        const model = await load(bytes(), { worker: false });
        const session = await model.session({ context: 256 });
        // Two files that announce 2.1 GB each, and then keep us waiting; a third is too much.
        const waiting = new AbortController();
        const loads = [0, 1, 2].map(() => load(announces(2.1e9), { worker: false, signal: waiting.signal }));
        await assert.rejects(Promise.race(loads), refused("MemoryTooSmall", 40));
        await assert.rejects(model.session({ context: 4096, batch: 4096 }), refused("MemoryTooSmall", 40));
        assert.equal((await all(session.generate("What is 2 + 2?", { temperature: 0 }))).finish, "stop");
        waiting.abort();
        for (const result of await Promise.allSettled(loads)) assert.equal(result.status, "rejected");
        await (await model.session({ context: 4096, batch: 4096 })).close();
        await model.close();
        await assert.rejects(load(announces(3e9)), refused("TooLarge", 42));
    });
});

/** A stream of the small model's header, changed so that its weights take `size` bytes, which then never come. */
function announces(size) {
    const header = bytes().slice(0, 1 << 20);
    const name = Buffer.from(header.buffer).indexOf("token_embd.weight");
    // After the name: the rank, and the columns; a row of 128 weights takes 136 bytes.
    new DataView(header.buffer).setBigUint64(name + 17 + 4 + 8, BigInt(Math.ceil(size / 136)), true);
    return new ReadableStream({ start: (stream) => stream.enqueue(header) });
}

test("source maps lead to the sources", () => {
    const [folder, sources] = ["../dist/npm/", "../ts/"].map((path) => fileURLToPath(new URL(path, import.meta.url)));
    const names = readdirSync(sources).map((name) => name.replace(/\.ts$/, ""));
    assert.ok(names.includes("index"));
    for (const name of names) {
        assert.match(readFileSync(`${folder}${name}.js`, "utf8"), new RegExp(`//# sourceMappingURL=${name}\\.js\\.map\\s*$`));
        const { version, sourcesContent, mappings } = JSON.parse(readFileSync(`${folder}${name}.js.map`, "utf8"));
        assert.equal(version, 3);
        // The package does not hold the sources themselves.
        assert.deepEqual(sourcesContent, [readFileSync(`${sources}${name}.ts`, "utf8")]);
        // Types alone leave no code to map.
        assert.ok(mappings.length > 0 || ["types", "protocol"].includes(name), name);
    }
});

test("the package holds what it should, and is small", () => {
    const folder = fileURLToPath(new URL("../dist/npm", import.meta.url));
    const packed = JSON.parse(execFileSync("npm", ["pack", "--dry-run", "--json"], { cwd: folder, encoding: "utf8" }));
    const { files, size } = Array.isArray(packed) ? packed[0] : Object.values(packed)[0];
    const paths = files.map((file) => file.path);
    const modules = ["engine", "errors", "index", "local", "pause", "protocol", "remote", "source", "thread", "types", "worker"];
    const want = [
        "LICENSE", "README.md", "package.json",
        ...["relaxed", "simd", "threads"].map((build) => `dsv4-${build}.wasm`),
        ...["dsv4", "threads"].flatMap((glue) => [`glue/${glue}.js`, `glue/${glue}.d.ts`]),
        ...modules.flatMap((name) => [`${name}.js`, `${name}.js.map`, `${name}.d.ts`]),
    ];
    assert.deepEqual(paths.toSorted(), want.toSorted());
    assert.ok(size <= 1_000_000, `${size} bytes packed`);
    for (const path of paths.filter((path) => path.endsWith(".wasm"))) {
        const zipped = gzipSync(readFileSync(`${folder}/${path}`), { level: 9 }).length;
        assert.ok(zipped <= 350_000, `${path}: ${zipped} bytes zipped`);
    }
    const { dependencies = {} } = JSON.parse(readFileSync(`${folder}/package.json`, "utf8"));
    assert.deepEqual(dependencies, {});
});
