// A service worker: the page's own files come from the network as long as there is one, and from the last visit where there
// is none. Models that a person opens are not kept.

interface Extendable extends Event {
    waitUntil(promise: Promise<unknown>): void;
}
interface Fetching extends Extendable {
    readonly request: Request;
    respondWith(response: Promise<Response>): void;
}

const files = caches.open("dsv4-demo");

// The page names its files.
addEventListener("message", (event) => {
    const urls = event.data as string[];
    const keep = async (url: string) => (await files).add(new Request(url, { cache: "force-cache" })).catch(() => {});
    (event as unknown as Extendable).waitUntil(Promise.all(urls.map(keep)));
});

addEventListener("fetch", (event) => {
    const fetching = event as unknown as Fetching;
    const { request } = fetching;
    if (request.method !== "GET" || new URL(request.url).origin !== location.origin) return;
    fetching.respondWith(fetch(request).catch(async () => (await (await files).match(request)) ?? Response.error()));
});
