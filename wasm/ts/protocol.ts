import type { Engine, GenerateOptions, ModelInfo, Prompt, Source } from "./types.js";

/** A source as it goes to the worker: what cannot be sent is pulled, piece by piece. */
export type Sent = string | Blob | { pull: number };

export interface LoadCall {
    sources: Sent[];
    cache: boolean;
    build?: "simd" | "relaxed";
    threads?: number;
}

export interface GenerateCall {
    session: number;
    prompt: Prompt;
    options: GenerateOptions;
}

export interface Loaded {
    info: ModelInfo;
    engine: Engine;
}

export type ToWorker =
    | { id: number; op: string; args: unknown[] }
    | { cancel: number }
    /** The next bytes of source `pull` of the load; none: it has ended. */
    | { pulled: number; chunk?: Uint8Array; error?: string };

export type FromWorker =
    | { id: number; value: unknown }
    | { id: number; error: { name: string; code?: number; message: string; fatal: boolean } }
    | { id: number; event: unknown }
    | { pull: number };

/** Both ends of a worker, on the web and in Node. */
export interface Port {
    postMessage(message: unknown, transfer?: Transferable[]): void;
}

export type { Source };
