// Runs models for index.ts: takes calls, gives values, events and errors.

import { Dsv4Error } from "./errors.js";
import { LocalModel, LocalSession, loadLocal } from "./local.js";
import type { FromWorker, GenerateCall, LoadCall, Port, Sent, ToWorker } from "./protocol.js";
import { isNode, node } from "./source.js";
import type { Prompt, SessionParams, Source, Think } from "./types.js";

let port: Port;
let model: LocalModel | undefined;
const sessions = new Map<number, LocalSession>();
const running = new Map<number, AbortController>();
const pulls = new Map<number, { resolve: (chunk?: Uint8Array) => void; reject: (error: Error) => void }>();

const post = (message: FromWorker, transfer?: Transferable[]) => port.postMessage(message, transfer ?? []);

/** A stream whose bytes the other side sends when they are wanted. */
function pulled(pull: number): ReadableStream<Uint8Array> {
    const source: UnderlyingDefaultSource<Uint8Array> = {
        async pull(stream) {
            const chunk = await new Promise<Uint8Array | undefined>((resolve, reject) => {
                pulls.set(pull, { resolve, reject });
                post({ pull });
            });
            if (chunk) stream.enqueue(chunk);
            else stream.close();
        },
    };
    return new ReadableStream(source, { highWaterMark: 0 });
}

const open = (sent: Sent): Source => (typeof sent === "object" && "pull" in sent ? pulled(sent.pull) : sent);

type Call = (id: number, signal: AbortSignal, ...args: any[]) => Promise<unknown>;

const the = (session: number) => sessions.get(session)!;

const calls: Record<string, Call> = {
    async load(id, signal, { sources, ...options }: LoadCall) {
        const onProgress = (event: unknown) => post({ id, event });
        model = await loadLocal(sources.map(open), { ...options, signal, onProgress });
        return { info: model.info, engine: model.engine };
    },
    encode: (_id, _signal, text: string, special: boolean) => model!.encode(text, special),
    decode: (_id, _signal, tokens: Uint32Array) => model!.decode(tokens),
    prompt: (_id, _signal, prompt: Prompt, think?: Think) => model!.prompt(prompt, think),
    plan: (_id, _signal, params: SessionParams) => model!.plan(params),
    memory: () => model!.memory(),
    async session(id, _signal, params: SessionParams) {
        const session = await model!.session(params);
        sessions.set(id, session);
        return { id, context: session.context };
    },
    async closeSession(_id, _signal, session: number) {
        await the(session).close();
        sessions.delete(session);
    },
    eval: (_id, _signal, session: number, tokens: Uint32Array) => the(session).eval(tokens),
    tokens: (_id, _signal, session: number) => the(session).tokens(),
    rewind: (_id, _signal, session: number, position: number) => the(session).rewind(position),
    async generate(id, signal, { session, prompt, options }: GenerateCall) {
        const onPrefill = (prefill: unknown) => post({ id, event: { prefill } });
        const generation = the(session).generate(prompt, { ...options, signal, onPrefill });
        for await (const piece of generation) post({ id, event: { piece } });
        return generation.done;
    },
};

async function call({ id, op, args }: { id: number; op: string; args: unknown[] }): Promise<void> {
    const controller = new AbortController();
    running.set(id, controller);
    try {
        post({ id, value: await calls[op]!(id, controller.signal, ...args) });
    } catch (thrown) {
        const { name = "Error", message = String(thrown) } = thrown as Partial<Error>;
        const code = thrown instanceof Dsv4Error ? thrown.code : undefined;
        // A trap leaves the module's memory in no state to go on with.
        post({ id, error: { name, message, fatal: thrown instanceof WebAssembly.RuntimeError, ...(code && { code }) } });
    } finally {
        running.delete(id);
    }
}

function receive(message: ToWorker): void {
    if ("cancel" in message) {
        running.get(message.cancel)?.abort();
    } else if ("pulled" in message) {
        const pull = pulls.get(message.pulled);
        if (message.error !== undefined) pull?.reject(new Error(message.error));
        else pull?.resolve(message.chunk);
    } else {
        void call(message);
    }
}

if (isNode) {
    const { parentPort } = await node("worker_threads");
    port = parentPort;
    parentPort.on("message", receive);
} else {
    port = self as unknown as Port;
    self.onmessage = ({ data }: MessageEvent<ToWorker>) => receive(data);
}
