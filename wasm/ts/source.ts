import { badArgument, sourceError } from "./errors.js";
import type { Source } from "./types.js";

/** Bytes handed on at a time, where we choose. */
const SLICE = 1 << 20;

/** Node's and Deno's modules, which a bundler for the web must not look for. */
export const node = (name: string): Promise<any> => import(/* @vite-ignore */ /* webpackIgnore: true */ `node:${name}`);

export const isNode = typeof (globalThis as any).process?.versions?.node === "string"
    && typeof (globalThis as any).document === "undefined";

/** The chunks of `source`, one after the other, each good until the next is asked for. */
export async function* chunks(source: Source, cache: boolean, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
    if (source instanceof ArrayBuffer) source = new Uint8Array(source);
    if (source instanceof Uint8Array) {
        for (let at = 0; at < source.length; at += SLICE) yield source.subarray(at, at + SLICE);
    } else if (source instanceof Blob) {
        yield* read(source.stream(), signal);
    } else if (source instanceof ReadableStream) {
        yield* read(source, signal);
    } else if (source instanceof Response) {
        yield* response(source, signal);
    } else if (typeof source === "string" || source instanceof URL) {
        const path = isNode ? await filePath(source) : undefined;
        if (path !== undefined) yield* file(path, signal);
        else yield* cache ? cached(new URL(source, globalThis.location?.href), signal) : fetched(source, signal);
    } else {
        throw badArgument("source");
    }
}

interface Reader {
    read(): Promise<{ done: boolean; value?: Uint8Array }>;
    cancel(reason?: unknown): Promise<void>;
}

/** Reads into one buffer again and again where the stream lets us: chunks by the hundred would wait to be collected. */
function bytesReader(stream: ReadableStream<Uint8Array>): Reader {
    let byob: ReadableStreamBYOBReader;
    try {
        byob = stream.getReader({ mode: "byob" });
    } catch {
        return stream.getReader();
    }
    let buffer = new ArrayBuffer(SLICE);
    return {
        async read() {
            const { done, value } = await byob.read(new Uint8Array(buffer));
            if (value) buffer = value.buffer;
            return { done, value };
        },
        cancel: (reason) => byob.cancel(reason),
    };
}

/** The chunks of a stream, each good until the next is asked for. */
async function* read(stream: ReadableStream<Uint8Array>, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
    const reader = bytesReader(stream);
    const abort = () => void reader.cancel(signal?.reason).catch(() => {});
    signal?.addEventListener("abort", abort);
    try {
        for (;;) {
            signal?.throwIfAborted();
            const { done, value } = await reader.read().catch((cause: unknown) => {
                signal?.throwIfAborted();
                throw sourceError("the source broke off", cause);
            });
            signal?.throwIfAborted();
            if (done || !value) return;
            yield value;
        }
    } finally {
        signal?.removeEventListener("abort", abort);
        void reader.cancel().catch(() => {});
    }
}

async function* response(response: Response, signal?: AbortSignal) {
    if (!response.ok) throw sourceError(`HTTP ${response.status} ${response.statusText}`.trim());
    if (response.body) yield* read(response.body, signal);
}

async function* fetched(url: string | URL, signal?: AbortSignal) {
    const found = await fetch(url, { signal }).catch((cause: unknown) => {
        signal?.throwIfAborted();
        throw sourceError(`cannot fetch ${url}`, cause);
    });
    yield* response(found, signal);
}

/** The path that a text or URL means; `undefined` for addresses of the network. */
async function filePath(source: string | URL): Promise<string | undefined> {
    const text = String(source);
    if (text.startsWith("file:")) return (await node("url")).fileURLToPath(text);
    return /^[a-z][a-z0-9+.-]+:/i.test(text) ? undefined : text;
}

async function* file(path: string, signal?: AbortSignal) {
    const { createReadStream } = await node("fs");
    try {
        for await (const chunk of createReadStream(path, { highWaterMark: SLICE, signal })) yield chunk as Uint8Array;
    } catch (cause) {
        signal?.throwIfAborted();
        throw sourceError(`cannot read ${path}: ${(cause as Error).message}`, cause);
    }
}

/** The folder of models in the origin's private file system; `undefined` where there is none. */
async function folder(): Promise<FileSystemDirectoryHandle | undefined> {
    try {
        return await (await navigator.storage.getDirectory()).getDirectoryHandle("dsv4", { create: true });
    } catch {
        return undefined;
    }
}

/** From the private file system, or fetched and written there: it has the file only once all of it has come. */
async function* cached(url: URL, signal?: AbortSignal) {
    const models = await folder();
    const name = encodeURIComponent(url.href);
    const there = await models?.getFileHandle(name).then((handle) => handle.getFile()).catch(() => undefined);
    if (there && there.size > 0) return yield* read(there.stream(), signal);
    const handle = await models?.getFileHandle(name, { create: true }).catch(() => undefined);
    let copy = await handle?.createWritable?.().catch(() => undefined);
    let complete = false;
    try {
        for await (const chunk of fetched(url, signal)) {
            // A full disk costs the copy, not the model.
            await copy?.write(chunk as Uint8Array<ArrayBuffer>).catch(() => (copy = undefined));
            yield chunk;
        }
        complete = true;
    } finally {
        if (complete) await copy?.close().catch(() => {});
        else await copy?.abort().catch(() => {});
    }
}

/** Forgets what {@link LoadOptions.cache} has kept of this address, or of all. */
export async function forget(url?: string | URL): Promise<void> {
    const models = await folder();
    if (!models) return;
    if (url !== undefined) {
        await models.removeEntry(encodeURIComponent(new URL(url, globalThis.location?.href).href)).catch(() => {});
    } else {
        await (await navigator.storage.getDirectory()).removeEntry("dsv4", { recursive: true }).catch(() => {});
    }
}
