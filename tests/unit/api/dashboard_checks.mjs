// What the dashboard's modules make of data, without a browser: each check says one JSON line, which test_dashboard_scripts.py expects.
// Elements are only what is needed to read what a view shows; nobody waits for timers, they are called.
const [, , folder] = process.argv;
const take = (path) => import(`${folder}/${path}`);
const say = (name, found) => console.log(JSON.stringify([name, found]));
const turn = () => new Promise((resolve) => setImmediate(resolve));

class Element {
  constructor(tagName) { Object.assign(this, { tagName, attributes: {}, dataset: {}, children: [], hidden: false }); }
  setAttribute(name, value) {
    this.attributes[name] = value;
    if (name === "hidden") this.hidden = true;
  }
  addEventListener(name, work) { this[`on${name}`] = work; }
  focus() {}
  querySelector() { return null; }
  append(...children) { this.children.push(...children); }
  replaceChildren(...children) { this.children = children; }
  contains() { return false; }
  get textContent() { return this.children.map((child) => child.textContent ?? String(child)).join(""); }
  set textContent(text) { this.children = [text]; }
  all(tag) { return [...(this.tagName === tag ? [this] : []), ...this.children.flatMap((child) => child.all?.(tag) ?? [])]; }
}
globalThis.document = { createElement: (tag) => new Element(tag), createElementNS: (_, tag) => new Element(tag), getElementById: () => new Element("p"), addEventListener() {}, activeElement: null };

let timers = [];
globalThis.setTimeout = (work, ms) => timers.push({ work, ms });
globalThis.setInterval = (work, ms) => timers.push({ work, ms });
globalThis.clearTimeout = globalThis.clearInterval = () => {};
AbortSignal.timeout = () => new AbortController().signal;
// Browsers have these for years, Node since 21 and 19.
globalThis.CustomEvent ??= class extends Event {
  constructor(name, { detail } = {}) { super(name); this.detail = detail; }
};
Map.groupBy ??= (items, keyOf) => items.reduce((groups, item) => groups.set(keyOf(item), [...(groups.get(keyOf(item)) ?? []), item]), new Map());

async function words() {
  const { ceilingText, fileSize, measured, partTexts, reasonText } = await take("scans/words.js");
  say("words", {
    reasons: [reasonText("pose_jump"), reasonText("new_reason"), reasonText(null)],
    sizes: [0, 1, 512, 1_500, 2_000_000_000].map(fileSize),
    parts: partTexts(["wall 2", "wall 5", "ceiling"]),
    lengths: [measured(5.2034, 0.011, "m"), measured(5, 0.0004, "m"), measured(5, 0.12, "m"), measured(20, 0.001, "m²"), measured(null, null, "m"), measured(2, null, "m")].map(({ value, spread }) => `${value} ${spread}`),
    ceilings: [ceilingText({ kind: "sloped", lowest: 2.1, highest: 3 }), ceilingText({ kind: "uneven", lowest: null, highest: null }), ceilingText({ kind: "level" }), ceilingText(undefined)],
  });
  const { clockTime } = await take("format.js");
  say("midnight", clockTime(Date.UTC(2026, 10, 22, 0, 5)));
}

