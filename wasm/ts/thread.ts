// A thread of engine.ts's: shares its memory, and computes until it is ended.

import { isNode, node } from "./source.js";

async function begin({ module, memory }: { module: WebAssembly.Module; memory: WebAssembly.Memory }): Promise<void> {
    const glue = await import("./glue/threads.js");
    glue.initSync({ module, memory });
    glue.work();
}

if (isNode) (await node("worker_threads")).parentPort.once("message", begin);
else self.onmessage = ({ data }) => void begin(data);
