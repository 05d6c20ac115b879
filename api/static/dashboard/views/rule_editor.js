// Making and changing a rule, with what it would have found drawn over stored readings before it is saved.
import { Chart, legend } from "../chart.js";
import { announce, choices, complain, failure, field, fill, h, loading, readOnly, select, table, cell } from "../dom.js";
import { lasted, span } from "../episodes.js";
import { boundOf, count, moment, quantity, severityBadge, statusBadge } from "../format.js";
import { readings } from "../history.js";
import { nowMs } from "../http.js";
import { RuleForm, fitsForm } from "../rule_form.js";

const FRESH = { name: "", severity: "major", applies_to: { all: true }, condition: { type: "threshold", above: 8, for: "30m", clear: { below: 7.5, for: "5m" } } };
const DAY_MS = 86_400_000;
const SPANS = [["1", "1 day"], ["7", "7 days"], ["30", "30 days"]];

export function show({ api, feed, session, signal, go }, [id]) {
  const isNew = id === "new";
  const node = h("div", { class: "stack" }, h("h1", {}, isNew ? "New rule" : "Rule"), loading());

  async function load() {
    try {
      const rule = isNew ? FRESH : await api.get(`v1/rules/${encodeURIComponent(id)}`, {}, signal);
      fill(node, new Editor({ api, feed, session, signal, go }, rule, isNew ? null : id).nodes());
    } catch (error) {
      if (!signal.aborted) fill(node, h("h1", {}, "Rule"), error.status === 404 ? h("p", { class: "panel empty" }, "There is no such rule. ", h("a", { href: "#/rules" }, "All rules")) : failure(error, load));
    }
  }

  load();
  return { title: isNew ? "New rule" : "Rule", node };
}

/** The parts of a rule that people write; the rest is the server's. */
function written(rule) {
  const kept = ["name", "severity", "applies_to", "condition", "schedule"].filter((name) => rule[name] !== undefined && rule[name] !== null);
  return Object.fromEntries(kept.map((name) => [name, rule[name]]));
}

class Editor {
  #context;
  #id;
  #title;
  #form = null;
  #json = h("textarea", { class: "code", spellcheck: "false", autocomplete: "off" });
  #place = h("div", {});
  #problem = h("div", { role: "alert" });
  #mode;
  #preview;

  constructor(context, rule, id) {
    this.#context = context;
    this.#id = id;
    this.#title = id ? rule.name : "New rule";
    this.#mode = fitsForm(rule) ? "form" : "json";
    this.#show(written(rule));
    this.#preview = new Preview(context, () => this.#rule(), (error) => this.#complain(error));
  }

