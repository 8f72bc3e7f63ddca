// The package's interfaces over a worker.

import { Dsv4Error, badArgument, closedError, sourceError } from "./errors.js";
import type { FromWorker, GenerateCall, LoadCall, Loaded, Port, Sent, ToWorker } from "./protocol.js";
import { isNode, node } from "./source.js";
import type {
    Engine, GenerateOptions, Generated, Generation, LoadOptions, LoadProgress, Model, ModelInfo, Piece, Prefill, Prompt,
    Session, SessionParams, SessionPlan, Source, Think,
} from "./types.js";

interface Pending {
    resolve: (value: any) => void;
    reject: (error: unknown) => void;
    onEvent?: ((event: any) => void) | undefined;
}

/** The worker: calls go in, values come out, in any order. */
class Line {
    #worker: Port & { terminate(): unknown; ref?(): void; unref?(): void };
    #pending = new Map<number, Pending>();
    #next = 1;
    #ended: unknown;
    /** Where the bytes come from that the worker pulls. */
    readers: ReadableStreamDefaultReader<Uint8Array>[] = [];

    private constructor(worker: any) {
        this.#worker = worker;
        const fail = (event: any) => this.end(new Error(event?.message ?? "the worker failed"));
        if (isNode) {
            worker.on("message", (message: FromWorker) => this.#receive(message));
            worker.on("error", fail);
        } else {
            worker.onmessage = ({ data }: MessageEvent<FromWorker>) => this.#receive(data);
            worker.onerror = fail;
        }
    }

    static async open(): Promise<Line> {
        if (isNode) {
            const { Worker } = await node("worker_threads");
            return new Line(new Worker(new URL("./worker.js", import.meta.url)));
        }
        return new Line(new Worker(new URL("./worker.js", import.meta.url), { type: "module" }));
    }

    call<T>(op: string, args: unknown[], signal?: AbortSignal, onEvent?: (event: any) => void): Promise<T> {
        if (this.#ended !== undefined) return Promise.reject(closedError(this.#ended));
        const id = this.#next++;
        const cancel = () => this.#post({ cancel: id });
        signal?.addEventListener("abort", cancel);
        const result = new Promise<T>((resolve, reject) => {
            // Last, so that arguments that cannot be sent leave nothing pending.
            this.#post({ id, op, args });
            this.#pending.set(id, { resolve, reject, onEvent });
            this.#worker.ref?.();
        });
        return result.finally(() => signal?.removeEventListener("abort", cancel));
    }

    #post(message: ToWorker, transfer: Transferable[] = []): void {
        this.#worker.postMessage(message, transfer);
    }

    #receive(message: FromWorker): void {
        if ("pull" in message) return void this.#pull(message.pull);
        const pending = this.#pending.get(message.id);
        if ("event" in message) return pending?.onEvent?.(message.event);
        this.#pending.delete(message.id);
        // A worker with nothing to do keeps no process from ending.
        if (this.#pending.size === 0) this.#worker.unref?.();
        if ("value" in message) return pending?.resolve(message.value);
        const { name, code, message: text, fatal } = message.error;
        const error = code === undefined ? Object.assign(new Error(text), { name }) : new Dsv4Error(name, code, text);
        pending?.reject(error);
        if (fatal) this.end(error);
    }

    async #pull(pull: number): Promise<void> {
        try {
            const { done, value } = await this.readers[pull]!.read();
            if (done) return this.#post({ pulled: pull });
            const whole = value.byteLength === value.buffer.byteLength && !isLent.has(value.buffer);
            const chunk = whole ? value : value.slice();
            this.#post({ pulled: pull, chunk }, [chunk.buffer]);
        } catch (cause) {
            this.#post({ pulled: pull, error: String(cause) });
        }
    }

