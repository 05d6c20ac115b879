// Sites and units at a glance: what alarms, what is silent, what is well, and the newest value of every sensor.
import { choices, fill, h } from "../dom.js";
import { spark } from "../chart.js";
import { ago, capital, count, number, stateBadge, unitSign, worst } from "../format.js";
import { nowMs } from "../http.js";
import { icon } from "../icons.js";

const SPARK_MS = 6 * 3_600_000;
const SPARKS_AT_ONCE = 3;
const MOST_UNITS = 200;
const ORDER = ["alert", "silent", "ok", "new"];

export function show({ api, feed, signal }) {
  const filter = { text: "", state: "all" };
  const tiles = h("dl", { class: "tiles" });
  const list = h("div", { class: "stack" });
  const cards = new Map();
  const sparks = new Sparks(api, signal);
  const search = h("input", { type: "search", placeholder: "Site, unit or sensor", "aria-label": "Filter by name", oninput: () => { filter.text = search.value.trim().toLowerCase(); draw(); } });
  const states = choices("Filter by state", [["all", "All"], ["alert", "Alert"], ["silent", "Silent"], ["ok", "OK"]], "all", (state) => { filter.state = state; draw(); });

  function draw() {
    const focused = list.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    drawTiles(tiles, feed);
    cards.clear();
    const units = grouped(feed).filter((unit) => matches(unit, filter, feed));
    const sites = new Map();
    for (const unit of units.slice(0, MOST_UNITS)) sites.set(unit.siteId, [...(sites.get(unit.siteId) ?? []), unit]);
    const isEmpty = feed.sensors.size === 0;
    fill(list, units.length === 0 ? h("p", { class: "panel empty" }, isEmpty ? "No sensor has sent anything yet. Create a device under Devices and let it publish." : "Nothing matches the filter.") : null,
      [...sites].sort(([a], [b]) => siteOrder(feed, a, b)).map(([siteId, members]) => site(siteId, members, feed, cards, sparks)),
      units.length > MOST_UNITS ? h("p", { class: "empty" }, `${count(units.length - MOST_UNITS)} more; filter by name to see them.`) : null);
    if (focused) list.querySelector(`a[href="${focused}"]`)?.focus({ preventScroll: true });
  }

  // Everything is drawn anew when a state changes, and only then: readings come many times a second.
  const known = new Map();
  const isNews = (id) => {
    const sensor = feed.sensors.get(id), state = sensor && feed.stateOf(sensor);
    const isOther = known.get(id) !== state;
    known.set(id, state);
    return isOther;
  };
  const redrawIfChanged = (ids) => {
    if ([...ids].filter(isNews).length) draw();
  };
  const options = { signal };
  feed.addEventListener("places", draw, options);
  feed.addEventListener("alerts", () => { drawTiles(tiles, feed); redrawIfChanged(feed.sensors.keys()); }, options);
  feed.addEventListener("readings", (event) => {
    for (const id of event.detail) cards.get(id)?.update(true);
    redrawIfChanged(event.detail);
  }, options);
  feed.addEventListener("tick", () => {
    for (const card of cards.values()) card.update(false);
    redrawIfChanged(feed.sensors.keys());
  }, options);
  [...feed.sensors.keys()].forEach(isNews);
  draw();
  return { title: "Overview", node: h("div", { class: "stack" },
    h("div", { class: "head" }, h("h1", {}, "Overview"), h("div", { class: "filters" }, search, states)), tiles, list) };
}

function drawTiles(tiles, feed) {
  const counts = { alert: 0, silent: 0, ok: 0, new: 0 };
  for (const sensor of feed.sensors.values()) counts[feed.stateOf(sensor)] += 1;
  const firing = feed.firing;
  const unseen = firing.filter((alert) => !alert.acknowledged_at).length;
  const tile = (name, value, detail, tone, shape) => h("div", { class: "tile", "data-tone": tone },
    h("dt", {}, shape ? icon(shape) : null, name), h("dd", {}, count(value), " ", detail ? h("small", {}, detail) : null));
  fill(tiles,
    tile("Firing alerts", firing.length, firing.length ? `${count(unseen)} not acknowledged` : "", firing.length ? "alert" : null, "alert"),
    tile("Silent sensors", counts.silent, "", counts.silent ? "silent" : null, "silent"),
    tile("Sensors OK", counts.ok, `of ${count(feed.sensors.size)}`, "ok", "ok"),
    tile(feed.units.size ? "Units" : "Devices", new Set(grouped(feed).map((unit) => unit.key)).size, feed.sites.size ? `in ${count(feed.sites.size)} ${feed.sites.size === 1 ? "site" : "sites"}` : ""));
}

const plural = (amount, thing) => `${count(amount)} ${thing}${amount === 1 ? "" : "s"}`;

/** Sensors by unit; those without one by device. */
function grouped(feed) {
  const units = new Map();
  for (const sensor of feed.sensors.values()) {
    const unit = feed.units.get(sensor.unit_id);
    const key = unit ? unit.unit_id : `device ${sensor.device_id}`;
    if (!units.has(key)) units.set(key, described(feed, unit, sensor, key));
    units.get(key).sensors.push(sensor);
  }
  return [...units.values()];
}

function described(feed, unit, sensor, key) {
  const device = feed.devices.get(sensor.device_id);
  const name = unit?.name ?? device?.name ?? sensor.device_id;
  const kind = unit ? unit.kind ?? "" : "device without a unit";
  return { key, name, kind, siteId: unit?.site_id ?? sensor.site_id ?? null, sensors: [] };
}

