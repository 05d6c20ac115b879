// One alert: what happened, what was said about it, how it came to be what it is.
import { Chart, legend } from "../chart.js";
import { announce, cell, complain, failure, field, fill, h, loading, readOnly, table } from "../dom.js";
import { acknowledged, lasted, span } from "../episodes.js";
import { boundOf, conditionText, duration, moment, quantity, severityBadge, statusBadge } from "../format.js";
import { readings } from "../history.js";
import { nowMs } from "../http.js";

const AROUND_MS = 2 * 3_600_000;
const VERBS = { acknowledge: "acknowledged it", comment: "commented", assign: "assigned it" };

export function show({ api, feed, session, signal }, [id]) {
  const mayAct = session.may("alerts:write");
  const node = h("div", { class: "stack" }, h("h1", {}, "Alert"), loading());
  const path = `v1/alerts/${encodeURIComponent(id)}`;
  const chart = new Chart("Readings around the alert", true);
  signal.addEventListener("abort", () => chart.dispose());
  const parts = { head: h("div", {}), facts: h("dl", { class: "facts" }), talk: h("ul", { class: "talk" }), history: h("section", { class: "panel flush" }), legend: h("div", {}), act: h("div", {}) };
  let isBuilt = false, drawnFor = "";

  async function load() {
    try {
      const [alert, history] = await Promise.all([api.get(path, {}, signal), api.all(`${path}/history`, {}, { most: 500, signal })]);
      if (!isBuilt) build(alert);
      draw(alert, history);
    } catch (error) {
      if (!signal.aborted) fill(node, h("h1", {}, "Alert"), error.status === 404 ? h("p", { class: "panel empty" }, "There is no such alert. ", h("a", { href: "#/alerts" }, "All alerts")) : failure(error, load));
    }
  }

  function build(alert) {
    isBuilt = true;
    const crumbs = h("p", { class: "crumbs" }, h("a", { href: "#/alerts" }, "Alerts"), " › ", h("a", { href: `#/sensors/${encodeURIComponent(alert.sensor_id)}` }, feed.nameOf(alert.sensor_id)));
    fill(node, h("div", {}, crumbs, h("h1", {}, feed.ruleName(alert.rule_id)), parts.head),
      h("section", { class: "panel stack", "aria-label": "Readings" }, chart.element, parts.legend),
      h("div", { class: "columns" },
        h("div", { class: "stack" }, h("section", { class: "panel stack" }, h("h2", {}, "Handling"), parts.act, mayAct ? commentForm() : null, parts.talk)),
        h("section", { class: "panel" }, h("h2", {}, "Facts"), parts.facts)),
      parts.history);
  }

  function draw(alert, history) {
    const sensor = feed.sensors.get(alert.sensor_id), rule = feed.rules.get(alert.rule_id);
    document.title = `${feed.ruleName(alert.rule_id)} – Weir`;
    fill(parts.head, h("p", { class: "row" }, severityBadge(alert.severity), statusBadge(alert), acknowledged(alert)));
    const facts = [["Rule", rule ? h("a", { href: `#/rules/${encodeURIComponent(rule.rule_id)}` }, conditionText(rule.condition)) : "no longer there"], ["Started", moment(alert.started_at)], ["Fired", moment(alert.fired_at)], ["Resolved", moment(alert.resolved_at)], ["Lasted", lasted(alert)],
      ["Peak", [quantity(alert.peak?.value, sensor?.unit), " at ", moment(alert.peak?.at)]], ["Proven", duration(alert.proven_seconds * 1000)], ["Possible", duration(alert.possible_seconds * 1000)],
      ["Found", alert.historical ? "later, from late readings" : null], ["Reason", alert.reason], ["Assigned to", alert.assigned_to], ["Acknowledged", alert.acknowledged_at ? [moment(alert.acknowledged_at), " by ", alert.acknowledged_by] : null],
      ["Merged into", alert.merged_into ? h("a", { href: `#/alerts/${encodeURIComponent(alert.merged_into)}` }, "another alert") : null]];
    fill(parts.facts, facts.filter(([, value]) => value).map(([key, value]) => [h("dt", {}, key), h("dd", {}, value)]));
    fill(parts.act, !mayAct ? readOnly(session, "alerts") : alert.acknowledged_at || alert.status === "retracted" ? null : acknowledgeForm());
    fill(parts.talk, alert.notes.length ? alert.notes.map((note) => h("li", {}, h("p", { class: "small muted" }, note.author, " ", VERBS[note.kind] ?? note.kind, ", ", moment(note.created_at)), note.note ? h("p", {}, note.note) : null)) : h("li", { class: "muted" }, "Nothing was said yet."));
    fill(parts.history, h("h2", {}, "History"), table("Versions of this alert", ["Version", "Recorded", "Status", "Started", "Fired", "Resolved", "Peak", "Why"].map((name) => ({ name })),
      [...history].reverse().map((each) => h("tr", {}, cell("Version", each.version), cell("Recorded", moment(each.updated_at)), cell("Status", statusBadge(each), "bare"), cell("Started", moment(each.started_at)), cell("Fired", moment(each.fired_at)), cell("Resolved", moment(each.resolved_at)), cell("Peak", quantity(each.peak?.value, sensor?.unit)), cell("Why", (each.reason ?? "").replaceAll("_", " "))))));
    drawChart(alert, sensor, rule);
  }

  async function drawChart(alert, sensor, rule) {
    const key = `${alert.started_at} ${alert.resolved_at} ${alert.status}`;
    if (key === drawnFor) return;
    drawnFor = key;
    const from = Date.parse(alert.started_at), to = alert.resolved_at ? Date.parse(alert.resolved_at) : nowMs();
    const margin = Math.max(AROUND_MS, (to - from) / 4);
    const [start, end] = [from - margin, Math.min(to + margin, nowMs())];
    const points = await readings(api, alert.sensor_id, Math.floor(start / 60_000) * 60_000, end, signal).catch(() => []);
    const bound = boundOf(rule?.condition);
    const bounds = bound && typeof bound[1] === "number" ? [{ value: bound[1], name: rule.name }] : [];
    chart.label = `Readings of ${feed.nameOf(alert.sensor_id)} around the alert, which lasted ${lasted(alert)}, peak ${quantity(alert.peak?.value, sensor?.unit)}`;
    fill(parts.legend, legend({ band: points.some((point) => point.low !== undefined), bounds: bounds.length, episodes: 1 }));
    if (!signal.aborted) chart.draw({ points, start, end, unit: sensor?.unit, bounds, episodes: [span(alert, feed.ruleName(alert.rule_id))], key: id }).catch(() => {});
  }

  function acknowledgeForm() {
    const note = h("input", { name: "note", maxlength: 2000, autocomplete: "off" });
    return said("Acknowledge", "acknowledge", note, "Note (may be left out)", "primary");
  }

  function commentForm() {
    return said("Comment", "comment", h("textarea", { name: "comment", maxlength: 2000, rows: 2, required: true }), "Comment", null);
  }

  function said(verb, action, control, label, kind) {
    const button = h("button", { class: kind }, verb);
    return h("form", { class: "stack", onsubmit: async (event) => {
      event.preventDefault();
      button.disabled = true;
      complain(control, "");
      try {
        feed.takeAlert(await api.post(`${path}/${action}`, { note: control.value }));
        control.value = "";
        announce("Saved.");
        await load();
      } catch (error) {
        complain(control, error.message);
        control.focus();
      } finally {
        button.disabled = false;
      }
    } }, field(label, control), h("div", {}, button));
  }

  feed.addEventListener("alerts", () => { if (feed.alerts.get(id) || isBuilt) schedule(); }, { signal });
  let waiting = null;
  const schedule = () => { waiting ??= setTimeout(() => { waiting = null; if (!signal.aborted) load(); }, 500); };
  load();
  return { title: "Alert", node };
}