    /** Ends the worker, and with it every call. */
    end(reason: unknown = new Error("closed")): void {
        this.#ended ??= reason;
        this.#worker.terminate();
        for (const { reject } of this.#pending.values()) reject(closedError(this.#ended));
        this.#pending.clear();
    }
}

/** Buffers of the caller's, which sending must not take away. */
const isLent = new WeakSet<ArrayBufferLike>();

/** The slices of bytes that stay the caller's, as a stream. */
function slices(bytes: Uint8Array): ReadableStream<Uint8Array> {
    isLent.add(bytes.buffer);
    let at = 0;
    const source: UnderlyingDefaultSource<Uint8Array> = {
        pull(stream) {
            if (at >= bytes.length) return stream.close();
            stream.enqueue(bytes.subarray(at, (at += 1 << 20)));
        },
    };
    return new ReadableStream(source, { highWaterMark: 0 });
}

/** What can be sent goes as it is; of the rest the line keeps a reader. */
function send(source: Source, line: Line): Sent {
    if (source instanceof URL) return source.href;
    if (typeof source === "string") return globalThis.location ? new URL(source, globalThis.location.href).href : source;
    if (source instanceof Blob) return source;
    let stream: ReadableStream<Uint8Array>;
    if (source instanceof ArrayBuffer) stream = slices(new Uint8Array(source));
    else if (source instanceof Uint8Array) stream = slices(source);
    else if (source instanceof ReadableStream) stream = source;
    else if (source instanceof Response) {
        if (!source.ok) throw sourceError(`HTTP ${source.status} ${source.statusText}`.trim());
        stream = source.body ?? slices(new Uint8Array());
    } else throw badArgument("source");
    line.readers.push(stream.getReader());
    return { pull: line.readers.length - 1 };
}

/** Loads a model into a worker of its own. */
export async function loadRemote(sources: readonly Source[], options: LoadOptions): Promise<Model> {
    const { signal, onProgress, cache = false, build, threads } = options;
    signal?.throwIfAborted();
    const line = await Line.open();
    try {
        const call: LoadCall = {
            sources: sources.map((source) => send(source, line)), cache, ...(build && { build }), ...(threads && { threads }),
        };
        const report = (event: LoadProgress) => onProgress?.(event);
        const { info, engine } = await line.call<Loaded>("load", [call], signal, report);
        // The cancel may have come too late for the worker.
        signal?.throwIfAborted();
        return new RemoteModel(line, info, engine);
    } catch (error) {
        line.end();
        signal?.throwIfAborted();
        throw error;
    } finally {
        for (const reader of line.readers) void reader.cancel().catch(() => {});
        line.readers = [];
    }
}

class RemoteModel implements Model {
    constructor(readonly line: Line, readonly info: ModelInfo, readonly engine: Engine) {}

    encode(text: string, special = false): Promise<Uint32Array> {
        return this.line.call("encode", [text, special]);
    }

    decode(tokens: Uint32Array | readonly number[]): Promise<string> {
        return this.line.call("decode", [tokens]);
    }

    prompt(prompt: Prompt, think?: Think): Promise<Uint32Array> {
        return this.line.call("prompt", [prompt, think]);
    }

    plan(params: SessionParams = {}): Promise<SessionPlan> {
        return this.line.call("plan", [params]);
    }

    memory(): Promise<number> {
        return this.line.call("memory", []);
    }

    async session(params: SessionParams = {}): Promise<Session> {
        // The call's number is the session's name from then on.
        const { id, context } = await this.line.call<{ id: number; context: number }>("session", [params]);
        return new RemoteSession(this.line, id, context);
    }

    async close(): Promise<void> {
        this.line.end();
    }
}

class RemoteSession implements Session {
    constructor(readonly line: Line, readonly id: number, readonly context: number) {}

    eval(tokens: Uint32Array | readonly number[]): Promise<Float32Array> {
        return this.line.call("eval", [this.id, tokens]);
    }

    tokens(): Promise<Uint32Array> {
        return this.line.call("tokens", [this.id]);
    }

    rewind(position: number): Promise<void> {
        return this.line.call("rewind", [this.id, position]);
    }

    close(): Promise<void> {
        return this.line.call("closeSession", [this.id]);
    }

    generate(prompt: Prompt, options: GenerateOptions = {}): Generation {
        const { signal, onPrefill, ...rest } = options;
        const left = new AbortController();
        if (signal?.aborted) left.abort();
        const abort = () => left.abort();
        signal?.addEventListener("abort", abort);

        const pieces: Piece[] = [];
        let wake: () => void = () => {};
        let over = false;
        const onEvent = (event: { prefill?: Prefill; piece?: Piece }) => {
            if (event.prefill) onPrefill?.(event.prefill);
            if (event.piece) pieces.push(event.piece);
            wake();
        };
        const call: GenerateCall = { session: this.id, prompt, options: rest };
        const done = this.line.call<Generated>("generate", [call], left.signal, onEvent).finally(() => {
            signal?.removeEventListener("abort", abort);
            over = true;
            wake();
        });
        done.catch(() => {});
        if (left.signal.aborted) left.signal.dispatchEvent(new Event("abort"));

        async function* read(): AsyncGenerator<Piece> {
            try {
                while (!over || pieces.length > 0) {
                    const piece = pieces.shift();
                    if (piece) yield piece;
                    else if (!over) await new Promise<void>((resolve) => (wake = resolve));
                }
                await done;
            } finally {
                left.abort();
            }
        }
        const reading = read();
        return { done, [Symbol.asyncIterator]: () => reading };
    }
}
