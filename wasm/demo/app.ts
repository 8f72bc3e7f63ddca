// The page: loads a model, talks with it, and shows the panels what it does.

import { Dsv4Error, load } from "./dsv4/index.js";
import type { Message, Model, Piece, Session, Source } from "./dsv4/index.js";
import { Panels, bytes, showCandidates } from "./panels.js";

const element = <T extends HTMLElement>(id: string) => document.getElementById(id) as T;

const IDEAS = ["Tell me a story.", "What is 17 + 25?", "Tell me a story about a goose.", "What is 9 + 4?"];
/** Tokens a second in slow motion. */
const SLOW = 6;
const CONTEXT = 4096;

const [log, message, form] = [element("log"), element<HTMLTextAreaElement>("message"), element<HTMLFormElement>("form")];
const [send, stop] = [element<HTMLButtonElement>("send"), element<HTMLButtonElement>("stop")];
const panels = new Panels();
const frame = () => new Promise(requestAnimationFrame);

let model: Model | undefined;
let session: Session | undefined;
let messages: Message[] = [];
let loading: AbortController | undefined;
let answering: AbortController | undefined;

function fail(error: unknown): void {
    const shown = element("error");
    shown.textContent = error instanceof Dsv4Error ? `${error.message} (${error.name}, ${error.code})` : String(error);
    shown.hidden = false;
}

/** Whether questions are taken: not while a model loads, whose first act would be to clear them away. */
function takeQuestions(taken: boolean): void {
    send.disabled = !taken;
    for (const idea of element("ideas").querySelectorAll("button")) idea.disabled = !taken;
}

/** Ends what is being answered. */
async function silence(): Promise<void> {
    answering?.abort();
    while (answering) await frame();
}

async function open(source: Source | Source[], name: string): Promise<boolean> {
    loading?.abort();
    answering?.abort();
    const mine = (loading = new AbortController());
    takeQuestions(false);
    element("error").hidden = true;
    const bar = element<HTMLProgressElement>("load-bar");
    // What loads at once needs no bar.
    const late = setTimeout(() => (element("loading").hidden = false), 300);
    try {
        const next = await load(source, {
            signal: mine.signal,
            onProgress: ({ loaded, total }) => {
                if (total) bar.value = loaded / total;
                element("load-text").textContent = total ? `${bytes(loaded)} of ${bytes(total)}` : bytes(loaded);
            },
        });
        await silence();
        const last = model;
        [model, session] = [next, undefined];
        await last?.close();
        session = await next.session({ context: Math.min(CONTEXT, next.info.context) });
        element("model-name").textContent = next.info.name || name;
        const { level, threads } = next.engine;
        element("engine").textContent = `in all; ${level}, ${threads === 1 ? "1 thread" : `${threads} threads`}`;
        begin();
        return true;
    } catch (error) {
        if (!mine.signal.aborted) fail(error);
        return false;
    } finally {
        clearTimeout(late);
        if (loading === mine) {
            element("loading").hidden = true;
            takeQuestions(session !== undefined);
        }
    }
}

/** A new conversation. */
function begin(): void {
    messages = [];
    log.replaceChildren();
    panels.begin(model!.info);
    element("context").textContent = "0";
    element("context-of").textContent = `of ${session!.context} tokens`;
    element("ideas").hidden = false;
    void showMemory();
}

async function showMemory(): Promise<void> {
    if (model) element("memory").textContent = bytes(await model.memory());
}

function turn(who: "user" | "model", text = ""): HTMLDivElement {
    const turn = document.createElement("div");
    turn.className = `turn ${who}`;
    turn.textContent = text;
    log.append(turn);
    log.scrollTop = log.scrollHeight;
    return turn;
}

/** An answer whose tokens can be pointed at, or walked along with the arrow keys. */
class Answer {
    readonly #turn = turn("model");
    readonly #pieces: Piece[] = [];
    #chosen = -1;

    constructor() {
        Answer.#forget();
        this.#turn.tabIndex = 0;
        this.#turn.setAttribute("aria-label", "Answer; left and right arrows show the candidates of each token");
        this.#turn.addEventListener("pointerover", ({ target }) => this.#point(target));
        this.#turn.addEventListener("click", ({ target }) => this.#point(target));
        this.#turn.addEventListener("keydown", (event) => {
            const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
            if (step === undefined) return;
            event.preventDefault();
            this.#choose(Math.min(this.#pieces.length - 1, Math.max(0, this.#chosen + step)));
        });
    }

    add(piece: Piece): void {
        const token = document.createElement("span");
        token.className = "token";
        token.textContent = piece.text;
        this.#pieces.push(piece);
        const down = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
        this.#turn.append(token);
        if (down) log.scrollTop = log.scrollHeight;
        if (this.#chosen < 0) showCandidates(piece);
    }

    /** The last token says little: shows where the model was least sure. */
    end(): void {
        if (this.#chosen >= 0) return;
        const surest = this.#pieces.map((piece) => piece.top?.[0]?.logProb ?? 0);
        this.#choose(surest.indexOf(Math.min(...surest)));
    }

    #point(target: EventTarget | null): void {
        const i = target instanceof Element ? [...this.#turn.children].indexOf(target) : -1;
        if (i >= 0) this.#choose(i);
    }

    /** One token is marked, of all answers. */
    static #forget(): void {
        log.querySelector(".token.chosen")?.classList.remove("chosen");
    }

    #choose(i: number): void {
        const piece = this.#pieces[i];
        if (!piece) return;
        Answer.#forget();
        this.#chosen = i;
        this.#turn.children[i]!.classList.add("chosen");
        showCandidates(piece);
    }
}