  nodes() {
    const modes = choices("Edit as", [["form", "Form"], ["json", "JSON"]], this.#mode, (mode) => this.#turn(mode, modes));
    const { session } = this.#context;
    const save = h("button", { class: "primary" }, this.#id ? "Save as next version" : "Create rule");
    const buttons = session.may("rules:write") ? h("div", { class: "row" }, save, h("a", { class: "button", href: "#/rules" }, "Cancel")) : readOnly(session, "rules and try them in the preview");
    const form = h("form", { class: "panel stack", onsubmit: (event) => { event.preventDefault(); if (session.may("rules:write")) this.#save(save); } },
      h("div", { class: "row" }, h("h2", { class: "grow" }, "Rule"), modes), this.#place, this.#problem,
      buttons);
    return [h("div", {}, h("p", { class: "crumbs" }, h("a", { href: "#/rules" }, "Rules")), h("h1", {}, this.#title)),
      h("div", { class: "halves" }, form, this.#preview.element)];
  }

  #show(rule) {
    if (this.#mode === "form") {
      this.#form = new RuleForm(this.#context.feed, rule, () => {});
      fill(this.#place, this.#form.element);
    } else {
      this.#json.value = JSON.stringify(rule, null, 2);
      fill(this.#place, field("Rule as JSON", this.#json, { hint: "All conditions and schedules of docs/rules.md.", part: "rule" }));
    }
  }

  #turn(mode, modes) {
    const rule = this.#rule();
    if (rule && (mode === "json" || fitsForm(rule))) {
      this.#mode = mode;
      fill(this.#problem);
      return this.#show(rule);
    }
    for (const button of modes.children) button.setAttribute("aria-pressed", String(button.dataset.value === this.#mode));
    if (rule) fill(this.#problem, h("p", { class: "notice" }, "This rule says more than the form can show; edit it as JSON."));
    return undefined;
  }

  /** The rule as it is written; null, with a message, while it is no JSON. */
  #rule() {
    this.#clear();
    if (this.#mode === "form") return this.#form.rule();
    try {
      return JSON.parse(this.#json.value);
    } catch (error) {
      complain(this.#json, `This is not JSON: ${error.message}`);
      this.#json.focus();
      return null;
    }
  }

  async #save(button) {
    const rule = this.#rule();
    if (!rule) return;
    button.disabled = true;
    try {
      const { api, feed, go } = this.#context;
      const body = this.#id ? { schedule: null, ...rule } : rule;
      const saved = this.#id ? await api.patch(`v1/rules/${encodeURIComponent(this.#id)}`, body) : await api.post("v1/rules", body);
      feed.rules.set(saved.rule_id, saved);
      announce("Saved.");
      if (saved.warnings.length) fill(this.#problem, h("div", { class: "notice", "data-tone": "warn" }, h("p", {}, "Saved, with a warning:"), saved.warnings.map((warning) => h("p", {}, warning)), h("p", {}, h("a", { href: "#/rules" }, "All rules"))));
      else go("/rules");
    } catch (error) {
      this.#complain(error);
    } finally {
      button.disabled = false;
    }
  }

  #controls() {
    return this.#mode === "form" ? this.#form.controls() : [this.#json];
  }

  #clear() {
    fill(this.#problem);
    for (const control of this.#controls()) complain(control, "");
  }

  /** At the field that the server names, or the nearest that the form has; JSON is one field. */
  #complain(error) {
    const part = (error.errors?.[0]?.parameter ?? "").replace(/^rule\./, "");
    const near = this.#controls().filter((each) => this.#mode === "json" || part === each.dataset.part || part.startsWith(`${each.dataset.part}.`) || isBound(part, each.dataset.part))
      .sort((a, b) => b.dataset.part.length - a.dataset.part.length)[0];
    if (part && near) {
      complain(near, error.message);
      near.focus();
    } else {
      fill(this.#problem, failure(error, null));
    }
  }
}

const isBound = (part, control) => ["above", "at_or_above", "below", "at_or_below"].some((name) => part === `${control}.${name}`);

/** What a rule would have found, over the readings of one of its sensors. */
class Preview {
  #context;
  #rule;
  #complain;
  #days = "7";
  #result = h("div", { class: "stack" }, h("p", { class: "empty" }, "Replays the rule over stored readings. Nothing is saved."));
  #chart = new Chart("Readings with what the rule would have found");
  #found = null;
  #sensor = null;

  constructor(context, rule, complainAbout) {
    this.#context = context;
    this.#rule = rule;
    this.#complain = complainAbout;
    context.signal.addEventListener("abort", () => this.#chart.dispose());
    const run = h("button", { type: "button", onclick: () => this.#run(run) }, "Preview");
    this.element = h("section", { class: "panel stack", "aria-label": "Preview" },
      h("div", { class: "row" }, h("h2", { class: "grow" }, "Preview"), choices("Over the last", SPANS, this.#days, (days) => { this.#days = days; if (this.#found) this.#run(run); }), run), this.#result);
  }

  async #run(button) {
    const draft = this.#rule();
    if (!draft) return;
    // A name is not needed to see what a rule would find.
    const rule = { ...draft, name: draft.name || "Preview" };
    button.disabled = true;
    fill(this.#result, loading());
    try {
      const end = nowMs(), start = end - Number(this.#days) * DAY_MS;
      const body = { rule, start: new Date(start).toISOString(), end: new Date(end).toISOString() };
      this.#found = { rule, start, end, ...(await this.#context.api.call("POST", "v1/rules/preview", { body, signal: this.#context.signal })), startMs: start, endMs: end };
      this.#sensor = null;
      this.#draw();
    } catch (error) {
      if (this.#context.signal.aborted) return;
      fill(this.#result, h("p", { class: "empty" }, "No preview: the rule cannot be used yet."));
      this.#complain(error);
    } finally {
      button.disabled = false;
    }
  }

  #draw() {
    const { feed } = this.#context, found = this.#found;
    const affected = [...new Set(found.items.map((item) => item.sensor_id))];
    const all = affected.length ? affected : this.#targets(found.rule.applies_to);
    this.#sensor ??= all[0] ?? null;
    const chosen = h("div", { class: "stack" });
    fill(this.#result,
      h("p", { role: "status" }, h("strong", {}, `${count(found.items.length)}${found.truncated ? " or more" : ""} ${found.items.length === 1 ? "alert" : "alerts"}`), ` on ${affected.length} of ${count(found.sensors)} sensors, from ${count(found.readings)} readings.`),
      all.length > 1 ? field("Sensor", select(all.map((id) => [id, `${feed.nameOf(id)} (${found.items.filter((item) => item.sensor_id === id).length})`]), this.#sensor, { onchange: (event) => { this.#sensor = event.currentTarget.value; this.#drawSensor(chosen); } })) : null, chosen);
    this.#drawSensor(chosen);
  }

  #targets(target) {
    const { feed } = this.#context;
    if (target?.sensor_id) return [target.sensor_id];
    return [...feed.sensors.values()].filter((sensor) => !target?.unit_id || sensor.unit_id === target.unit_id).map((sensor) => sensor.sensor_id).slice(0, 200);
  }

  async #drawSensor(place) {
    const id = this.#sensor, found = this.#found, { api, feed, signal } = this.#context;
    if (!id) return;
    const episodes = found.items.filter((item) => item.sensor_id === id), unit = feed.sensors.get(id)?.unit;
    const points = await readings(api, id, found.startMs, found.endMs, signal).catch(() => []);
    if (signal.aborted || this.#sensor !== id) return;
    const bounds = [found.rule.condition, ...(found.rule.condition.conditions ?? [])].map((each) => boundOf(each)).filter((bound) => typeof bound?.[1] === "number").map((bound) => ({ value: bound[1], name: "bound" }));
    this.#chart.label = `Readings of ${feed.nameOf(id)} with ${episodes.length} alerts that the rule would have raised`;
    fill(place, this.#chart.element, legend({ band: points.some((point) => point.low !== undefined), bounds: bounds.length, episodes: episodes.length }),
      episodes.length ? table("Alerts that the rule would have raised", ["Severity", "Status", "Started", "Lasted", "Peak"].map((name) => ({ name, number: name === "Peak" })),
        episodes.slice(-50).reverse().map((each) => h("tr", {}, cell("Severity", severityBadge(each.severity), "bare"), cell("Status", statusBadge(each), "bare"), cell("Started", moment(each.started_at)), cell("Lasted", lasted(each)), cell("Peak", quantity(each.peak?.value, unit), "number")))) : null);
    this.#chart.draw({ points, start: found.startMs, end: found.endMs, unit, bounds, episodes: episodes.map((each) => span(each, "would fire")), key: `${id} ${found.startMs}` }).catch((error) => fill(place, failure(error, null)));
  }
}
