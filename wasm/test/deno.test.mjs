// The package in Deno: deno test --no-lock -A wasm/test/deno.test.mjs. DSV4 names the native command to compare with.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { Dsv4Error, load } from "../dist/npm/index.js";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const model = here("../../ffi/model/small.gguf");
const native = process.env.DSV4 ?? here("../../target/debug/dsv4");

async function answer(source, options) {
    const loaded = await load(source, options);
    const session = await loaded.session({ context: 512 });
    const generation = session.generate("Tell me a story.", { temperature: 0, maxTokens: 48 });
    let text = "";
    for await (const piece of generation) text += piece.text;
    const { tokens } = await generation.done;
    await loaded.close();
    return { text, tokens: [...tokens] };
}

for (const worker of [true, false]) {
    Deno.test(`chooses the native command's tokens ${worker ? "in a worker" : "in this thread"}`, async () => {
        const args = ["run", "-p", "Tell me a story.", "--temp", "0", "-n", "48", "--json"];
        const { text, tokens } = JSON.parse(execFileSync(native, args, { encoding: "utf8" }));
        assert.deepEqual(await answer(model, { worker }), { text, tokens });
        assert.deepEqual(await answer(await Deno.readFile(model), { worker }), { text, tokens });
    });

    Deno.test(`refuses what is no model ${worker ? "in a worker" : "in this thread"}`, async () => {
        await assert.rejects(load(new Uint8Array(4096), { worker }), (error) =>
            error instanceof Dsv4Error && error.name === "NotGguf" && error.code === 2);
        await assert.rejects(load(here("nothing.gguf"), { worker }), (error) => error.name === "Io" && error.code === 90);
    });
}
