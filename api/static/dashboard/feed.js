// What the pages show: the tenant's places, sensors, rules and open alerts, kept up to date by the live bridge, or by
// asking every two seconds where a WebSocket does not get through.
//
// Events: `readings` (detail: sensor ids), `alerts`, `places`, `link`.
import { nowMs } from "./http.js";
import { worst } from "./format.js";

const POLL_MS = 2_000;
const GIVE_UP_ON_SOCKET_MS = 3_000;
const SILENT_AFTER_MS = 3 * 5 * 60_000;
const UNIT_MS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 };

/** "1h30m" in milliseconds; null for what is no duration. */
export function durationMs(text) {
  const parts = [...(text ?? "").matchAll(/(\d+)(ms|[smhdw])/g)];
  return parts.length ? parts.reduce((sum, [, amount, unit]) => sum + Number(amount) * UNIT_MS[unit], 0) : null;
}

export class Feed extends EventTarget {
  sensors = new Map();
  units = new Map();
  sites = new Map();
  devices = new Map();
  rules = new Map();
  alerts = new Map();
  link = "connecting";
  updatedMs = null;
  #api;
  #live;
  #alarming = new Set();
  #polling = false;
  #wasLive = false;
  #stopped = false;
  #timers = [];
  #recounting = null;

  constructor(api, live) {
    super();
    this.#api = api;
    this.#live = live;
  }