const rate = (tokens: number, seconds: number) => {
    const rate = tokens / seconds;
    return rate >= 100 ? String(Math.round(rate)) : rate.toFixed(1);
};

async function ask(text: string): Promise<void> {
    if (!session || answering) return;
    const mine = (answering = new AbortController());
    const { signal } = mine;
    element("error").hidden = true;
    element("ideas").hidden = true;
    [send.hidden, stop.hidden] = [true, false];
    turn("user", text);
    messages.push({ role: "user", content: text });
    const answer = new Answer();
    try {
        const generation = session.generate(messages, {
            signal, top: 6, trace: true, maxTokens: 512, topP: 0.95,
            temperature: element<HTMLInputElement>("temperature").valueAsNumber,
            onPrefill: ({ done, seconds }) => (element("prefill").textContent = rate(done, seconds)),
        });
        let written = 0;
        let shown = performance.now();
        for await (const piece of generation) {
            if (written++ === 0) performance.mark("first-token");
            answer.add(piece);
            panels.show(piece);
            element("context").textContent = String(piece.position + 1);
            if (written > 1) element("decode").textContent = rate(written - 1, piece.seconds);
            if (element<HTMLInputElement>("slow").checked) {
                await new Promise((resolve) => setTimeout(resolve, 1000 / SLOW));
            } else if (performance.now() - shown > 12) {
                await frame();
                shown = performance.now();
            }
            if (signal.aborted) break;
        }
        const done = await generation.done;
        if (done.decodeTokens > 0) element("decode").textContent = rate(done.decodeTokens, done.decodeSeconds);
        messages.push({ role: "assistant", content: done.text });
        answer.end();
    } catch (error) {
        messages.pop();
        if (!signal.aborted) fail(error);
    } finally {
        answering = undefined;
        [send.hidden, stop.hidden] = [false, true];
        element("ideas").hidden = false;
        void showMemory();
    }
}

form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = message.value.trim();
    if (!text || answering || send.disabled) return;
    message.value = "";
    void ask(text);
});
message.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
});
stop.addEventListener("click", () => {
    answering?.abort();
    message.focus();
});
element("new").addEventListener("click", async () => {
    await silence();
    if (session) begin();
    message.focus();
});
element("temperature").addEventListener("input", ({ target }) => {
    element("temperature-value").textContent = (target as HTMLInputElement).valueAsNumber.toFixed(1);
});
element("load-cancel").addEventListener("click", () => loading?.abort());

const file = element<HTMLInputElement>("file");
const openFiles = (files: FileList) => {
    // Splits come in the order of their names.
    const sorted = [...files].sort((a, b) => a.name.localeCompare(b.name));
    if (sorted.length > 0) void open(sorted, sorted[0]!.name);
};
element("open").addEventListener("click", () => file.click());
file.addEventListener("change", () => file.files && openFiles(file.files));
addEventListener("dragover", (event) => {
    event.preventDefault();
    element("drop").hidden = false;
});
addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) element("drop").hidden = true;
});
addEventListener("drop", (event) => {
    event.preventDefault();
    element("drop").hidden = true;
    if (event.dataTransfer) openFiles(event.dataTransfer.files);
});

for (const idea of IDEAS) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = idea;
    button.addEventListener("click", () => void ask(idea));
    element("ideas").append(button);
}

// Something to see at once.
if (await open("small.gguf", "the small model")) await ask(IDEAS[0]!);

// From now on the page opens without a network too.
if ("serviceWorker" in navigator) {
    const { active, waiting, installing } = await navigator.serviceWorker.register("offline.js");
    const files: string[] = await (await fetch("files.json")).json();
    // Of the module's builds the one that runs here.
    const build = `dsv4-${model?.engine.build}.wasm`;
    const wanted = files.filter((file) => !file.endsWith(".wasm") || file.endsWith(build));
    (active ?? waiting ?? installing)?.postMessage(wanted.map((file) => new URL(file, location.href).href));
}
