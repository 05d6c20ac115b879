/**
 * The live bridge: subscribes, resumes by cursor, comes back by itself with growing, jittered waits.
 *
 * A subscription misses nothing: after a reconnect it gets what happened since its cursor, or `lost` and a fresh snapshot.
 */
import type { components } from "./schema.js";

export type Alert = components["schemas"]["Alert"];
export type Scan = components["schemas"]["Scan"];
export type Job = components["schemas"]["Job"];
export type Notification = components["schemas"]["NotificationPage"]["items"][number];
export interface Reading { sensor_id: string; at: string; value: number; seq: number }

/** What the items of each channel are. */
export interface Items {
  readings: Reading;
  alerts: Alert;
  usage: Record<string, unknown>;
  scans: Scan;
  jobs: Job;
  notifications: Notification;
}
export type Channel = keyof Items;
export interface Filter { sensor_id?: string | string[]; site_id?: string | string[]; unit_id?: string | string[] }
export type LiveState = "connecting" | "live" | "reconnecting" | "stopped";

export interface Handlers<T> {
  /** How things stand, whole; at the beginning and after `lost`. */
  snapshot?(items: T[]): void;
  /** What happened, in order. */
  event?(items: T[]): void;
  /** Up to date: everything until now was handed over. The cursor can be kept for a later `subscribe`. */
  sync?(cursor: string): void;
  /** The cursor could not be honoured; a snapshot follows. */
  lost?(reason: string): void;
}

/** The part of WebSocket that is used: the browser's, Node's, or that of the package `ws`. */
export interface WebSocketLike {
  readyState: number;
  send(data: string): void;
  close(code?: number): void;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: never) => void) | null;
  onclose: ((event: never) => void) | null;
  onerror: ((event: never) => void) | null;
}

export interface LiveOptions {
  /** `ws://…/v1/live`. */
  url: string;
  /** Asked at each connection and every 20 s, so that an access token is renewed before it ends. */
  token(): string | Promise<string>;
  WebSocket?: new (url: string) => WebSocketLike;
  onState?(state: LiveState, detail: string): void;
  onError?(code: string, message: string): void;
  random?(): number;
}

interface Frame { op: string; id?: number; cursor?: string; items?: unknown[]; reason?: string; code?: string; message?: string; retry_ms?: number }
interface Subscription { channel: Channel; filter: Filter | undefined; handlers: Handlers<unknown>; cursor: string | null; pages: unknown[]; fresh: boolean }

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 30_000;
const READY_WITHIN_MS = 15_000;
const PING_EVERY_MS = 20_000;
const SILENCE_MS = 45_000;
const OPEN = 1;

/** How long to wait before try number `tries`: doubling, jittered by half, never sooner than the server asked. */
export function waitMs(tries: number, retryMs: number, random: () => number = Math.random): number {
  return retryMs + Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** Math.min(tries, 10)) * (0.5 + random() / 2);
}

export class LiveClient {
  state: LiveState = "stopped";
  private socket: WebSocketLike | null = null;
  private readonly subscriptions = new Map<number, Subscription>();
  private readonly timers = new Set<ReturnType<typeof setTimeout>>();
  private nextId = 1;
  private tries = 0;
  private retryMs = 0;
  private heardMs = 0;
  private ready = false;
  private sent = "";

  constructor(private readonly options: LiveOptions) {}

  start(): void {
    if (this.state !== "stopped") return;
    this.become("connecting");
    void this.connect();
  }

  stop(): void {
    this.become("stopped");
    this.drop(1000);
  }

  /** Listens to a channel, from a cursor on if one is given; the returned function ends it. */
  subscribe<C extends Channel>(channel: C, handlers: Handlers<Items[C]>, options: { filter?: Filter; cursor?: string } = {}): () => void {
    const id = this.nextId++;
    const subscription: Subscription = {
      channel, filter: options.filter, handlers: handlers as Handlers<unknown>, cursor: options.cursor ?? null, pages: [], fresh: true,
    };
    this.subscriptions.set(id, subscription);
    if (this.ready) this.ask(id, subscription);
    return () => {
      this.subscriptions.delete(id);
      if (this.ready) this.send({ op: "unsubscribe", id });
    };
  }

  private async connect(): Promise<void> {
    try {
      const token = await this.options.token();
      if (this.state === "stopped" || this.socket) return;
      const Socket = this.options.WebSocket ?? (globalThis.WebSocket as unknown as new (url: string) => WebSocketLike);
      const socket = new Socket(this.options.url);
      this.socket = socket;
      this.sent = token;
      // Whoever takes the connection and then says nothing would be waited for without end.
      this.later(READY_WITHIN_MS, () => { if (!this.ready) this.lose("the server did not answer"); });
      socket.onopen = () => socket.send(JSON.stringify({ op: "auth", token }));
      socket.onmessage = (event: { data: unknown }) => { if (socket === this.socket) this.hear(String(event.data)); };
      socket.onclose = (event: { code: number; reason: string }) => { if (socket === this.socket) this.closed(event.code, event.reason); };
      socket.onerror = () => {}; // What matters follows as a close.
    } catch (error) {
      this.again(String(error));
    }
  }

