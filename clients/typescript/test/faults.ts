/**
 * What the client does when others fail: a server that stops, says nothing or refuses, a token that cannot be had, an upload of
 * which no piece is taken. Sockets, requests and timers are the program's own; it says what it sees, a JSON line each.
 * tests/acceptance/test_typescript.py runs it.
 */
import { LiveClient, Refused, Scans, get } from "../src/index.js";
import type { LiveOptions, WebSocketLike } from "../src/index.js";

const say = (what: Record<string, unknown>): void => console.log(JSON.stringify(what));
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Nobody waits here: what would be done later is done when it is asked for. */
let waiting: { ms: number; work: () => void }[] = [];
globalThis.setTimeout = ((work: () => void, ms = 0) => {
  const timer = { ms, work };
  waiting.push(timer);
  return timer;
}) as unknown as typeof setTimeout;
globalThis.clearTimeout = ((timer: { ms: number; work: () => void }) => { waiting = waiting.filter((each) => each !== timer); }) as unknown as typeof clearTimeout;
async function pass(ms: number): Promise<void> {
  const due = waiting.filter((each) => each.ms === ms);
  waiting = waiting.filter((each) => each.ms !== ms);
  for (const { work } of due) work();
  await turn();
}

class Socket implements WebSocketLike {
  static made: Socket[] = [];
  readyState = 1;
  sent: string[] = [];
  onopen: WebSocketLike["onopen"] = null;
  onmessage: WebSocketLike["onmessage"] = null;
  onclose: WebSocketLike["onclose"] = null;
  onerror: WebSocketLike["onerror"] = null;
  constructor(readonly url: string) { Socket.made.push(this); }
  send(data: string): void { this.sent.push(data); }
  close(): void { this.readyState = 3; }
  tell(frame: object): void { this.onmessage?.({ data: JSON.stringify(frame) } as never); }
  end(code: number): void { this.onclose?.({ code, reason: "" } as never); }
}

async function listening(more: Partial<LiveOptions> = {}): Promise<{ client: LiveClient; socket: Socket }> {
  waiting = [];
  const client = new LiveClient({ url: "ws://server/v1/live", token: () => "key", WebSocket: Socket, random: () => 0, ...more });
  client.start();
  await turn();
  return { client, socket: Socket.made.at(-1)! };
}

async function draining(): Promise<void> {
  const { client, socket } = await listening();
  socket.tell({ op: "ready", tenant_id: "ten_1", retry_ms: 1_000 });
  socket.tell({ op: "error", code: "draining", message: "", retry_ms: 7_000 });
  socket.end(3001);
  // Half of the first wait of 500 ms, after what the server said.
  say({ said: "draining", waits: waiting.map(({ ms }) => ms) });
  client.stop();
}

async function mute(): Promise<void> {
  const { client, socket } = await listening();
  await pass(15_000);
  say({ said: "mute", state: client.state, closed: socket.readyState === 3 });
  client.stop();
  say({ said: "stopped", timers: waiting.length });
}

async function tokenless(): Promise<void> {
  let isAway = false;
  const errors: string[] = [];
  const token = (): Promise<string> => (isAway ? Promise.reject(new Error("no token today")) : Promise.resolve("key"));
  const { client, socket } = await listening({ token, onError: (code) => errors.push(code) });
  socket.tell({ op: "ready", tenant_id: "ten_1", retry_ms: 1_000 });
  isAway = true;
  await pass(20_000);
  say({ said: "tokenless", state: client.state, errors, sent: socket.sent.map((each) => (JSON.parse(each) as { op: string }).op) });
  client.stop();
}

let asked: string[] = [];
function answering(answer: (method: string) => Response): void {
  asked = [];
  globalThis.fetch = ((url: URL, init: RequestInit = {}) => {
    asked.push(`${init.method ?? "GET"} ${url.pathname}${url.search}`);
    return Promise.resolve(answer(init.method ?? "GET"));
  }) as typeof fetch;
}

const problem = (status: number, code: string): Response => Response.json({ code, detail: `refused: ${code}` }, { status });
const here = (offset: number): Response => new Response(null, { status: 204, headers: { "Upload-Offset": String(offset) } });

async function uploaded(name: string, pieces: () => Response, signal?: AbortSignal): Promise<void> {
  waiting = [];
  answering((method) => (method === "HEAD" ? here(0) : pieces()));
  let why: unknown = null;
  const upload = new Scans("http://server", () => "key").upload("scan_1", new Blob(["ply"]), { name: "a.ply", fileId: "fil_1", ...(signal ? { signal } : {}) })
    .catch((error: unknown) => { why = error; });
  for (let turns = 0; why === null && turns < 200; turns++) {
    if (waiting[0]) await pass(waiting[0].ms);
    await turn();
  }
  if (why !== null) await upload;
  const refused = why instanceof Refused ? { status: why.status, message: why.message } : { name: (why as Error | null)?.name };
  say({ said: name, ...refused, pieces: asked.filter((each) => each.startsWith("PATCH")).length });
}

async function left(): Promise<void> {
  const leaving = new AbortController();
  answering(() => problem(503, "away"));
  waiting = [];
  const upload = new Scans("http://server", () => "key").upload("scan_1", new Blob(["ply"]), { name: "a.ply", fileId: "fil_1", signal: leaving.signal })
    .catch((error: unknown) => (error as Error).name);
  await turn();
  await turn();
  const before = waiting.length;
  globalThis.fetch = ((_: URL, init: RequestInit) => (init.signal?.aborted ? Promise.reject(init.signal.reason as Error) : Promise.reject(new TypeError("cut")))) as typeof fetch;
  leaving.abort();
  say({ said: "left", waited: before, after: waiting.length, why: await upload });
}

async function read(): Promise<void> {
  answering(() => Response.json({ items: [], next: null }));
  await get("http://server", "key", "/v1/scans", { query: { status: ["completed", "failed"] } });
  const [url] = asked;
  answering(() => new Response("<html>Bad gateway</html>", { status: 502 }));
  const why = await get("http://server", "key", "/v1/scans").catch((error: unknown) => String(error));
  say({ said: "read", url, why });
}

await draining();
await mute();
await tokenless();
await uploaded("never taken", () => problem(500, "broken"));
await uploaded("not ours", () => problem(409, "not_receiving"));
await left();
await read();
say({ said: "done" });
