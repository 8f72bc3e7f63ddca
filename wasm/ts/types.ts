/** A model's file: its address (in Node and Deno also a path), its bytes, or where they come from. */
export type Source = string | URL | Uint8Array | ArrayBuffer | Blob | Response | ReadableStream<Uint8Array>;

export interface LoadProgress {
    /** Bytes in memory, and in all; 0 until the file's header has told. */
    loaded: number;
    total: number;
}

export interface LoadOptions {
    signal?: AbortSignal;
    onProgress?: (progress: LoadProgress) => void;
    /** Keeps what comes from an address in the origin's private file system, and takes it from there the next time. */
    cache?: boolean;
    /** Runs everything in a worker (the default), or in this thread, which each call then blocks. */
    worker?: boolean;
    /** Threads to compute with, where shared memory is allowed (a page that is cross-origin isolated, Node, Deno); 1 elsewhere. */
    threads?: number;
    /** Uses this build instead of the best that this engine runs. */
    build?: Build;
}

export type Build = "simd" | "relaxed";

/** What this engine runs. */
export interface Engine {
    build: Build;
    threads: number;
    /** The core's name of its instructions. */
    level: string;
}

export interface SessionParams {
    /** Tokens at most; 4096, or the model's own limit if that is less. */
    context?: number;
    /** Tokens evaluated together: more make prompts faster and need more memory. Never changes results. */
    batch?: number;
    /** Keeps activations in f32, where 8-bit blocks are the default. */
    exact?: boolean;
}

export interface Message {
    role: "system" | "user" | "assistant";
    content: string;
}

/** How much the model thinks before it answers. */
export type Think = "off" | "high" | "max";

/**
 * A message by the user, a conversation, or tokens. A text becomes a conversation of one message where the vocabulary
 * knows chat, and else is continued as it is.
 */
export type Prompt = string | readonly Message[] | Uint32Array | readonly number[];

export interface GenerateOptions {
    /** Tokens at most; as many as the context holds. */
    maxTokens?: number;
    /** 0 always takes the likeliest token. Default 1, like the parameters after it that of hosted APIs. */
    temperature?: number;
    topK?: number;
    topP?: number;
    minP?: number;
    repetitionPenalty?: number;
    presencePenalty?: number;
    frequencyPenalty?: number;
    /** Tokens back that are penalized; 256. */
    penaltyWindow?: number;
    /** Added to the logits of these tokens. */
    bias?: ReadonlyMap<number, number>;
    /** Makes the choices reproducible, on every machine. Random by default. */
    seed?: number | bigint;
    /** Tokens that end the text; the vocabulary's own by default. */
    stop?: readonly number[];
    think?: Think;
    /** With each piece, this many of the likeliest tokens at its place. */
    top?: number;
    /** With each piece, what the layers did to choose it. */
    trace?: boolean;
    /** Ends the text, while the prompt is evaluated too; what was evaluated stays in the session. */
    signal?: AbortSignal;
    onPrefill?: (progress: Prefill) => void;
}

export interface Prefill {
    /** Tokens evaluated, and to evaluate. */
    done: number;
    of: number;
    seconds: number;
}

export interface Candidate {
    token: number;
    text: string;
    logProb: number;
}

/** One token. */
export interface Piece {
    token: number;
    /** The text that it completes: nothing where a character is still half, or the token is structure. */
    text: string;
    /** Where it is in the session's timeline. */
    position: number;
    /** Since the prompt was evaluated, of computing and waiting for others' turns. */
    seconds: number;
    top?: Candidate[];
    trace?: Trace;
}

export type Finish = "stop" | "length" | "cancelled";

export interface Generated {
    text: string;
    tokens: Uint32Array;
    finish: Finish;
    /** Tokens of the prompt, and how many of them the session had already. */
    promptTokens: number;
    cachedTokens: number;
    /** To the first token's logits. */
    prefillSeconds: number;
    /** Tokens evaluated one by one, and how long that took. */
    decodeTokens: number;
    decodeSeconds: number;
}

/** A text as it comes: `for await (const piece of generation)`. To leave the loop ends it. */
export interface Generation extends AsyncIterable<Piece> {
    /** What came of it, once the text is at its end. */
    readonly done: Promise<Generated>;
}

/** One timeline over a model. Its calls run one after the other. */
export interface Session {
    readonly context: number;
    /** Continues `prompt`, which is all of the timeline: what the session shares with it is not evaluated again. */
    generate(prompt: Prompt, options?: GenerateOptions): Generation;
    /** Appends tokens and gives the last one's logits [V]. */
    eval(tokens: Uint32Array | readonly number[]): Promise<Float32Array>;
    tokens(): Promise<Uint32Array>;
    rewind(position: number): Promise<void>;
    /** Frees its memory. */
    close(): Promise<void>;
}

export interface Model {
    readonly info: ModelInfo;
    readonly engine: Engine;
    /** Added tokens in the text are recognized if `special`, and else are plain text. */
    encode(text: string, special?: boolean): Promise<Uint32Array>;
    decode(tokens: Uint32Array | readonly number[]): Promise<string>;
    /** The tokens of a prompt, as {@link Session.generate} makes them. */
    prompt(prompt: Prompt, think?: Think): Promise<Uint32Array>;
    plan(params?: SessionParams): Promise<SessionPlan>;
    session(params?: SessionParams): Promise<Session>;
    /** Bytes of linear memory: weights, model, tokenizer, sessions. It never shrinks. */
    memory(): Promise<number>;
    /** Frees everything, sessions too. */
    close(): Promise<void>;
}

/** A model's sizes, named as the technical report names them. */
export interface ModelInfo {
    name: string;
    /** Bytes of its files. */
    bytes: number;
    hidden: number;
    layers: number;
    vocab: number;
    heads: number;
    headSize: number;
    /** Tokens that every query sees one by one. */
    window: number;
    /** Tokens of a compressed entry in each layer; 0: the layer sees the window only. */
    ratios: Uint32Array;
    indexerSize: number;
    /** Entries that the indexer of a layer of ratio 4 lets a query see. */
    indexerTopK: number;
    experts: number;
    expertsUsed: number;
    /** The first layers choose experts by the token alone. */
    hashLayers: number;
    /** Residual streams. */
    streams: number;
    /** Positions at most. */
    context: number;
}

/** Bytes of a session's memory, by use. */
export interface SessionPlan {
    cache: number;
    scratch: number;
}

/** What the layers did. L layers, E experts of which k are used, n streams. */
export interface Trace {
    layers: number;
    /** [L, E] tokens that went to each expert since the last trace. */
    fired: Uint32Array;
    /** [L, k] the last token's experts. */
    chosen: Uint32Array;
    /** [L, k] their weights. */
    weights: Float32Array;
    /** [L, 2, (2+n)*n] the last token's hyper-connections, of the attention and of the experts: pre [n], post [n], comb [n, n]. */
    mixes: Float32Array;
    /** Each layer's entries that the indexer chose for the last token; empty where it sees all. */
    selected: Uint32Array[];
}
