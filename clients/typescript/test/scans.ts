/**
 * Makes a scan, uploads a file to it through a connection that breaks once, cancels it, and says what it sees, a JSON line each.
 * tests/acceptance/test_typescript.py runs it against a running server.
 */
import { WebSocket } from "ws";
import { LiveClient, Refused, Scans } from "../src/index.js";
import type { Scan, WebSocketLike } from "../src/index.js";

const { WEIR_URL = "", WEIR_LIVE_URL = "", WEIR_TOKEN = "" } = process.env;
const say = (what: Record<string, unknown>): void => console.log(JSON.stringify(what));
const scans = new Scans(WEIR_URL, () => WEIR_TOKEN);

const made = await scans.create({ name: "From TypeScript" });
const heard = new Promise<Scan>((resolve) => {
  const live = new LiveClient({ url: WEIR_LIVE_URL, token: () => WEIR_TOKEN, WebSocket: WebSocket as unknown as new (url: string) => WebSocketLike });
  const take = (items: Scan[]): void => {
    for (const item of items) {
      if (item.scan_id !== made.scan_id) continue;
      say({ said: "live", status: item.status });
      if (item.status === "cancelled") { live.stop(); resolve(item); }
    }
  };
  live.subscribe("scans", { snapshot: take, event: take });
  live.start();
});

// The second piece is lost on the way once: the client has to ask how far it came.
const real = globalThis.fetch;
let pieces = 0;
globalThis.fetch = (async (url: URL, init: RequestInit) => {
  if (init.method === "PATCH" && ++pieces === 2) throw new TypeError("the connection was cut");
  return real(url, init);
}) as typeof fetch;

const bytes = new Uint8Array(100_000).map((_, n) => n % 251);
const offsets: number[] = [];
const file = await scans.upload(made.scan_id, new Blob([bytes]), { name: "room.ply", pieceBytes: 30_000, told: (offset) => offsets.push(offset) });
say({ said: "uploaded", file, offsets });

await scans.export(made.scan_id, "glb").catch((error: unknown) => {
  if (error instanceof Refused) say({ said: "refused", status: error.status, code: (error.problem as { code: string }).code });
});
await scans.cancel(made.scan_id);
say({ said: "cancelled", scan: (await heard).scan_id === made.scan_id, status: (await scans.read(made.scan_id)).status });
