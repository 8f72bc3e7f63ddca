import * as glue from "./glue/dsv4.js";
import { isNode, node } from "./source.js";
import type { Build, Engine } from "./types.js";

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

/** The module of this thread, started when it is first asked for; what is asked for later does not change it. */
export function start(options: { build?: Build; threads?: number } = {}): Promise<Engine> {
    started ??= (async () => {
        const build = options.build ?? bestBuild();
        memory = glue.initSync({ module: await compile(`./dsv4-${build}.wasm`) }).memory;
        return { build, threads: 1, level: glue.level() };
    })();
    started.catch(() => (started = undefined));
    return started;
}

/** Bytes of linear memory. */
export const memoryBytes = () => memory.buffer.byteLength;

export { glue };
