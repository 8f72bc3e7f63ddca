// The pictures of what the model does. Each draws from numbers that the package gives; none makes any up.

import type { Candidate, ModelInfo, Piece, Trace } from "./dsv4/index.js";

const element = <T extends HTMLElement>(id: string) => document.getElementById(id) as T;

const number = new Intl.NumberFormat("en");

export function bytes(n: number): string {
    const units = ["bytes", "kB", "MB", "GB"];
    let unit = 0;
    while (n >= 1000 && unit < units.length - 1) [n, unit] = [n / 1000, unit + 1];
    return `${unit === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)} ${units[unit]}`;
}

/** A canvas of the page's width and its own height, in CSS pixels, with the theme's colours at hand. */
class Picture {
    readonly #canvas: HTMLCanvasElement;
    readonly #draw: (picture: Picture) => void;
    context!: CanvasRenderingContext2D;
    width = 0;
    /** Drawn at the next frame already. */
    #due = false;

    constructor(id: string, draw: (picture: Picture) => void) {
        this.#canvas = element(id);
        this.#draw = draw;
        new ResizeObserver(() => this.refresh()).observe(this.#canvas);
        matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.refresh());
    }

    refresh(): void {
        if (this.#due) return;
        this.#due = true;
        requestAnimationFrame(() => {
            this.#due = false;
            this.width = this.#canvas.clientWidth;
            if (this.width > 0) this.#draw(this);
        });
    }

    /** Clears it, at this height. */
    begin(height: number): CanvasRenderingContext2D {
        const scale = devicePixelRatio || 1;
        const [width, pixels] = [Math.round(this.width * scale), Math.round(height * scale)];
        if (this.#canvas.width !== width || this.#canvas.height !== pixels) {
            this.#canvas.width = width;
            this.#canvas.height = pixels;
            this.#canvas.style.height = `${height}px`;
        }
        this.context = this.#canvas.getContext("2d")!;
        this.context.setTransform(scale, 0, 0, scale, 0, 0);
        this.context.clearRect(0, 0, this.width, height);
        this.context.font = "12px system-ui, sans-serif";
        this.context.textBaseline = "middle";
        return this.context;
    }

    colour(name: "text" | "soft" | "cold" | "line" | "accent" | "warm"): string {
        return getComputedStyle(this.#canvas).getPropertyValue(`--${name}`).trim();
    }

    set label(text: string) {
        this.#canvas.setAttribute("aria-label", text);
    }
}

const mixed = (from: string, to: string, share: number) =>
    `color-mix(in oklab, ${to} ${(100 * Math.min(1, Math.max(0, share))).toFixed(1)}%, ${from})`;

/** Room for the layers' names at the left. */
const NAMES = 58;

export class Panels {
    #info: ModelInfo | undefined;
    #trace: Trace | undefined;
    #position = 0;
    /** [L, E] a decaying count of each expert's tokens. */
    #heat = new Float32Array();
    #experts = new Picture("experts", (picture) => this.#drawExperts(picture));
    #attention = new Picture("attention", (picture) => this.#drawAttention(picture));
    #streams = new Picture("streams", (picture) => this.#drawStreams(picture));

    /** A new model, or a new conversation. */
    begin(info: ModelInfo): void {
        this.#info = info;
        this.#trace = undefined;
        this.#position = 0;
        this.#heat = new Float32Array(info.layers * info.experts);
        element("hash-note").textContent = info.hashLayers > 0
            ? `In the first ${info.hashLayers} layers the token itself decides which; after that a router does.` : "";
        element("top").replaceChildren();
        element("top-of").textContent = "";
        this.#update();
    }

    show({ position, trace }: Piece): void {
        this.#position = position;
        if (trace) {
            this.#trace = trace;
            const most = Math.max(...trace.fired, 1);
            for (let i = 0; i < this.#heat.length; i++) {
                this.#heat[i] = Math.min(1, this.#heat[i]! * 0.93 + (0.35 * trace.fired[i]!) / most);
            }
        }
        this.#update();
    }

    #update(): void {
        this.#experts.refresh();
        this.#attention.refresh();
        this.#streams.refresh();
        this.#showCache();
    }

    #drawExperts(picture: Picture): void {
        const info = this.#info;
        if (!info) return;
        const { layers, experts, expertsUsed: k } = info;
        const row = layers > 16 ? 9 : 22;
        const cell = (picture.width - NAMES) / experts;
        const gap = cell > 8 ? 2 : 0;
        const context = picture.begin(layers * row);
        const [cold, warm, text, soft] =
            [picture.colour("cold"), picture.colour("warm"), picture.colour("text"), picture.colour("soft")];
        for (let layer = 0; layer < layers; layer++) {
            const y = layer * row;
            if (layers <= 16 || layer % 4 === 0) {
                context.fillStyle = soft;
                context.fillText(`layer ${layer + 1}`, 0, y + row / 2);
            }
            for (let expert = 0; expert < experts; expert++) {
                context.fillStyle = mixed(cold, warm, this.#heat[layer * experts + expert]!);
                context.fillRect(NAMES + expert * cell, y + 1, cell - gap, row - 2);
            }
            for (let i = 0; this.#trace && i < k; i++) {
                const expert = this.#trace.chosen[layer * k + i]!;
                context.strokeStyle = text;
                context.lineWidth = Math.min(2, cell / 4);
                context.strokeRect(NAMES + expert * cell + 1, y + 2, cell - gap - 2, row - 4);
            }
        }
        const each = +((100 * k) / experts).toFixed(1);
        const now = this.#trace && Array.from({ length: layers }, (_, layer) => {
            const chosen = this.#trace!.chosen.slice(layer * k, (layer + 1) * k);
            return `layer ${layer + 1}: ${[...chosen].map((e) => e + 1).join(", ")}`;
        });
        element("experts-text").textContent =
            `${k} of ${experts} experts work on each token, and one that all share: ${each} % of what is there.`;
        picture.label = now ? `Experts of the last token. ${now.join("; ")}` : "No token yet";
    }

    #drawAttention(picture: Picture): void {
        const info = this.#info;
        if (!info) return;
        const row = info.layers > 16 ? 12 : 30;
        const note = picture.width > 520 ? 190 : 0;
        const width = picture.width - NAMES - note;
        const context = picture.begin(info.layers * row);
        const [cold, warm, accent, soft] =
            [picture.colour("cold"), picture.colour("warm"), picture.colour("accent"), picture.colour("soft")];
        const tokens = Math.max(this.#position, 1);
        const x = (token: number) => NAMES + (width * token) / tokens;
        const said: string[] = [];
        for (let layer = 0; layer < info.layers; layer++) {
            const y = layer * row;
            const ratio = info.ratios[layer]!;
            const windowed = Math.min(this.#position, info.window);
            const finished = ratio ? Math.floor(this.#position / ratio) : 0;
            const selected = this.#trace?.selected[layer] ?? new Uint32Array();
            const seen = selected.length > 0 ? selected.length : finished;
            context.fillStyle = soft;
            if (info.layers <= 16 || layer % 4 === 0) context.fillText(`layer ${layer + 1}`, 0, y + row / 2);
            context.fillStyle = cold;
            context.fillRect(NAMES, y + 2, width, row - 4);
            if (ratio) {
                // The upper band: entries.
                const each = width / (tokens / ratio);
                const gap = each > 4 ? 1 : 0;
                context.fillStyle = accent;
                const bar = (entry: number) =>
                    context.fillRect(x(entry * ratio), y + 2, Math.max(each - gap, 0.5), (row - 4) / 2);
                if (selected.length > 0) selected.forEach(bar);
                else for (let entry = 0; entry < finished; entry++) bar(entry);
            }
            context.fillStyle = warm;
            const half = ratio ? (row - 4) / 2 : 0;
            context.fillRect(x(tokens - windowed), y + 2 + half, x(tokens) - x(tokens - windowed), row - 4 - half);
            const entries = `${seen}${seen < finished ? ` of ${finished}` : ""} entries of ${ratio}`;
            const words = ratio ? `${windowed} tokens, ${entries}` : `${windowed} tokens`;
            said.push(`layer ${layer + 1}: ${words}`);
            context.fillStyle = soft;
            if (note && row > 12) context.fillText(words, picture.width - note + 12, y + row / 2);
        }
        picture.label = `Of ${this.#position} tokens: ${said.join("; ")}`;
    }

    #drawStreams(picture: Picture): void {
        const info = this.#info;
        if (!info) return;
        const { layers, streams: n } = info;
        const mix = (2 + n) * n;
        const columns = Math.min(layers, Math.max(3, Math.floor(picture.width / 46)));
        const width = picture.width / columns;
        const square = Math.min(width - 10, 72);
        const cell = square / n;
        const block = 2 * square + 34;
        const context = picture.begin(Math.ceil(layers / columns) * block);
        const [cold, accent, warm, soft] =
            [picture.colour("cold"), picture.colour("accent"), picture.colour("warm"), picture.colour("soft")];
        let apart = 0;
        for (let layer = 0; layer < layers; layer++) {
            const [left, top] = [(layer % columns) * width, Math.floor(layer / columns) * block];
            context.fillStyle = soft;
            context.fillText(`layer ${layer + 1}`, left, top + 8);
            for (const half of [0, 1]) {
                const at = (2 * layer + half) * mix + 2 * n;
                for (let i = 0; i < n; i++) {
                    for (let j = 0; j < n; j++) {
                        const share = this.#trace?.mixes[at + i * n + j] ?? 0;
                        if (i === j) apart += share / (layers * 2 * n);
                        context.fillStyle = mixed(cold, half ? warm : accent, share);
                        const y = top + 18 + half * (square + 6) + i * cell;
                        context.fillRect(left + j * cell, y, cell - 1, cell - 1);
                    }
                }
            }
        }
        picture.label = this.#trace
            ? `${n} streams; ${Math.round(100 * apart)} % of each stays in its own, on average over all layers. Above: before`
                + " attention. Below: before the experts."
            : "No token yet";
    }

    #showCache(): void {
        const info = this.#info;
        if (!info) return;
        const now = Math.max(this.#position, 1);
        const [mine, plain] = [cacheBytes(info, now), plainBytes(info, now)];
        const lines = [["dsv4", mine, "this"], ["a plain cache", plain, ""]] as const;
        element("cache").replaceChildren(...lines.map(([name, size, kind]) => {
            const line = document.createElement("div");
            line.className = `line ${kind}`;
            line.append(span(name), bar(size / Math.max(mine, plain)), span(bytes(size)));
            return line;
        }));
        const [far, farPlain] = [cacheBytes(info, info.context), plainBytes(info, info.context)];
        element("cache-text").textContent =
            `After ${number.format(now)} tokens, both in 32-bit floats. After ${number.format(info.context)}: `
            + `${bytes(far)} against ${bytes(farPlain)}, ${(farPlain / far).toFixed(0)} times as much.`;
    }
}

