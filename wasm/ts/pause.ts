/** Milliseconds of work after which others get their turn. */
const TURN = 8;

const later: (resume: () => void) => void = (() => {
    const { setImmediate } = globalThis as { setImmediate?: (resume: () => void) => void };
    if (setImmediate) return setImmediate;
    // Not a timer: those wait for four milliseconds when they nest.
    const waiting: (() => void)[] = [];
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => waiting.shift()?.();
    return (resume) => {
        waiting.push(resume);
        port2.postMessage(null);
    };
})();

/** Lets the event loop run, so that messages (a cancel among them) arrive. */
export const pause = () => new Promise<void>(later);

/** Says when work has taken its turn. */
export class Turn {
    #began = performance.now();

    async mayPause(): Promise<void> {
        if (performance.now() - this.#began < TURN) return;
        await pause();
        this.#began = performance.now();
    }
}