/** Whether the texts of a plan lie within its picture, and what they are. */
async function plan(name, corners, openings = []) {
  const { planOf, wallsOf } = await take("scans/plan.js");
  const scan = { floor_polygon: corners, openings };
  const drawing = planOf(scan);
  const [, , width, height] = drawing.attributes.viewBox.split(" ").map(Number);
  const texts = drawing.all("text");
  const isInside = texts.every(({ attributes: { x, y, "font-size": size } }) => x > size / 2 && y > size / 2 && x < width - size / 2 && y < height - size / 2);
  const angles = texts.map((text) => Number(/rotate\((\S+)/.exec(text.attributes.transform ?? "rotate(0")[1]));
  say(name, { isInside, texts: texts.map((text) => text.textContent), standing: angles.every((angle) => (angle + 90) % 360 < 180), walls: wallsOf(scan).map((wall) => Number(wall.length.toFixed(2))) });
}

async function list() {
  const { Hearing, goneFrom } = await take("scans/list.js");
  const scan = (id, created) => ({ scan_id: id, created_at: created });
  const known = [scan("new", "2026-03"), scan("erased", "2026-02"), scan("old", "2025-01")];
  const page = [scan("new", "2026-03"), scan("there", "2026-01")];
  const hearing = new Hearing();
  let answer;
  const asked = hearing.during(new Promise((resolve) => { answer = resolve; }));
  hearing.heard([scan("there", "2026-01")]);
  answer(page);
  const [items, current] = await asked;
  hearing.heard([scan("new", "2026-03")]);
  say("list", { more: goneFrom(known, page, false), whole: goneFrom(known, page, true), none: goneFrom(known, [], true), current: current(items).map((each) => each.scan_id) });
}

async function upload() {
  const { send } = await take("scans/upload.js");
  async function tries(error) {
    timers = [];
    let pieces = 0, why = null;
    const raw = (method) => {
      if (method === "HEAD") return Promise.resolve(new Response(null, { headers: { "Upload-Offset": "0" } }));
      return ++pieces > 1 ? Promise.resolve(new Response(null, { headers: { "Upload-Offset": "3" } })) : Promise.reject(error);
    };
    const done = send({ raw }, "s", "f", new Blob(["ply"])).then(() => { why = "done"; }, (refused) => { why = refused.code; });
    for (let n = 0; n < 20 && why === null; n++) {
      await turn();
      timers.splice(0).forEach(({ work }) => work());
    }
    await done;
    return [pieces, why];
  }
  say("upload", { offset: await tries({ status: 409, code: "wrong_offset" }), ended: await tries({ status: 409, code: "not_receiving" }), away: await tries({ status: 503, isPassing: true }) });
}

async function live() {
  const { Live } = await take("live.js");
  const sockets = [];
  globalThis.WebSocket = class extends EventTarget {
    static OPEN = 1;
    readyState = 1;
    constructor() { super(); sockets.push(this); }
    send() {}
    close() {}
    hear(frame) { this.dispatchEvent(Object.assign(new Event("message"), { data: JSON.stringify(frame) })); }
  };
  const link = new Live("ws://server", () => "key", () => 0);
  link.start();
  await turn();
  sockets[0].hear({ op: "ready", retry_ms: 1_000 });
  sockets[0].hear({ op: "error", code: "draining", retry_ms: 7_000 });
  timers = [];
  sockets[0].dispatchEvent(Object.assign(new Event("close"), { code: 3001, reason: "" }));
  say("draining", timers.map(({ ms }) => ms));
}

async function feed() {
  const { Feed } = await take("feed.js");
  timers = [];
  const polling = new Feed({}, { subscribe: () => () => {} });
  polling.link = "polling";
  let asked = 0, answer;
  polling.follow("scans", {}, () => { asked++; return new Promise((resolve) => { answer = resolve; }); }, new AbortController().signal);
  const [{ work }] = timers;
  work(); work();
  const during = asked;
  answer();
  await turn();
  work();
  say("polling", [during, asked]);
}

async function http() {
  const { exchange } = await take("http.js");
  const cut = new ReadableStream({ start: (body) => { body.enqueue(new TextEncoder().encode('{"items": [')); body.error(new TypeError("cut")); } });
  globalThis.fetch = () => Promise.resolve(new Response(cut));
  const torn = await exchange("GET", "v1/scans").catch((error) => [error.status, error.message]);
  globalThis.fetch = () => Promise.resolve(new Response(""));
  say("answers", { torn, empty: await exchange("GET", "v1/scans") });
}

async function usage() {
  const { show } = await take("views/usage.js");
  const statement = { plan: "basic", monthly_cents: 2900, status: "active", is_sold: false, is_subscribed: true, cancel_at_period_end: false, refused: {}, period: { start: "2026-11-05T14:00:00.000Z", end: "2026-12-05T14:00:00.000Z" }, quotas: [], corrections: [], meters: [{ meter: "readings", metered: 1, pushed: 1, stripe: null, in_flight: 0, adjusted: 0, rejected: 0 }] };
  const drift = [{ meter: "readings", bucket_start: "2026-11-05T14:00:00.000Z", stored: 7, metered: 7, pushed: 7, adjusted: 0, stripe: 2, difference: -5, explanation: "told, not there" }];
  let reads = 0, isAway = false, tell;
  const answer = (what) => (isAway ? Promise.reject(new Error("away")) : Promise.resolve(what));
  const api = { all: (path) => answer(path === "v1/usage" ? [] : drift), get: () => { reads++; return answer(statement); } };
  timers = [];
  const { node } = show({ api, feed: { follow: (_, handlers) => { tell = handlers.event; } }, signal: new AbortController().signal });
  await turn();
  const text = node.textContent;
  const cells = node.all("td").filter((each) => each.attributes["data-label"] === "Read back").map((each) => each.textContent);
  tell(); tell();
  const waits = timers.map(({ ms }) => ms);
  isAway = true;
  timers[0].work();
  await turn();
  say("usage", { period: /This period: .*?\(UTC\)/.exec(text)[0], cells, waits, reads, stays: node.textContent === text });
}

const SCAN = {
  scan_id: "s", name: "Kitchen", status: "processing", progress: 40, frames: { received: 2, accepted: 1, rejected: [{ seq: 7, reason: null }], missing: [] },
  room_dimensions: null, uncertainty: null, verdict: null, missing_parts: [], floor_polygon: [], openings: [], objects: [], model: { formats: [] }, created_at: "2026-11-22T20:00:00.000Z",
};
const DONE = { ...SCAN, status: "completed", progress: 100 };

/** A view over an API that answers when it is told to, and a feed whose events are told by hand. */
function shown({ show }) {
  const asked = [], went = [];
  let handlers, ask;
  const request = () => new Promise((resolve, reject) => asked.push({ resolve, reject }));
  const feed = { link: "live", devices: new Map(), follow: (_, given, again) => { [handlers, ask] = [given, again]; } };
  const { node } = show({ api: { get: request, all: () => Promise.resolve([]) }, feed, session: { may: () => false }, signal: new AbortController().signal, go: (to) => went.push(to) }, ["s"]);
  return { node, asked, went, handlers, again: (...words) => ask(...words) };
}

async function scan() {
  const { node, asked, went, handlers, again } = shown(await take("views/scan.js"));
  handlers.event([DONE]);
  asked[0].resolve(SCAN);
  await turn();
  const overtaken = ["Completed", "Processing", "No reason is known"].filter((word) => node.textContent.includes(word));
  const before = node.textContent;
  again();
  asked[1].reject(Object.assign(new Error("away"), { status: 503 }));
  await turn();
  const stays = node.textContent === before;
  handlers.lost("too old");
  asked[2].reject(Object.assign(new Error("gone"), { status: 404 }));
  await turn();
  say("scan", { overtaken, stays, went });
}

async function scans() {
  const { node, asked, handlers, again } = shown(await take("views/scans.js"));
  handlers.event([{ ...SCAN, scan_id: "erased", status: "erased" }, DONE]);
  asked[0].resolve({ items: [SCAN, { ...SCAN, scan_id: "erased", name: "Erased" }], next: null });
  await turn();
  const first = ["Kitchen", "Completed", "Processing", "Erased"].filter((word) => node.textContent.includes(word));
  const before = node.textContent;
  again();
  asked[1].reject(new Error("away"));
  await turn();
  const stays = node.textContent === before;
  again();
  asked[2].resolve({ items: [], next: null });
  await turn();
  say("scans", { first, stays, empty: node.textContent.includes("No scans yet.") });
}

async function bell() {
  const { Bell } = await take("notifications.js");
  const item = (name, minute) => ({ kind: "told", text: name, noticed_at: `2026-11-22T20:0${minute}:00.000Z` });
  const asked = [];
  const feed = Object.assign(new EventTarget(), { follow: (_, handlers) => { feed.handlers = handlers; } });
  const { button, element } = new Bell({ api: { get: () => new Promise((resolve) => asked.push(resolve)) }, feed, session: { me: {} } });
  const entries = () => element.all("li").map((each) => [each.textContent.includes("Later") ? "later" : "earlier", each.textContent.includes("New")]);
  feed.handlers.event([item("Earlier", 1)]);
  const unread = button.textContent.includes("1 new");
  button.onclick();
  const opened = entries();
  feed.dispatchEvent(new Event("places"));
  const redrawn = entries();
  feed.handlers.event([item("Later", 2)]);
  asked[0]({ items: [item("Earlier", 1)] });
  await turn();
  say("bell", { unread, opened, redrawn, joined: entries(), read: !button.textContent.includes("new") });
}

/** Where a cloud's middle lies in the picture, from -1 to 1, and how far away it is, as it grows and is moved. */
async function scene() {
  const { Scene } = await take("scans/scene.js");
  let view, paint;
  const gl = new Proxy({ isContextLost: () => false, getUniformLocation: (_, name) => name, uniformMatrix4fv: (_, __, matrix) => { view = matrix; } }, { get: (known, name) => known[name] ?? (() => {}) });
  Object.assign(Element.prototype, { getContext: () => gl, clientWidth: 300, clientHeight: 200 });
  Object.assign(globalThis, { ResizeObserver: class { observe() {} }, requestAnimationFrame: (work) => { paint = work; }, cancelAnimationFrame() {}, devicePixelRatio: 1 });
  const shown = new Scene("cloud");
  const middle = (x, y, z, size) => {
    shown.show({ positions: Float32Array.of(x - size, y - size, z - size, x + size, y + size, z + size), colours: null, triangles: new Uint32Array(0) });
    paint();
    const at = [0, 1, 3].map((row) => view[row] * x + view[row + 4] * y + view[row + 8] * z + view[row + 12]);
    return [at[0] / at[2], at[1] / at[2], at[2]].map((value) => Math.round(value * 100) / 100 + 0);
  };
  const seen = [middle(0, 0, 0, 1), middle(10, 5, 1, 2)];
  shown.element.all("button").find((button) => button.textContent === "+").onclick();
  say("scene", [...seen, middle(-3, 2, 1, 3)]);
}

await words();
await plan("hall", [[0, 0], [24, 0], [24, 11], [0, 13]]);
await plan("alcove", [[0, 0], [6, 0], [6, 5], [3.5, 5], [3.5, 4], [3.1, 4], [3.1, 4.4], [3.1, 5], [0, 5]], [{ kind: "opening", wall: 1, offset: 1, width: 1.9 }]);
await list();
await upload();
await live();
await feed();
await http();
await usage();
await scan();
await scans();
await bell();
await scene();