  private hear(data: string): void {
    this.heardMs = Date.now();
    const frame = JSON.parse(data) as Frame;
    if (frame.op === "ready") return this.begin(frame);
    if (frame.op === "error") return this.refuse(frame);
    const subscription = frame.id === undefined ? undefined : this.subscriptions.get(frame.id);
    return subscription && this.take(subscription, frame);
  }

  private refuse(frame: Frame): void {
    // A server that stops, or has no place left, says when to come back.
    this.retryMs = frame.retry_ms ?? this.retryMs;
    this.options.onError?.(frame.code ?? "", frame.message ?? "");
  }

  private take(subscription: Subscription, frame: Frame): void {
    switch (frame.op) {
      case "snapshot":
        subscription.pages.push(...(frame.items ?? []));
        break;
      case "event":
        subscription.handlers.event?.(frame.items ?? []);
        // Only after they were taken: a cursor must not be ahead of what was seen.
        subscription.cursor = frame.cursor ?? subscription.cursor;
        break;
      case "sync":
        subscription.cursor = frame.cursor ?? null;
        if (subscription.fresh) subscription.handlers.snapshot?.(subscription.pages);
        Object.assign(subscription, { pages: [], fresh: false });
        subscription.handlers.sync?.(frame.cursor ?? "");
        break;
      case "unrecoverable":
        Object.assign(subscription, { cursor: null, pages: [], fresh: true });
        subscription.handlers.lost?.(frame.reason ?? "");
        break;
    }
  }

  private begin(frame: Frame): void {
    if (this.ready) return; // A fresh credential was taken; everything goes on.
    this.ready = true;
    this.tries = 0;
    this.retryMs = frame.retry_ms ?? 0;
    for (const [id, subscription] of this.subscriptions) this.ask(id, subscription);
    this.become("live");
    this.watch();
  }

  private ask(id: number, subscription: Subscription): void {
    Object.assign(subscription, { pages: [], fresh: subscription.cursor === null });
    const { channel, filter, cursor } = subscription;
    this.send({ op: "subscribe", id, channel, ...(filter ? { filter } : {}), ...(cursor ? { cursor } : {}) });
  }

  /** A half-open socket never says that it is gone: whoever is silent for too long is taken for gone. */
  private watch(): void {
    this.later(PING_EVERY_MS, () => {
      if (Date.now() - this.heardMs > SILENCE_MS) return this.lose("the server went silent");
      this.send({ op: "ping" });
      void this.freshen();
      return this.watch();
    });
  }

  /** A credential that changed meanwhile is handed in before the old one ends. */
  private async freshen(): Promise<void> {
    const token = await Promise.resolve().then(() => this.options.token()).catch((error: unknown) => {
      this.options.onError?.("token", String(error)); // Asked again at the next ping.
      return this.sent;
    });
    if (token === this.sent || !this.ready) return;
    this.sent = token;
    this.send({ op: "auth", token });
  }

  private closed(code: number, reason: string): void {
    this.socket = null;
    this.ready = false;
    this.clear();
    if (this.state === "stopped") return;
    if (code >= 3500 && code <= 3999) this.become("stopped", `${code} ${reason}`);
    else this.again(`${code} ${reason}`);
  }

  private again(detail: string): void {
    if (this.state === "stopped") return;
    this.become("reconnecting", detail);
    this.later(waitMs(this.tries++, this.retryMs, this.options.random), () => void this.connect());
  }

  private lose(detail: string): void {
    this.drop(3012);
    this.again(detail);
  }

  private drop(code: number): void {
    const socket = this.socket;
    this.socket = null;
    this.ready = false;
    this.clear();
    socket?.close(code);
  }

  private send(message: object): void {
    if (this.socket?.readyState === OPEN) this.socket.send(JSON.stringify(message));
  }

  private later(milliseconds: number, work: () => void): void {
    const timer = setTimeout(() => {
      this.timers.delete(timer);
      work();
    }, milliseconds);
    this.timers.add(timer);
  }

  private clear(): void {
    this.timers.forEach((timer) => clearTimeout(timer));
    this.timers.clear();
  }

  private become(state: LiveState, detail = ""): void {
    if (state === this.state) return;
    this.state = state;
    this.options.onState?.(state, detail);
  }
}
