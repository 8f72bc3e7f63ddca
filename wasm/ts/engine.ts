import { isNode, node } from "./source.js";
import type { Build, Engine } from "./types.js";

type Glue = typeof import("./glue/dsv4.js");

// Modules of one function that uses the instruction in question.
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];
const RELAXED = [
    0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 15, 1, 13, 0, 65, 1, 253, 15, 65, 2, 253, 15, 253, 128,
    2, 11,
];
const runs = (module: number[]) => WebAssembly.validate(new Uint8Array(module));

/** The best build that this engine runs. */
export function bestBuild(): Build {
    if (runs(RELAXED)) return "relaxed";
    if (runs(SIMD)) return "simd";
    throw new Error("dsv4 needs WebAssembly SIMD, which this engine lacks");
}

/** Whether this thread may share memory with others, and wait for them: a page's own thread may not. */
const mayShare = () =>
    typeof SharedArrayBuffer !== "undefined" && globalThis.crossOriginIsolated !== false
    && typeof (globalThis as { document?: unknown }).document === "undefined";

async function compile(name: string): Promise<WebAssembly.Module> {
    const url = new URL(name, import.meta.url);
    if (isNode && url.protocol === "file:") {
        return WebAssembly.compile(await (await node("fs/promises")).readFile(url));
    }
    const response = await fetch(url);
    if (!response.ok) throw new Error(`${url}: HTTP ${response.status}`);
    return WebAssembly.compileStreaming
        // A server that does not know the type.
        ? WebAssembly.compileStreaming(response.clone()).catch(async () => WebAssembly.compile(await response.arrayBuffer()))
        : WebAssembly.compile(await response.arrayBuffer());
}

let started: Promise<Engine> | undefined;
let memory: WebAssembly.Memory;

/** The module's classes, once it has started. */
export let glue: Glue;

/** The module of this thread, started when it is first asked for; what is asked for later does not change it. */
export function start(options: { build?: Build; threads?: number } = {}): Promise<Engine> {
    started ??= run(options);
    started.catch(() => (started = undefined));
    return started;
}

async function run({ build = bestBuild(), threads = 1 }: { build?: Build; threads?: number }): Promise<Engine> {
    if (threads > 1 && build === "relaxed" && mayShare()) {
        const module = await compile("./dsv4-threads.wasm");
        // The same classes; only the start takes more.
        glue = (await import("./glue/threads.js")) as unknown as Glue;
        ({ memory } = glue.initSync({ module }));
        for (let i = 1; i < threads; i++) await helper(module);
    } else {
        const module = await compile(`./dsv4-${build}.wasm`);
        glue = await import("./glue/dsv4.js");
        ({ memory } = glue.initSync({ module }));
    }
    return { build, threads: glue.threads(), level: glue.level() };
}

/** Starts a thread; where there can be no more, there are fewer. */
async function helper(module: WebAssembly.Module): Promise<void> {
    const before = glue.threads();
    const url = new URL("./thread.js", import.meta.url);
    const worker = isNode
        ? new (await node("worker_threads")).Worker(url)
        : new Worker(new URL("./thread.js", import.meta.url), { type: "module" });
    const failed = new Promise<never>((_, reject) => {
        if (isNode) worker.on("error", reject);
        else worker.onerror = reject;
    });
    worker.unref?.();
    worker.postMessage({ module, memory });
    // It cannot say when it has begun to work: from then on it sees messages no more.
    const works = (async () => {
        while (glue.threads() <= before) await new Promise((resolve) => setTimeout(resolve, 1));
    })();
    await Promise.race([works, failed]).catch(() => {});
}

/** Bytes of linear memory. */
export const memoryBytes = () => memory.buffer.byteLength;
