/**
 * Listens as a program would and says what it hears, a JSON line each. Told `cut` on its input, it loses its connection and
 * stays away until it is told `back`.
 * tests/acceptance/test_typescript.py runs it against a running server.
 */
import { createInterface } from "node:readline";
import { WebSocket } from "ws";
import { LiveClient, get } from "../src/index.js";
import type { WebSocketLike } from "../src/index.js";

const { WEIR_URL = "", WEIR_LIVE_URL = "", WEIR_TOKEN = "" } = process.env;
const say = (what: Record<string, unknown>): void => console.log(JSON.stringify(what));
const sockets: WebSocket[] = [];
let isBack = Promise.resolve();
let back = (): void => {};

class Watched extends WebSocket {
  constructor(url: string) {
    super(url);
    sockets.push(this);
  }
}

const page = await get(WEIR_URL, WEIR_TOKEN, "/v1/sensors", { query: { limit: 10 } });
say({ said: "sensors", names: page.items.map((sensor) => sensor.name) });

const client = new LiveClient({
  url: WEIR_LIVE_URL,
  token: () => isBack.then(() => WEIR_TOKEN),
  WebSocket: Watched as unknown as new (url: string) => WebSocketLike,
  onState: (state, detail) => say({ said: "state", state, detail }),
  onError: (code, message) => say({ said: "error", code, message }),
});
for (const channel of ["readings", "alerts"] as const) {
  client.subscribe(channel, {
    snapshot: (items) => say({ said: "snapshot", channel, items }),
    event: (items) => say({ said: "event", channel, items }),
    sync: (cursor) => say({ said: "sync", channel, cursor }),
    lost: (reason) => say({ said: "lost", channel, reason }),
  });
}
client.start();

for await (const line of createInterface({ input: process.stdin })) {
  if (line === "back") back();
  if (line !== "cut") continue;
  isBack = new Promise((resolve) => { back = resolve; });
  sockets.at(-1)?.terminate();
}
