/** Why a call failed. `code` and `name` are permanent, and the same in Rust and C: see `core/src/error.rs`. */
export class Dsv4Error extends Error {
    readonly code: number;

    constructor(name: string, code: number, message: string, options?: ErrorOptions) {
        super(message, options);
        this.name = name;
        this.code = code;
    }

    /** What the core threw, or what came over from a worker, as one of these; anything else stays what it is. */
    static from(thrown: unknown): unknown {
        if (thrown instanceof Dsv4Error || !isCoded(thrown)) return thrown;
        return new Dsv4Error(thrown.name, thrown.code, thrown.message, { cause: thrown });
    }
}

function isCoded(thrown: unknown): thrown is { name: string; code: number; message: string } {
    const error = thrown as { name?: unknown; code?: unknown; message?: unknown } | null;
    return typeof error?.code === "number" && typeof error.name === "string" && typeof error.message === "string"
        && !(typeof DOMException !== "undefined" && thrown instanceof DOMException);
}

/** A source that cannot be read; `status` is HTTP's where there is one. */
export const sourceError = (message: string, cause?: unknown) => new Dsv4Error("Io", 90, message, { cause });

export const badArgument = (what: string) => new Dsv4Error("BadArgument", 50, `invalid argument: ${what}`);

/** Calls after the worker has ended, by `close` or by a fault. */
export const closedError = (cause?: unknown) =>
    new Dsv4Error("Closed", 100, "the model is closed", cause === undefined ? undefined : { cause });

/** Runs `call`, and makes what it throws a {@link Dsv4Error}. */
export function checked<T>(call: () => T): T {
    try {
        return call();
    } catch (thrown) {
        throw Dsv4Error.from(thrown);
    }
}
