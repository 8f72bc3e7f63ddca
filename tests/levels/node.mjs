// The levels of a WebAssembly build of tests/src/bin/levels.rs:
//
//   node node.mjs FILE.wasm check [CASES]     every level gives scalar's bits
//   node node.mjs FILE.wasm bench [TYPE...]   how fast they are
//
// Node 20 wants --experimental-wasm-relaxed-simd for relaxed SIMD.
import { readFile } from "node:fs/promises";

const LEVELS = ["scalar", "avx2", "avx512", "neon", "neon-dot", "simd128", "relaxed-simd", "relaxed-simd-16"];
const TYPES = {
    F32: 0, F16: 1, Q4_0: 2, Q4_1: 3, Q5_0: 6, Q5_1: 7, Q8_0: 8, Q2_K: 10, Q3_K: 11, Q4_K: 12, Q5_K: 13, Q6_K: 14,
    IQ2_XXS: 16, IQ2_XS: 17, IQ3_XXS: 18, IQ1_S: 19, IQ4_NL: 20, IQ3_S: 21, IQ2_S: 22, IQ4_XS: 23, IQ1_M: 29,
    BF16: 30, MXFP4: 39,
};

const [file, command, ...rest] = process.argv.slice(2);
const { instance } = await WebAssembly.instantiate(await readFile(file), {});
const { memory, has, check, message, prepare, run } = instance.exports;
const levels = LEVELS.map((name, i) => [name, i]).filter(([, i]) => has(i));

if (command === "check") {
    const cases = Number(rest[0] ?? 12);
    for (let seed = 0; seed < cases; seed++) {
        const length = check(BigInt(seed));
        const text = new Uint8Array(memory.buffer, message(), length);
        if (length) throw new Error(`case ${seed}: ${new TextDecoder().decode(text)}`);
    }
    console.log(`${cases} cases, the same bits on ${levels.map(([name]) => name).join(", ")}`);
    if (levels.length < 2) throw new Error("only the specification itself was compiled");
} else if (command === "bench") {
    const rate = (level, size, count) => {
        const start = () => performance.now();
        const warm = start();
        while (start() - warm < 150) run(level); // until the optimizing compiler is done
        let runs = 0;
        const from = start();
        while (start() - from < 200) run(level), runs++;
        return (size * size * count * runs) / (start() - from) / 1e6;
    };
    console.log("type     level         Gweights/s, 1 token   GMAC/s, 64 tokens");
    for (const type of rest.length ? rest : Object.keys(TYPES)) {
        for (const [name, level] of levels) {
            prepare(TYPES[type], 1024, 1);
            const decode = rate(level, 1024, 1).toFixed(2);
            prepare(TYPES[type], 512, 64);
            const prefill = rate(level, 512, 64).toFixed(2);
            console.log(type.padEnd(8), name.padEnd(13), decode.padStart(19), prefill.padStart(19));
        }
    }
} else {
    throw new Error("usage: node.mjs FILE.wasm check [CASES] | bench [TYPE...]");
}
