// Serves a folder of static files: node wasm/tools/serve.mjs [FOLDER] [PORT]; prints the address. With `--isolated`,
// pages are cross-origin isolated, and may use threads.
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const TYPES = {
    ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css",
    ".wasm": "application/wasm", ".svg": "image/svg+xml", ".json": "application/json",
};

/** Folders by the path that they are found under; gives { origin, close }. */
export async function serve(folders, { port = 0, isolated = false } = {}) {
    const server = createServer(async (request, response) => {
        const path = normalize(decodeURIComponent(new URL(request.url, "http://localhost").pathname));
        const mount = Object.keys(folders).sort((a, b) => b.length - a.length).find((prefix) => path.startsWith(prefix));
        let file = mount === undefined ? undefined : join(folders[mount], path.slice(mount.length));
        if (file && path.endsWith("/")) file = join(file, "index.html");
        const found = file ? await stat(file).catch(() => undefined) : undefined;
        if (!found?.isFile()) return void response.writeHead(404).end();
        const headers = {
            "content-type": TYPES[extname(file)] ?? "application/octet-stream",
            "content-length": found.size,
            "cache-control": "no-cache",
        };
        if (isolated) {
            headers["cross-origin-opener-policy"] = "same-origin";
            headers["cross-origin-embedder-policy"] = "require-corp";
        }
        response.writeHead(200, headers);
        createReadStream(file).pipe(response);
    });
    await new Promise((resolve) => server.listen(port, "localhost", resolve));
    return { origin: `http://localhost:${server.address().port}`, close: () => server.close() };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
    const args = process.argv.slice(2).filter((arg) => arg !== "--isolated");
    const folder = args[0] ?? fileURLToPath(new URL("../dist/demo", import.meta.url));
    const isolated = process.argv.includes("--isolated");
    const { origin } = await serve({ "/": folder }, { port: Number(args[1] ?? 8000), isolated });
    console.log(`${origin}/`);
}
