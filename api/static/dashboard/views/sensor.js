// One sensor: its value now, its readings from the last hour to the last year, its alerts.
import { Chart, asTable, legend } from "../chart.js";
import { announce, choices, failure, fill, h } from "../dom.js";
import { alertTable, boundsFor, span } from "../episodes.js";
import { ago, count, duration, fullTime, number, quantity, stateBadge, unitSign } from "../format.js";
import { RANGES, lengthOf, readings, resolutionFor, statistics } from "../history.js";
import { nowMs } from "../http.js";
import { editSensor } from "../place_edits.js";

const REFRESH_MS = { raw: 0, "1m": 20_000, "1h": 120_000, "1d": 600_000 };

export function show({ api, feed, session, signal }, [id], query) {
  const sensor = feed.sensors.get(id);
  if (!sensor) return { title: "Sensor", node: h("section", { class: "stack" }, h("h1", {}, "Sensor"), h("p", { class: "panel empty" }, "There is no such sensor. ", h("a", { href: "#/" }, "Overview"))) };
  const name = feed.nameOf(id);
  const state = h("span", {});
  const now = h("p", { class: "now", id: "now" });
  const age = h("p", { class: "muted small" });
  const chart = new Chart(`Readings of ${name}`);
  const body = h("div", { class: "stack" });
  const stats = h("dl", { class: "tiles" });
  const alertList = h("section", { class: "panel flush", "aria-label": "Alerts of this sensor" });
  let range = lengthOf(query.get("range")) ? query.get("range") : "24h";
  let points = [], alerts = [], asked = 0, loadedMs = 0;

  const window_ = () => ({ start: nowMs() - lengthOf(range), end: nowMs() });

  async function load() {
    const mine = ++asked;
    const { start, end } = window_();
    const aligned = Math.floor(start / 60_000) * 60_000;
    try {
      const found = await readings(api, id, aligned, end + 60_000, signal);
      if (mine !== asked) return;
      points = found;
      loadedMs = Date.now();
      draw();
    } catch (error) {
      if (!signal.aborted && mine === asked) fill(body, failure(error, load));
    }
  }

  async function loadAlerts() {
    try {
      const page = await api.get("v1/alerts", { sensor_id: id, start: new Date(window_().start).toISOString(), limit: 200 }, signal);
      alerts = page.items;
      drawAlerts();
      draw();
    } catch {
      // The list stays as it is; the next change of an alert asks again.
    }
  }

  function drawAlerts() {
    const shown = alerts.slice(0, 20);
    fill(alertList, h("h2", {}, "Alerts in this range"), shown.length ? alertTable("Alerts of this sensor", shown, feed) : h("p", { class: "empty" }, "None."));
  }

  function draw() {
    const { start, end } = window_();
    const bounds = boundsFor(feed, sensor).slice(0, 4);
    const spans = alerts.filter((alert) => alert.status !== "retracted").map((alert) => span(alert, feed.ruleName(alert.rule_id)));
    const values = statistics(points);
    const tile = (label, value) => h("div", { class: "tile" }, h("dt", {}, label), h("dd", {}, value));
    fill(stats, tile("Minimum", quantity(values.min, sensor.unit)), tile("Mean", quantity(values.mean, sensor.unit)), tile("Maximum", quantity(values.max, sensor.unit)), tile("Readings", count(values.count)));
    chart.label = values.count
      ? `${name}, ${count(values.count)} readings of the last ${duration(end - start)}: minimum ${quantity(values.min, sensor.unit)}, mean ${quantity(values.mean, sensor.unit)}, maximum ${quantity(values.max, sensor.unit)}; ${spans.length} alerts`
      : `${name}, no readings in the last ${duration(end - start)}`;
    if (!body.contains(chart.element) || body.dataset.range !== range) {
      body.dataset.range = range;
      fill(body, h("p", { class: "empty", hidden: points.length > 0 }, "No readings in this range."), chart.element);
    }
    body.firstChild.hidden = points.length > 0;
    fill(foot, legend({ band: resolutionFor(end - start) !== "raw", bounds: bounds.length, episodes: spans.length }), asTableOnce());
    chart.draw({ points, start, end, unit: sensor.unit, bounds, episodes: spans, key: range }).catch((error) => fill(body, failure(error, load)));
  }

  const foot = h("div", { class: "stack" });
  let isTableOpen = false;
  function asTableOnce() {
    const details = asTable(points, sensor.unit);
    details.open = isTableOpen;
    details.addEventListener("toggle", () => { isTableOpen = details.open; });
    return details;
  }

  function drawNow(isNew) {
    const last = sensorNow().last;
    fill(state, stateBadge(feed.stateOf(sensorNow())));
    fill(now, number(last?.value), " ", h("small", {}, unitSign(sensor.unit)));
    age.textContent = last ? ago(last.at, nowMs()) : "nothing yet";
    if (!last) return;
    age.title = fullTime(last.at);
    if (isNew && now.dataset.at !== last.at) now.dataset.shownMs = String(Date.now());
    now.dataset.at = last.at;
  }

  const sensorNow = () => feed.sensors.get(id) ?? sensor;

  function arrived(event) {
    if (!event.detail.includes(id)) return;
    drawNow(true);
    const { start, end } = window_();
    if (resolutionFor(end - start) !== "raw") return Date.now() - loadedMs > REFRESH_MS[resolutionFor(end - start)] ? load() : undefined;
    const items = event.items?.filter((item) => item.sensor_id === id) ?? [sensorNow().last];
    for (const { at, value } of items) insert(points, { t: Date.parse(at), value, count: 1 });
    while (points.length && points[0].t < start) points.shift();
    return draw();
  }

  const options = { signal };
  feed.addEventListener("readings", arrived, options);
  feed.addEventListener("alerts", () => { drawNow(false); loadAlerts(); }, options);
  feed.addEventListener("tick", () => drawNow(false), options);
  // What came while the link was down is in the store, not in the stream.
  let wasDown = false;
  feed.addEventListener("link", () => {
    if (wasDown && feed.link !== "reconnecting") load();
    wasDown = feed.link === "reconnecting";
  }, options);
  signal.addEventListener("abort", () => chart.dispose());
  drawNow(false);
  fill(body, h("p", { class: "empty", role: "status" }, "Loading…"));
  load();
  loadAlerts();
  const pick = choices("Range", RANGES, range, (key) => {
    range = key;
    history.replaceState(null, "", `#/sensors/${encodeURIComponent(id)}?range=${key}`);
    load();
    loadAlerts();
  });
  const unit = feed.units.get(sensor.unit_id), site = feed.sites.get(sensor.site_id ?? unit?.site_id);
  const facts = [["Unit", unit?.name], ["Site", site?.name], ["Device", feed.devices.get(sensor.device_id)?.name ?? sensor.device_id], ["Measures in", sensor.unit],
    ["Expected every", sensor.expected_interval ?? "not declared"], ["Sensor id", h("code", {}, id)]];
  const about = h("dl", { class: "facts" }, facts.filter(([, value]) => value).map(([key, value]) => [h("dt", {}, key), h("dd", {}, value)]));
  const edit = async () => {
    if (!(await editSensor(api, sensor, name))) return;
    announce("Saved.");
    await feed.reload().catch(() => {});
    // Unit, gaps and bounds are everywhere on this page.
    dispatchEvent(new Event("hashchange"));
  };
  return { title: name, node: h("div", { class: "stack" },
    h("div", { class: "head" }, h("div", {}, h("p", { class: "crumbs" }, [site?.name, unit?.name].filter(Boolean).join(" › ") || "Sensor"), h("h1", {}, name, " "), h("p", {}, state)), h("div", { class: "right" }, now, age)),
    h("section", { class: "panel stack", "aria-label": "Readings" }, h("div", { class: "row" }, h("h2", { class: "grow" }, "Readings"), pick), body, foot),
    stats,
    h("div", { class: "columns" }, alertList, h("section", { class: "panel stack" }, h("h2", {}, "About"), about, session.may("sensors:write") ? h("div", {}, h("button", { type: "button", onclick: edit }, "Edit")) : null))) };
}

/** Keeps the order of time; a point of the same time is replaced. */
function insert(points, point) {
  let index = points.length;
  while (index > 0 && points[index - 1].t > point.t) index -= 1;
  if (points[index - 1]?.t === point.t) points[index - 1] = point;
  else points.splice(index, 0, point);
}
