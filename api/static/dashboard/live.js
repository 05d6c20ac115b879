// The live bridge over its WebSocket: subscribes, resumes by cursor, comes back by itself, and always says how it stands.
//
// States: connecting, live, reconnecting, stopped. A subscription gets `snapshot(items)` (pages joined), `event(items)` and
// `lost(reason)` when a position could not be honoured; the fresh snapshot follows by itself.

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 30_000;
const OPEN_WITHIN_MS = 8_000;
const PING_EVERY_MS = 20_000;
const SILENCE_MS = 45_000;
const COME_BACK = (code) => code < 3500 || code > 3999;

/** How long to wait before try number `tries`: doubling, jittered by half, never sooner than the server asked. */
export function waitMs(tries, retryMs, random = Math.random) {
  const longest = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** Math.min(tries, 10));
  return retryMs + longest * (0.5 + random() / 2);
}

export class Live extends EventTarget {
  #url;
  #token;
  #random;
  #socket = null;
  #subscriptions = new Map();
  #nextId = 1;
  #tries = 0;
  #retryMs = 0;
  #timers = new Set();
  #heardMs = 0;
  #ready = false;
  #sent = null;
  state = "stopped";

  /** `token` is asked for a credential at each connection. */
  constructor(url, token, random = Math.random) {
    super();
    this.#url = url;
    this.#token = token;
    this.#random = random;
  }

  /** The credential that the server has from this page. */
  get credential() {
    return this.#sent;
  }

  start() {
    if (this.state !== "stopped") return;
    this.#become("connecting");
    this.#connect();
  }

  stop() {
    this.#become("stopped");
    this.#drop(1000);
  }

  /** Tries at once, as when the network is back. */
  hurry() {
    if (this.state === "stopped" || this.#socket) return;
    this.#clear();
    this.#connect();
  }

  subscribe(channel, filter, handlers) {
    const subscription = { id: this.#nextId++, channel, filter, handlers, cursor: null, pages: [] };
    this.#subscriptions.set(subscription.id, subscription);
    if (this.#ready) this.#ask(subscription);
    return () => {
      this.#subscriptions.delete(subscription.id);
      if (this.#ready) this.#send({ op: "unsubscribe", id: subscription.id });
    };
  }

  async #connect() {
    let socket;
    try {
      const token = await this.#token();
      if (this.state === "stopped" || this.#socket) return;
      if (!token) return this.#become("stopped");
      socket = this.#socket = new WebSocket(this.#url);
      this.#later(OPEN_WITHIN_MS, () => this.#ready || socket.close());
      this.#sent = token;
      socket.addEventListener("open", () => socket.send(JSON.stringify({ op: "auth", token })));
      socket.addEventListener("message", (event) => socket === this.#socket && this.#hear(event.data));
      socket.addEventListener("close", (event) => socket === this.#socket && this.#closed(event.code, event.reason));
    } catch {
      this.#socket = null;
      this.#again();
    }
  }

  #hear(data) {
    this.#heardMs = performance.now();
    const message = JSON.parse(data);
    const subscription = this.#subscriptions.get(message.id);
    const act = {
      ready: () => this.#begin(message),
      snapshot: () => subscription?.pages.push(...message.items),
      sync: () => subscription && this.#synced(subscription, message),
      event: () => subscription && this.#happened(subscription, message),
      unrecoverable: () => subscription && this.#lost(subscription, message),
      error: () => this.#refused(message),
      ping: () => this.#send({ op: "pong" }),
    }[message.op];
    act?.();
  }

  #begin(message) {
    if (this.#ready) return; // A fresh credential was taken; everything goes on.
    this.#ready = true;
    this.#tries = 0;
    this.#retryMs = message.retry_ms ?? 0;
    for (const subscription of this.#subscriptions.values()) this.#ask(subscription);
    this.#become("live");
    this.#watch();
  }

  #ask(subscription) {
    const { id, channel, filter, cursor } = subscription;
    subscription.pages = [];
    subscription.fresh = cursor === null;
    this.#send({ op: "subscribe", id, channel, ...(filter ? { filter } : {}), ...(cursor ? { cursor } : {}) });
  }

  #refused(message) {
    // A server that stops, or has no place left, says when to come back.
    this.#retryMs = message.retry_ms ?? this.#retryMs;
    this.dispatchEvent(new CustomEvent("refused", { detail: message }));
  }

  #synced(subscription, message) {
    subscription.cursor = message.cursor ?? null;
    if (subscription.fresh) subscription.handlers.snapshot?.(subscription.pages);
    subscription.pages = [];
    subscription.fresh = false;
  }

  #happened(subscription, message) {
    subscription.handlers.event?.(message.items);
    // Only after they were taken: a position must not be ahead of what was seen.
    if (message.cursor) subscription.cursor = message.cursor;
  }

  #lost(subscription, message) {
    subscription.cursor = null;
    subscription.pages = [];
    subscription.fresh = true;
    subscription.handlers.lost?.(message.reason);
  }

  #watch() {
    this.#later(PING_EVERY_MS, () => {
      if (!this.#ready) return;
      // A half-open socket never says that it is gone.
      if (performance.now() - this.#heardMs > SILENCE_MS) return this.#drop(3012), this.#again();
      this.#send({ op: "ping" });
      this.#freshen();
      this.#watch();
    });
  }

  /** A credential that changed meanwhile is handed in before the old one ends. */
  async #freshen() {
    const token = await this.#token();
    if (!token || token === this.#sent || !this.#ready) return;
    this.#sent = token;
    this.#send({ op: "auth", token });
  }

  #closed(code, reason) {
    this.#socket = null;
    this.#ready = false;
    this.#clear();
    if (this.state === "stopped") return;
    if (COME_BACK(code)) return this.#again();
    this.#become("stopped");
    this.dispatchEvent(new CustomEvent("ended", { detail: { code, reason } }));
  }

  #again() {
    if (this.state === "stopped") return;
    this.#become("reconnecting");
    this.#later(waitMs(this.#tries++, this.#retryMs, this.#random), () => this.#connect());
  }

  #drop(code) {
    const socket = this.#socket;
    this.#socket = null;
    this.#ready = false;
    this.#clear();
    socket?.close(code);
  }

  #send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #later(milliseconds, work) {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      work();
    }, milliseconds);
    this.#timers.add(timer);
  }

  #clear() {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
  }

  #become(state) {
    if (state === this.state) return;
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }
}
