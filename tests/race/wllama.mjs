#!/usr/bin/env node
// Races dsv4-wasm against wllama (llama.cpp in WebAssembly) in Chromium, on the same GGUF file, in turns:
//
//     cargo run --release -p dsv4-tests --bin slice -- --preset browser --dtype Q4_K --out browser.gguf
//     wasm/build && tests/race/wllama.mjs browser.gguf [--threads 1,2] [--prompt 256] [--gen 32] [--rounds 3]
//
// Every round opens a fresh page for each side, loads the file, evaluates the prompt and writes tokens, the likeliest each
// time. Ratios are formed within a round; their median is reported, with the least and the largest. wllama's times are its
// own (`timings`), dsv4's those of the package. Pages are cross-origin isolated, so that both may use threads. Needs Chromium
// in /usr/bin and what `tests/setup npm` fetches; wllama lands in tests/.cache.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { serve } from "../../wasm/tools/serve.mjs";

const VERSION = "3.8.1";
const here = (path) => fileURLToPath(new URL(path, import.meta.url));

const { values: options, positionals: [file] } = parseArgs({
    allowPositionals: true,
    options: {
        threads: { type: "string", default: "1,2" },
        prompt: { type: "string", default: "256" },
        gen: { type: "string", default: "32" },
        rounds: { type: "string", default: "3" },
    },
});
if (!file) {
    console.error("usage: wllama.mjs FILE.gguf [--threads 1,2] [--prompt 256] [--gen 32] [--rounds 3]");
    process.exit(2);
}

const wllama = here("../.cache/wllama");
if (!existsSync(`${wllama}/node_modules/@wllama/wllama`)) {
    mkdirSync(wllama, { recursive: true });
    const install = ["install", "--prefix", wllama, "--no-audit", "--no-fund", "--ignore-scripts", `@wllama/wllama@${VERSION}`];
    execFileSync("npm", install, { stdio: "inherit" });
}

/** As many tokens as `n`, about: one a word of the small vocabulary of slices. */
const words = (n) => Array.from({ length: n }, (_, i) => ["the", "of", "and", "to", "in", "is"][(i * i) % 6]).join(" ");

const sides = {
    async dsv4(page, threads, { prompt, gen }, memory) {
        const load = await page.evaluate(async ({ url, threads }) => {
            const { load } = await import("/dsv4/index.js");
            const began = performance.now();
            window.model = await load(url, { threads });
            return (performance.now() - began) / 1000;
        }, { url: "/file/" + basename(file), threads });
        const loading = await memory();
        const result = await page.evaluate(async ({ prompt, gen }) => {
            const session = await model.session({ context: 4096 });
            const { cache, scratch } = await model.plan({ context: 4096 });
            const tokens = await model.encode(prompt);
            const generation = session.generate(tokens, { temperature: 0, maxTokens: gen, stop: [] });
            for await (const piece of generation);
            const done = await generation.done;
            return {
                prefill: done.promptTokens / done.prefillSeconds, decode: done.decodeTokens / done.decodeSeconds,
                promptTokens: done.promptTokens, memory: await model.memory(), planned: model.info.bytes + cache + scratch,
                engine: model.engine,
            };
        }, { prompt, gen });
        return { ...result, load, loading };
    },
    async wllama(page, threads, { prompt, gen }) {
        return page.evaluate(async ({ url, threads, prompt, gen }) => {
            const { Wllama, LoggerWithoutDebug } = await import("/wllama/index.js");
            const began = performance.now();
            const wllama = new Wllama({ default: "/wllama/wasm/wllama.wasm" }, { logger: LoggerWithoutDebug });
            await wllama.loadModel([await (await fetch(url)).blob()], {
                n_threads: threads, n_gpu_layers: 0, n_ctx: 4096, n_batch: 2048, n_ubatch: 512, n_parallel: 1, warmup: true,
            });
            const seconds = (performance.now() - began) / 1000;
            const { timings } = await wllama.createCompletion({
                prompt, max_tokens: gen, temperature: 0, ignore_eos: true, cache_prompt: false,
            });
            return {
                load: seconds, prefill: timings.prompt_per_second, decode: timings.predicted_per_second,
                promptTokens: timings.prompt_n, threads: wllama.getNumThreads?.(),
            };
        }, { url: "/file/" + basename(file), threads, prompt, gen });
    },
};