function matches(unit, filter, feed) {
  const site = feed.sites.get(unit.siteId)?.name ?? "";
  const text = [unit.name, unit.kind, site, ...unit.sensors.map((sensor) => sensor.name)].join(" ").toLowerCase();
  return text.includes(filter.text) && (filter.state === "all" || unit.sensors.some((sensor) => feed.stateOf(sensor) === filter.state));
}

function siteOrder(feed, a, b) {
  return (feed.sites.get(a)?.name ?? "￿").localeCompare(feed.sites.get(b)?.name ?? "￿");
}

function site(siteId, units, feed, cards, sparks) {
  const known = feed.sites.get(siteId);
  const state = worst(units.flatMap((unit) => unit.sensors.map((sensor) => feed.stateOf(sensor))));
  const ordered = units.map((unit) => [feed.stateOfAll(unit.sensors), unit])
    .sort(([a, one], [b, two]) => ORDER.indexOf(a) - ORDER.indexOf(b) || one.name.localeCompare(two.name));
  return h("section", { class: "stack", "aria-label": known?.name ?? "Without a site" },
    h("div", { class: "site-head" }, h("h2", {}, known?.name ?? (feed.sites.size ? "Without a site" : "All devices")), stateBadge(state),
      h("span", { class: "muted small" }, plural(units.length, feed.units.size ? "unit" : "device"))),
    h("div", { class: "units" }, ordered.map(([unitState, unit]) => h("article", { class: "unit", "data-state": unitState },
      h("header", {}, h("div", {}, h("h3", {}, unit.name), unit.kind ? h("p", { class: "muted small" }, capital(unit.kind.replaceAll("_", " "))) : null), stateBadge(unitState)),
      [...unit.sensors].sort((a, b) => a.name.localeCompare(b.name)).map((sensor) => row(sensor, feed, cards, sparks))))));
}

function row(sensor, feed, cards, sparks) {
  const state = feed.stateOf(sensor);
  const value = h("span", { class: "value", data: { sensor: sensor.sensor_id } });
  const picture = h("span", {});
  sparks.watch(picture, sensor);
  const update = (isNew) => {
    const current = feed.sensors.get(sensor.sensor_id) ?? sensor;
    fill(value, number(current.last?.value), " ", h("small", {}, unitSign(current.unit)),
      h("span", { class: "age" }, current.last ? ago(current.last.at, nowMs()) : "nothing yet"));
    if (isNew && current.last && value.dataset.at !== current.last.at) {
      // A new point makes itself known to the eye, and to whoever measures how long it took.
      value.classList.remove("fresh");
      requestAnimationFrame(() => value.classList.add("fresh"));
      Object.assign(value.dataset, { at: current.last.at, shownMs: String(Date.now()) });
      sparks.add(sensor.sensor_id, current.last);
    }
    if (!isNew && current.last) value.dataset.at = current.last.at;
  };
  cards.set(sensor.sensor_id, { update });
  update(false);
  return h("a", { class: "sensor", href: `#/sensors/${encodeURIComponent(sensor.sensor_id)}` },
    h("span", {}, sensor.name, state === "alert" || state === "silent" ? [" ", stateBadge(state)] : null), picture, value);
}

/** Loads the last hours of sensors that are in sight, a few at a time, once each. */
class Sparks {
  #api;
  #signal;
  #points = new Map();
  #waiting = [];
  #running = 0;
  #places = new Map();
  #seen;

  constructor(api, signal) {
    this.#api = api;
    this.#signal = signal;
    this.#seen = new IntersectionObserver((entries) => {
      for (const entry of entries.filter((each) => each.isIntersecting)) {
        this.#seen.unobserve(entry.target);
        this.#waiting.push(entry.target);
      }
      this.#next();
    });
    signal.addEventListener("abort", () => this.#seen.disconnect());
  }

  watch(element, sensor) {
    this.#places.set(sensor.sensor_id, element);
    element.dataset.sensor = sensor.sensor_id;
    if (this.#points.has(sensor.sensor_id)) this.#draw(sensor.sensor_id);
    else this.#seen.observe(element);
  }

  add(id, last) {
    const points = this.#points.get(id);
    if (!points) return;
    points.push({ t: Date.parse(last.at), value: last.value });
    while (points.length > 2 && points[0].t < points.at(-1).t - SPARK_MS) points.shift();
    this.#draw(id);
  }

  #draw(id) {
    const points = this.#points.get(id);
    fill(this.#places.get(id), spark(points, points.length ? `last 6 hours, ${number(Math.min(...points.map((p) => p.value)))} to ${number(Math.max(...points.map((p) => p.value)))}` : "no readings"));
  }

  async #next() {
    while (this.#running < SPARKS_AT_ONCE && this.#waiting.length) {
      const id = this.#waiting.shift().dataset.sensor;
      if (this.#points.has(id)) continue;
      this.#running += 1;
      this.#load(id).catch(() => {}).finally(() => {
        this.#running -= 1;
        this.#next();
      });
    }
  }

  async #load(id) {
    const parameters = { resolution: "1m", start: new Date(nowMs() - SPARK_MS).toISOString(), limit: 1000 };
    const { items } = await this.#api.get(`v1/sensors/${encodeURIComponent(id)}/readings`, parameters, this.#signal);
    const step = Math.max(1, Math.floor(items.length / 90));
    this.#points.set(id, items.filter((_, index) => index % step === 0).map((item) => ({ t: Date.parse(item.at), value: item.last })));
    this.#draw(id);
  }
}
