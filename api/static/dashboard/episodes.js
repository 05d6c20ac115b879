// Alerts as charts and tables show them.
import { cell, h, table } from "./dom.js";
import { boundOf, duration, moment, quantity, severityBadge, statusBadge, badge } from "./format.js";
import { nowMs } from "./http.js";

/** An alert as a span of a chart. */
export function span(alert, name) {
  return {
    start: Date.parse(alert.started_at), end: alert.resolved_at ? Date.parse(alert.resolved_at) : null, name,
    tone: alert.severity === "critical" || alert.severity === "major" ? "alert" : "warn",
  };
}

/** How long it lasted, or lasts. */
export function lasted(alert) {
  if (alert.status === "retracted" && !alert.resolved_at) return "–";
  return duration((alert.resolved_at ? Date.parse(alert.resolved_at) : nowMs()) - Date.parse(alert.started_at));
}

/** The bounds of rules that are for a sensor: [{value, name}]. */
export function boundsFor(feed, sensor) {
  return [...feed.rules.values()].filter((rule) => appliesTo(rule.applies_to ?? { all: true }, sensor, feed))
    .flatMap((rule) => [rule.condition, ...(rule.condition.conditions ?? [])].map((condition) => [boundOf(condition), condition, rule]))
    .filter(([bound, condition]) => bound && typeof bound[1] === "number" && condition.type !== "aggregate" || bound && ["mean", "min", "max"].includes(condition.function))
    .filter(([bound]) => typeof bound[1] === "number")
    .map(([bound, , rule]) => ({ value: bound[1], name: rule.name }));
}

function appliesTo(target, sensor, feed) {
  if (target.all) return true;
  if (target.sensor_id) return target.sensor_id === sensor.sensor_id;
  if (target.unit_id) return target.unit_id === sensor.unit_id;
  if (target.site_id) return target.site_id === (sensor.site_id ?? feed.units.get(sensor.unit_id)?.site_id);
  return target.unit_kind !== undefined && target.unit_kind === feed.units.get(sensor.unit_id)?.kind;
}

export function acknowledged(alert) {
  return alert.acknowledged_at ? badge("ok", "seen", "Acknowledged") : h("span", { class: "muted small" }, "Not acknowledged");
}

/** A table of alerts. `acknowledge(alert, button)` makes a button for those that wait for somebody; without it there is none. */
export function alertTable(caption, alerts, feed, acknowledge = null) {
  const columns = ["Severity", "Alert", "Status", "Started", "Lasted", "Peak", "Handled", ...(acknowledge ? [""] : [])]
    .map((name) => ({ name, number: name === "Peak" }));
  return table(caption, columns, alerts.map((alert) => h("tr", { data: { alert: alert.alert_id } },
    cell("Severity", severityBadge(alert.severity), "bare"),
    h("th", { scope: "row" }, h("a", { href: `#/alerts/${encodeURIComponent(alert.alert_id)}` }, feed.ruleName(alert.rule_id)),
      h("div", { class: "muted small" }, feed.nameOf(alert.sensor_id), alert.historical ? " · found later" : "")),
    cell("Status", statusBadge(alert), "bare"),
    cell("Started", moment(alert.started_at)),
    cell("Lasted", h("span", { class: "number" }, lasted(alert))),
    cell("Peak", quantity(alert.peak?.value, feed.sensors.get(alert.sensor_id)?.unit), "number"),
    cell("Handled", acknowledged(alert), "bare"),
    acknowledge ? cell("", !alert.acknowledged_at && alert.status !== "retracted"
      ? h("button", { type: "button", class: "small", "aria-label": `Acknowledge ${feed.ruleName(alert.rule_id)}, ${feed.nameOf(alert.sensor_id)}`, onclick: (event) => acknowledge(alert, event.currentTarget) }, "Acknowledge") : null, "actions") : null)));
}