const { chromium } = createRequire(here("../.cache/npm/package.json"))("playwright-core");
const server = await serve({
    "/": here("../../wasm/test"), "/dsv4/": here("../../wasm/dist/npm"), "/wllama/": `${wllama}/node_modules/@wllama/wllama/esm`,
    "/file/": dirname(resolve(file)),
}, { isolated: true });
const args = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"];
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args });

/** The most memory that any page's process has had, in bytes. */
async function renderers() {
    const session = await browser.newBrowserCDPSession();
    const { processInfo } = await session.send("SystemInfo.getProcessInfo");
    await session.detach();
    const peaks = processInfo.filter(({ type }) => type === "renderer").map(({ id }) => {
        const status = existsSync(`/proc/${id}/status`) ? readFileSync(`/proc/${id}/status`, "utf8") : "";
        return 1024 * Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0);
    });
    return Math.max(...peaks);
}

async function run(side, threads, work) {
    const page = await browser.newPage();
    await page.goto(`${server.origin}/empty.html`);
    const empty = await renderers();
    const memory = async () => (await renderers()) - empty;
    const result = await sides[side](page, threads, work, memory);
    const peak = await memory();
    await page.close();
    return { ...result, peak };
}

const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
const spread = (values) =>
    `${median(values).toFixed(2)} (${Math.min(...values).toFixed(2)} to ${Math.max(...values).toFixed(2)})`;

const bytes = statSync(file).size;
const rounds = Number(options.rounds);
console.log(`${basename(file)}: ${(bytes / 1e6).toFixed(0)} MB; wllama ${VERSION}; ${browser.version()}; ${rounds} rounds`);
console.log("| threads | | dsv4 | wllama | ratio (least to largest) |\n|---|---|---|---|---|");
try {
    for (const threads of options.threads.split(",").map(Number)) {
        const work = { prompt: words(Number(options.prompt)), gen: Number(options.gen) };
        const results = [];
        for (let round = 0; round < rounds; round++) {
            const pair = {};
            // The side that begins changes from round to round.
            for (const side of round % 2 ? ["wllama", "dsv4"] : ["dsv4", "wllama"]) pair[side] = await run(side, threads, work);
            results.push(pair);
            const said = (r) => `${r.prefill.toFixed(1)} and ${r.decode.toFixed(1)} t/s`;
            console.error(`round ${round + 1}, ${threads} threads: dsv4 ${said(pair.dsv4)}, wllama ${said(pair.wllama)}`);
        }
        const [first] = results;
        const row = (what, unit, of, better = 1) => {
            const [ours, theirs] = ["dsv4", "wllama"].map((side) => results.map((pair) => of(pair[side])));
            const ratios = ours.map((value, i) => (value / theirs[i]) ** better);
            console.log(`| ${threads} | ${what} | ${median(ours).toFixed(1)} ${unit} | ${median(theirs).toFixed(1)} ${unit} | `
                + `${spread(ratios)} |`);
        };
        row(`prefill, ${first.dsv4.promptTokens} and ${first.wllama.promptTokens} tokens`, "t/s", (r) => r.prefill);
        row(`decode, ${options.gen} tokens`, "t/s", (r) => r.decode);
        row("load", "s", (r) => r.load, -1);
        row("peak memory of the page", "MB", (r) => r.peak / 1e6, -1);
        const { memory, planned, loading, peak, engine } = first.dsv4;
        console.log(`\ndsv4: ${engine.build}, ${engine.level}, ${engine.threads} threads; linear memory `
            + `${(memory / planned).toFixed(3)} x weights and plan, the page's peak ${(loading / planned).toFixed(3)} x while `
            + `loading, ${(peak / planned).toFixed(3)} x in all\n`);
    }
} finally {
    await browser.close();
    server.close();
}
