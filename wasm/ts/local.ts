// The package's interfaces in the thread that calls: what a worker runs, and whoever wants to block.

import { glue, memoryBytes, start } from "./engine.js";
import type * as types from "./glue/dsv4.js";
import { Dsv4Error, badArgument, checked, closedError } from "./errors.js";
import { Turn } from "./pause.js";
import { chunks } from "./source.js";
import type {
    Candidate, Engine, Finish, GenerateOptions, Generated, Generation, LoadOptions, Message, Model, ModelInfo, Piece,
    Prompt, Session, SessionParams, SessionPlan, Source, Think,
} from "./types.js";

/** Tokens of a session that says nothing else. */
const CONTEXT = 4096;

/** Tokens evaluated first, and seconds that one call should take: calls of a prompt cannot be interrupted, but lie between. */
const FIRST_SLICE = 64;
const SLICE_SECONDS = 0.5;

/** Loads a model into this thread's memory. */
export async function loadLocal(sources: readonly Source[], options: LoadOptions = {}): Promise<LocalModel> {
    const { signal, onProgress } = options;
    signal?.throwIfAborted();
    const engine = await start(options);
    if (sources.length === 0) throw badArgument("no model file");
    const loader = new glue.Loader(sources.length);
    let finished = false;
    try {
        let [before, total] = [0, 0];
        for (const source of sources) {
            loader.begin();
            const turn = new Turn();
            for await (const chunk of chunks(source, options.cache ?? false, signal)) {
                checked(() => loader.push(chunk));
                total = loader.total && before + loader.total;
                onProgress?.({ loaded: before + loader.loaded, total: sources.length === 1 ? total : 0 });
                await turn.mayPause();
                signal?.throwIfAborted();
            }
            before += loader.loaded;
        }
        finished = true;
        return new LocalModel(checked(() => loader.finish()), engine);
    } finally {
        if (!finished) loader.free();
    }
}

const ids = (tokens: Uint32Array | readonly number[]) =>
    tokens instanceof Uint32Array ? tokens : Uint32Array.from(tokens);

const isMessages = (prompt: Prompt): prompt is readonly Message[] =>
    Array.isArray(prompt) && typeof (prompt as readonly unknown[])[0] === "object";

export class LocalModel implements Model {
    readonly info: ModelInfo;
    readonly engine: Engine;
    #model: types.Model | undefined;
    #tokenizer: types.Tokenizer | undefined;
    #sessions = new Set<LocalSession>();

    constructor(model: types.Model, engine: Engine) {
        this.#model = model;
        this.engine = engine;
        this.info = model.info;
    }

