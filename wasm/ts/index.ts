/**
 * DeepSeek-V4 in a web page, Node or Deno.
 *
 * ```ts
 * const model = await load("model.gguf");
 * const session = await model.session({ context: 4096 });
 * for await (const piece of session.generate("Why is the sky blue?")) write(piece.text);
 * ```
 */

import { loadLocal } from "./local.js";
import { loadRemote } from "./remote.js";
import type { LoadOptions, Model, Source } from "./types.js";

/**
 * Loads a model from one file, or from all its splits in order. Its bytes go straight to where they stay; what cannot be
 * loaded is refused as soon as its header shows it. Rejects with a {@link Dsv4Error}, or with the signal's reason.
 */
export async function load(source: Source | readonly Source[], options: LoadOptions = {}): Promise<Model> {
    const sources = Array.isArray(source) ? (source as readonly Source[]) : [source as Source];
    return options.worker === false ? loadLocal(sources, options) : loadRemote(sources, options);
}

export { bestBuild } from "./engine.js";
export { Dsv4Error } from "./errors.js";
export { forget } from "./source.js";
export type * from "./types.js";