  /** Loads everything once and begins to listen. Rejects if the first load fails. */
  async start() {
    await Promise.all([this.loadPlaces(), this.#loadSensors(), this.#loadAlerts()]);
    this.#heard();
    this.#live.addEventListener("state", this.#onState);
    this.#live.subscribe("readings", null, { snapshot: this.#onReadings, event: this.#onReadings });
    this.#live.subscribe("alerts", null, { snapshot: this.#onSnapshot, event: this.#onAlerts });
    this.#live.start();
    this.#timers.push(this.#pollUnlessLive());
    this.#timers.push(setInterval(() => this.#emit("tick"), 5_000));
    addEventListener("online", this.#onOnline);
    document.addEventListener("visibilitychange", this.#onOnline);
  }

  stop() {
    this.#stopped = true;
    this.#timers.forEach(clearTimeout);
    this.#live.removeEventListener("state", this.#onState);
    this.#live.stop();
    removeEventListener("online", this.#onOnline);
    document.removeEventListener("visibilitychange", this.#onOnline);
  }

  async loadPlaces() {
    const [sites, units, devices, rules] = await Promise.all(
      ["v1/sites", "v1/units", "v1/devices", "v1/rules"].map((path) => this.#optional(path)));
    this.sites = byId(sites, "site_id");
    this.units = byId(units, "unit_id");
    this.devices = byId(devices, "device_id");
    this.rules = byId(rules, "rule_id");
    this.#emit("places");
  }

  /** After places or sensors were changed from this page. */
  async reload() {
    await Promise.all([this.#loadSensors(), this.loadPlaces()]);
    this.#emit("places");
  }

  stateOf(sensor) {
    if (this.#alarming.has(sensor.sensor_id)) return "alert";
    if (!sensor.last) return "new";
    const patience = 3 * (durationMs(sensor.expected_interval) ?? 0) || SILENT_AFTER_MS;
    return nowMs() - Date.parse(sensor.last.at) > patience ? "silent" : "ok";
  }

  stateOfAll(sensors) {
    return worst(sensors.map((sensor) => this.stateOf(sensor)));
  }

  get firing() {
    return [...this.alerts.values()].filter((alert) => alert.status === "firing");
  }

  /** "Walk-in fridge · air", as far as it is known. */
  nameOf(sensorId) {
    const sensor = this.sensors.get(sensorId);
    if (!sensor) return sensorId;
    const place = this.units.get(sensor.unit_id)?.name ?? this.devices.get(sensor.device_id)?.name ?? sensor.device_id;
    return `${place} · ${sensor.name}`;
  }

  ruleName(ruleId) {
    return this.rules.get(ruleId)?.name ?? "Rule no longer there";
  }

  /** Follows another channel for as long as a view is shown; where nothing is live, `ask` is called every two seconds. */
  follow(channel, handlers, ask, signal) {
    const end = this.#live.subscribe(channel, null, handlers);
    let isAsking = false;
    const timer = setInterval(async () => {
      if (this.link !== "polling" || isAsking) return;
      isAsking = true; // A slow server is not asked again before it has answered.
      try {
        await ask();
      } finally {
        isAsking = false;
      }
    }, POLL_MS);
    signal.addEventListener("abort", () => {
      clearInterval(timer);
      end();
    });
  }

  /** Takes an alert that the API just answered. */
  takeAlert(alert) {
    this.#onAlerts([alert]);
  }

  async #optional(path) {
    return this.#api.all(path).catch((error) => {
      if ([403, 404, 405].includes(error.status)) return [];
      throw error;
    });
  }

  async #loadSensors() {
    const sensors = await this.#api.all("v1/sensors");
    const before = this.sensors;
    this.sensors = byId(sensors, "sensor_id");
    for (const [id, sensor] of this.sensors) {
      const known = before.get(id)?.last;
      if (known && (!sensor.last || known.at > sensor.last.at)) sensor.last = known;
    }
    const changed = sensors.filter((sensor) => sensor.last?.at !== before.get(sensor.sensor_id)?.last?.at);
    if (before.size !== this.sensors.size) this.#emit("places");
    if (changed.length) this.#emit("readings", changed.map((sensor) => sensor.sensor_id));
  }

  async #loadAlerts() {
    const lists = await Promise.all(["firing", "pending"].map((status) => this.#api.all("v1/alerts", { status }, { most: 5_000 })));
    this.#replaceAlerts(lists.flat());
  }

  #replaceAlerts(alerts) {
    const before = this.alerts;
    this.alerts = byId(alerts.filter(isOpen), "alert_id");
    const same = before.size === this.alerts.size && alerts.every((alert) => before.get(alert.alert_id)?.version === alert.version);
    if (!same || this.updatedMs === null) this.#emit("alerts", alerts.filter((alert) => fired(alert, before.get(alert.alert_id))));
  }

  #onReadings = (items) => {
    this.#heard();
    let unknown = false;
    for (const { sensor_id: id, at, value } of items) {
      const sensor = this.sensors.get(id);
      unknown ||= !sensor;
      if (sensor && (!sensor.last || at >= sensor.last.at)) sensor.last = { at, value };
    }
    if (unknown) this.#recount();
    if (items.length) this.#emit("readings", items.map((item) => item.sensor_id), items);
  };

  #onSnapshot = (items) => {
    this.#heard();
    this.#replaceAlerts(items);
  };

  #onAlerts = (items) => {
    this.#heard();
    const news = [];
    for (const alert of items) {
      const known = this.alerts.get(alert.alert_id);
      if (known && known.version > alert.version) continue;
      if (fired(alert, known)) news.push(alert);
      if (isOpen(alert)) this.alerts.set(alert.alert_id, alert);
      else this.alerts.delete(alert.alert_id);
    }
    if (items.some((alert) => !this.rules.has(alert.rule_id))) this.#recount();
    this.#emit("alerts", news);
  };

  /** Sensors or rules that were not known appeared: look again, but not for each of them. */
  #recount() {
    this.#recounting ??= setTimeout(() => {
      this.#recounting = null;
      if (this.#stopped) return;
      Promise.all([this.#loadSensors(), this.loadPlaces()]).catch(() => {});
    }, 1_000);
  }

  #onState = () => {
    const { state } = this.#live;
    if (state === "live") {
      this.#polling = false;
      this.#wasLive = true;
      this.#heard();
      this.#become("live");
    } else if (!this.#polling) {
      this.#become(state === "connecting" || !this.#wasLive ? "connecting" : "reconnecting");
      // A socket that never opened is blocked on the way, or not to be had; one that broke may be back in a moment.
      if (state === "stopped" || !this.#wasLive) this.#poll();
      else this.#timers.push(this.#pollUnlessLive());
    }
  };

  #pollUnlessLive() {
    return setTimeout(() => this.#live.state !== "live" && this.#poll(), GIVE_UP_ON_SOCKET_MS);
  }

  async #poll() {
    if (this.#polling || this.#stopped) return;
    this.#polling = true;
    while (this.#polling && !this.#stopped) {
      try {
        await Promise.all([this.#loadSensors(), this.#loadAlerts()]);
        if (!this.#polling) break;
        this.#heard();
        this.#become("polling");
      } catch {
        if (this.#polling) this.#become("reconnecting");
      }
      await new Promise((resolve) => { setTimeout(resolve, POLL_MS); });
    }
  }

  #onOnline = () => {
    if (document.visibilityState === "visible") this.#live.hurry();
  };

  #heard() {
    this.updatedMs = Date.now();
  }

  #become(link) {
    if (this.#stopped) return;
    this.link = link;
    this.#emit("link");
  }

  #emit(name, detail = null, items = null) {
    if (name === "alerts") this.#alarming = new Set(this.firing.map((alert) => alert.sensor_id));
    const event = new CustomEvent(name, { detail });
    event.items = items;
    this.dispatchEvent(event);
  }
}

const isOpen = (alert) => alert.status === "firing" || alert.status === "pending";
const fired = (alert, known) => alert.status === "firing" && known?.status !== "firing";
const byId = (items, key) => new Map(items.map((item) => [item[key], item]));