/** What the cache holds after `tokens` tokens: keys of the window, entries, and the compressors' unfinished windows. */
export function cacheBytes(info: ModelInfo, tokens: number): number {
    let floats = 0;
    for (const ratio of info.ratios) {
        floats += Math.min(tokens, info.window) * info.headSize;
        if (ratio === 0) continue;
        // Windows of 4 tokens overlap: two of them, twice as wide; their values and their gates.
        const [windows, wide] = ratio === 4 ? [2, 2] : [1, 1];
        const each = (size: number) =>
            Math.floor(tokens / ratio) * size + 2 * Math.min(tokens, windows * ratio) * wide * size;
        floats += each(info.headSize) + (ratio === 4 ? each(info.indexerSize) : 0);
    }
    return 4 * floats;
}

/** Keys and values of every head, layer and token. */
export const plainBytes = (info: ModelInfo, tokens: number) => 4 * 2 * info.layers * info.heads * info.headSize * tokens;

function span(text: string): HTMLSpanElement {
    const span = document.createElement("span");
    span.textContent = text;
    return span;
}

function bar(share: number): HTMLDivElement {
    const bar = document.createElement("div");
    bar.className = "bar";
    const filled = document.createElement("i");
    filled.style.width = `${(100 * share).toFixed(2)}%`;
    bar.append(filled);
    return bar;
}

/** A token's text with its spaces and line ends to be seen; its number where it has none of its own. */
const visible = ({ text, token }: { text: string; token: number }) =>
    text.replace(/\n/g, "⏎").replace(/^ /, "␣") || `#${token}`;

/** The candidates at a token's place, the drawn one marked. */
export function showCandidates(piece: Piece): void {
    const { top = [], token: drawn, position } = piece;
    element("top-of").textContent = `In place of “${visible(piece)}”, token ${number.format(position + 1)}:`;
    element("top").replaceChildren(...top.map((candidate: Candidate) => {
        const { token, logProb } = candidate;
        const line = document.createElement("li");
        line.className = token === drawn ? "drawn" : "";
        const code = document.createElement("code");
        code.textContent = visible(candidate);
        const p = Math.exp(logProb);
        line.append(code, bar(p), span(p >= 0.0005 ? `${(100 * p).toFixed(1)} %` : "< 0.1 %"));
        if (token === drawn) line.setAttribute("aria-current", "true");
        return line;
    }));
}