    get core(): types.Model {
        if (!this.#model) throw closedError();
        return this.#model;
    }

    /** Made when it is first needed: a model without one still takes tokens. */
    get tokenizer(): types.Tokenizer {
        return (this.#tokenizer ??= checked(() => this.core.tokenizer()));
    }

    async encode(text: string, special = false): Promise<Uint32Array> {
        return checked(() => this.tokenizer.encode(text, special));
    }

    async decode(tokens: Uint32Array | readonly number[]): Promise<string> {
        return checked(() => this.tokenizer.decode(ids(tokens)));
    }

    async prompt(prompt: Prompt, think: Think = "off"): Promise<Uint32Array> {
        return checked(() => {
            if (prompt instanceof Uint32Array || (typeof prompt !== "string" && !isMessages(prompt))) return ids(prompt);
            if (typeof prompt !== "string") {
                return this.tokenizer.chat(prompt.map((m) => m.role), prompt.map((m) => m.content), think);
            }
            if (this.tokenizer.knowsChat) return this.tokenizer.chat(["user"], [prompt], think);
            const { bos } = this.tokenizer;
            return ids([...(bos === undefined ? [] : [bos]), ...this.tokenizer.encode(prompt, false)]);
        });
    }

    #params({ context, batch = 0, exact = false }: SessionParams): [number, number, boolean] {
        return [context ?? Math.min(CONTEXT, this.info.context), batch, exact];
    }

    async plan(params: SessionParams = {}): Promise<SessionPlan> {
        return checked(() => this.core.plan(...this.#params(params)));
    }

    async session(params: SessionParams = {}): Promise<LocalSession> {
        const core = checked(() => new glue.Session(this.core, ...this.#params(params)));
        const session: LocalSession = new LocalSession(this, core, () => this.#sessions.delete(session));
        this.#sessions.add(session);
        return session;
    }

    async memory(): Promise<number> {
        return memoryBytes();
    }

    async close(): Promise<void> {
        for (const session of this.#sessions) await session.close();
        this.#tokenizer?.free();
        this.#model?.free();
        this.#tokenizer = this.#model = undefined;
    }
}

export class LocalSession implements Session {
    readonly context: number;
    #model: LocalModel;
    #core: types.Session | undefined;
    #closed: () => void;
    /** The call before, at its end. */
    #last: Promise<unknown> = Promise.resolve();

    constructor(model: LocalModel, core: types.Session, closed: () => void) {
        this.#model = model;
        this.#core = core;
        this.#closed = closed;
        this.context = core.context;
    }

    get #session(): types.Session {
        if (!this.#core) throw closedError();
        return this.#core;
    }

    /** Runs `call` once all calls before it have ended. */
    #queue<T>(call: () => T | Promise<T>): Promise<T> {
        const result = this.#last.then(call);
        this.#last = result.catch(() => {});
        return result;
    }

    eval(tokens: Uint32Array | readonly number[]): Promise<Float32Array> {
        return this.#queue(() => checked(() => {
            this.#session.eval(ids(tokens));
            return this.#session.logits;
        }));
    }

    tokens(): Promise<Uint32Array> {
        return this.#queue(() => this.#session.tokens);
    }

    rewind(position: number): Promise<void> {
        return this.#queue(() => checked(() => this.#session.rewind(position)));
    }

    close(): Promise<void> {
        return this.#queue(() => {
            this.#core?.free();
            this.#core = undefined;
            this.#closed();
        });
    }

    generate(prompt: Prompt, options: GenerateOptions = {}): Generation {
        let settle!: { resolve: (done: Generated) => void; reject: (error: unknown) => void };
        const done = new Promise<Generated>((resolve, reject) => (settle = { resolve, reject }));
        // Whoever reads the pieces gets the error there.
        done.catch(() => {});
        const run = () => this.#run(prompt, options, settle);
        const turn = <T>(call: () => Promise<T>) => this.#queue(call);
        let pieces: AsyncGenerator<Piece> | undefined;
        return {
            done,
            [Symbol.asyncIterator]() {
                if (pieces) throw badArgument("a generation can be read once");
                pieces = exclusively(turn, run);
                return pieces;
            },
        };
    }

    async *#run(
        prompt: Prompt,
        options: GenerateOptions,
        settle: { resolve: (done: Generated) => void; reject: (error: unknown) => void },
    ): AsyncGenerator<Piece> {
        const { signal } = options;
        const done: Generated = {
            text: "", tokens: new Uint32Array(), finish: "cancelled", promptTokens: 0, cachedTokens: 0, prefillSeconds: 0,
            decodeTokens: 0, decodeSeconds: 0,
        };
        const chosen: number[] = [];
        let sampler: types.Sampler | undefined;
        let decoder: types.Decoder | undefined;
        try {
            const session = this.#session;
            const tokens = await this.#model.prompt(prompt, options.think);
            if (tokens.length === 0) throw badArgument("the prompt is empty");
            if (tokens.length > this.context) {
                throw new Dsv4Error("ContextFull", 52, `the context of ${this.context} tokens is full`);
            }
            sampler = checked(() => makeSampler(options));
            const choose = makeChoice(session, sampler, options);
            // Without a tokenizer there is no text.
            const tokenizer = options.stop && !hasTokenizer(this.#model) ? undefined : this.#model.tokenizer;
            decoder = tokenizer?.decoder();
            const stop = new Set(options.stop ?? (tokenizer?.eos === undefined ? [] : [tokenizer.eos]));
            session.observe(options.trace ?? false);

            done.promptTokens = tokens.length;
            done.cachedTokens = session.keepPrefix(tokens);
            if (!(await this.#prefill(session, tokens.subarray(done.cachedTokens), options, done))) return;

            const turn = new Turn();
            const began = performance.now();
            const most = options.maxTokens ?? Infinity;
            let finish: Finish = "length";
            while (chosen.length < most) {
                const top = options.top ? candidates(session, tokenizer, options.top) : undefined;
                const token = checked(choose);
                if (stop.has(token)) {
                    finish = "stop";
                    break;
                }
                chosen.push(token);
                const text = decoder ? checked(() => decoder!.push(token)) : "";
                done.text += text;
                const trace = options.trace ? session.trace() : undefined;
                done.decodeSeconds = (performance.now() - began) / 1000;
                const { decodeSeconds: seconds } = done;
                yield { token, text, position: session.position, seconds, ...(top && { top }), ...(trace && { trace }) };
                if (signal?.aborted) return;
                if (chosen.length >= most || session.position >= this.context) break;
                checked(() => session.eval(Uint32Array.of(token)));
                done.decodeTokens += 1;
                await turn.mayPause();
                if (signal?.aborted) return;
            }
            done.decodeSeconds = (performance.now() - began) / 1000;
            done.finish = finish;
        } catch (thrown) {
            settle.reject(Dsv4Error.from(thrown));
            throw Dsv4Error.from(thrown);
        } finally {
            // Also where the reader has left the loop.
            done.text += decoder?.finish() ?? "";
            decoder?.free();
            sampler?.free();
            done.tokens = ids(chosen);
            settle.resolve(done);
        }
    }

    /** Evaluates the prompt in calls short enough that a cancel is heard in between; `false` if there was one. */
    async #prefill(session: types.Session, rest: Uint32Array, options: GenerateOptions, done: Generated): Promise<boolean> {
        const began = performance.now();
        const seconds = () => (performance.now() - began) / 1000;
        const turn = new Turn();
        let slice = FIRST_SLICE;
        for (let at = 0; at < rest.length; ) {
            if (options.signal?.aborted) return false;
            const n = Math.min(slice, session.batch, rest.length - at);
            const before = seconds();
            checked(() => session.eval(rest.subarray(at, at + n)));
            at += n;
            slice = Math.max(32, Math.round((n * SLICE_SECONDS) / Math.max(seconds() - before, 1e-4)));
            done.prefillSeconds = seconds();
            options.onPrefill?.({ done: at, of: rest.length, seconds: done.prefillSeconds });
            await turn.mayPause();
        }
        return !options.signal?.aborted;
    }
}

function hasTokenizer(model: LocalModel): boolean {
    try {
        return model.tokenizer !== undefined;
    } catch {
        return false;
    }
}

/** Runs a generator as one call among a session's. */
async function* exclusively<T>(
    queue: <R>(call: () => Promise<R>) => Promise<R>,
    run: () => AsyncGenerator<T>,
): AsyncGenerator<T> {
    let end!: () => void;
    await new Promise<void>((begin) => {
        void queue(() => new Promise<void>((ended) => {
            end = ended;
            begin();
        }));
    });
    try {
        yield* run();
    } finally {
        end();
    }
}

function makeSampler(o: GenerateOptions): types.Sampler {
    const seed = o.seed ?? crypto.getRandomValues(new BigUint64Array(1))[0]!;
    return new glue.Sampler(
        o.temperature ?? 1, o.topK ?? 0, o.topP ?? 1, o.minP ?? 0, o.repetitionPenalty ?? 1, o.presencePenalty ?? 0,
        o.frequencyPenalty ?? 0, BigInt.asUintN(64, BigInt(seed)),
    );
}

function makeChoice(session: types.Session, sampler: types.Sampler, o: GenerateOptions): () => number {
    const penalized = (o.repetitionPenalty ?? 1) !== 1 || !!o.presencePenalty || !!o.frequencyPenalty;
    const none = new Uint32Array();
    const window = o.penaltyWindow ?? 256;
    const biased = ids([...(o.bias?.keys() ?? [])]);
    const bias = Float32Array.from(o.bias?.values() ?? []);
    return () => session.sample(sampler, penalized && window > 0 ? session.tokens.slice(-window) : none, biased, bias);
}

function candidates(session: types.Session, tokenizer: types.Tokenizer | undefined, n: number): Candidate[] {
    const { tokens, logProbs } = checked(() => session.top(n));
    return Array.from(tokens, (token, i) => {
        return { token, text: tokenizer?.decode(Uint32Array.of(token)) ?? "", logProb: logProbs[i]! };
    });
}
