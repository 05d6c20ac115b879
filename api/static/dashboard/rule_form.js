// The form of a rule for the conditions that most rules have; every other rule is edited as JSON.
import { field, fill, h, select } from "./dom.js";
import { SEVERITIES, boundOf, capital } from "./format.js";

const BOUNDS = [["above", "above"], ["at_or_above", "at or above"], ["below", "below"], ["at_or_below", "at or below"]];
const KINDS = [["threshold", "A value beyond a bound"], ["aggregate", "A window's mean, range or rate"], ["silence", "No readings"], ["preset", "A preset of a standard"]];
const FUNCTIONS = ["mean", "min", "max", "count", "range", "rate_per_hour"].map((name) => [name, capital(name.replaceAll("_", " "))]);
const PRESETS = ["food-code-4h", "food-code-6h", "who-fridge", "who-freezer", "who-shipping-type-1", "who-shipping-type-2", "usp-cold-chain", "usp-room-temperature"];
const FORM_FIELDS = {
  threshold: ["type", "above", "at_or_above", "below", "at_or_below", "for", "consecutive", "clear", "keep_firing_for"],
  aggregate: ["type", "function", "window", "above", "at_or_above", "below", "at_or_below", "for", "clear", "keep_firing_for"],
  silence: ["type", "after"], preset: ["type", "name"],
};

/** Whether the form can show all that a rule says. */
export function fitsForm(rule) {
  const condition = rule.condition ?? {}, bound = boundOf(condition), clearing = boundOf(condition.clear);
  const known = FORM_FIELDS[condition.type];
  return Boolean(known) && !rule.schedule && Object.keys(condition).every((name) => known.includes(name))
    && [bound, clearing].every((each) => !each || typeof each[1] === "number");
}

/** The form: `element`, `rule()` as it stands, `controls()` to show what is wrong at. */
export class RuleForm {
  #controls = {};
  #conditionPlace = h("div", { class: "fields wide" });
  #targetPlace = h("div", {});
  #feed;
  #changed;

  constructor(feed, rule, changed) {
    this.#feed = feed;
    this.#changed = changed;
    const controls = this.#controls;
    controls.name = h("input", { maxlength: 200, required: true, autocomplete: "off", value: rule.name ?? "" });
    controls.severity = select(SEVERITIES.map((each) => [each, capital(each)]), rule.severity ?? "major");
    controls.kind = select(KINDS, rule.condition?.type ?? "threshold", { onchange: () => this.#drawCondition({ type: controls.kind.value }) });
    const target = Object.keys(rule.applies_to ?? { all: true })[0] ?? "all";
    controls.target = select([["all", "All sensors"], ["sensor_id", "One sensor"], ["unit_id", "One unit"], ["site_id", "One site"], ["unit_kind", "Units of a kind"]], target, { onchange: () => this.#drawTarget("") });
    this.element = h("div", { class: "fields" },
      field("Name", controls.name, { wide: true, part: "name" }), field("Severity", controls.severity, { part: "severity" }),
      field("Applies to", controls.target, { part: "applies_to" }), this.#targetPlace,
      field("Raises an alert on", controls.kind, { part: "condition.type", wide: true }), this.#conditionPlace);
    this.element.addEventListener("input", () => this.#changed());
    this.#drawTarget(Object.values(rule.applies_to ?? {})[0]);
    this.#drawCondition(rule.condition ?? { type: "threshold", above: 8, for: "30m" });
  }

  /** Controls by the part of the rule that they hold; the longest prefix of a server's complaint names one. */
  controls() {
    return [...this.element.querySelectorAll("[data-part]")];
  }

  rule() {
    const controls = this.#controls;
    return { name: controls.name.value.trim(), severity: controls.severity.value, applies_to: this.#target(), condition: this.#condition() };
  }

  #target() {
    const kind = this.#controls.target.value;
    return kind === "all" ? { all: true } : { [kind]: this.#controls.of?.value ?? "" };
  }

  #drawTarget(value) {
    const kind = this.#controls.target.value;
    const options = {
      sensor_id: () => [...this.#feed.sensors.keys()].map((id) => [id, this.#feed.nameOf(id)]),
      unit_id: () => [...this.#feed.units.values()].map((unit) => [unit.unit_id, unit.name]),
      site_id: () => [...this.#feed.sites.values()].map((site) => [site.site_id, site.name]),
      unit_kind: () => [...new Set([...this.#feed.units.values()].map((unit) => unit.kind).filter(Boolean))].map((each) => [each, capital(each.replaceAll("_", " "))]),
    }[kind];
    delete this.#controls.of;
    if (!options) return fill(this.#targetPlace);
    const listed = options().sort(([, a], [, b]) => a.localeCompare(b));
    if (value && !listed.some(([key]) => key === value)) listed.unshift([value, value]);
    this.#controls.of = select(listed.length ? listed : [["", "There is none yet"]], value || listed[0]?.[0]);
    return fill(this.#targetPlace, field("Which", this.#controls.of, { part: `applies_to.${kind}` }));
  }

  #drawCondition(condition) {
    const kind = condition.type, controls = this.#controls;
    const text = (name, value, hint, part, attributes = {}) => {
      controls[name] = h("input", { value: value ?? "", autocomplete: "off", spellcheck: "false", ...attributes });
      return [controls[name], { hint, part }];
    };
    const shown = [];
    if (kind === "aggregate") {
      controls.function = select(FUNCTIONS, condition.function ?? "mean");
      shown.push(field("Function", controls.function, { part: "condition.function" }), field("Window", ...text("window", condition.window ?? "1h", "For example 15m, 1h", "condition.window")));
    }
    if (kind === "threshold" || kind === "aggregate") {
      shown.push(this.#bound("Fires when it is", "bound", boundOf(condition) ?? ["above", 8], "condition"),
        field("For at least", ...text("for", condition.for, "Proven time, for example 30m; empty: at once", "condition.for")));
      if (kind === "threshold") shown.push(field("Readings in a row", ...text("consecutive", condition.consecutive, "Instead of a time; may be empty", "condition.consecutive", { inputmode: "numeric" })));
      shown.push(this.#bound("Clears when it is", "clear", boundOf(condition.clear) ?? [opposite(boundOf(condition)?.[0] ?? "above"), ""], "condition.clear", "Empty: as soon as the bound is kept"),
        field("Clear for", ...text("clearFor", condition.clear?.for, "Empty: at once", "condition.clear.for")),
        field("Keep firing for", ...text("keep", condition.keep_firing_for, "After the last violation; may be empty", "condition.keep_firing_for")));
    }
    if (kind === "silence") shown.push(field("Silent for", ...text("after", condition.after ?? "15m", "For example 15m, 2h", "condition.after")));
    if (kind === "preset") {
      controls.preset = select(PRESETS.map((name) => [name, name]), condition.name ?? PRESETS[0]);
      shown.push(field("Preset", controls.preset, { part: "condition.name", hint: "docs/presets.md tells the numbers and where they come from." }));
    }
    fill(this.#conditionPlace, shown);
    this.#changed();
  }

  #bound(label, name, [bound, value], part, hint = null) {
    const kind = this.#controls[`${name}Kind`] = select(BOUNDS, bound, { "aria-label": `${label}: which side` });
    const input = this.#controls[name] = h("input", { value, inputmode: "decimal", autocomplete: "off", data: { part } });
    const made = field(label, input, { hint, part });
    const pair = h("div", { class: "pair" });
    input.replaceWith(pair);
    pair.append(kind, input);
    return made;
  }

  #condition() {
    const controls = this.#controls, kind = controls.kind.value;
    if (kind === "silence") return { type: kind, after: controls.after.value.trim() };
    if (kind === "preset") return { type: kind, name: controls.preset.value };
    const condition = { type: kind };
    if (kind === "aggregate") Object.assign(condition, { function: controls.function.value, window: controls.window.value.trim() });
    condition[controls.boundKind.value] = asNumber(controls.bound.value);
    const given = { for: controls.for.value.trim(), keep_firing_for: controls.keep.value.trim() };
    Object.assign(condition, Object.fromEntries(Object.entries(given).filter(([, value]) => value)));
    if (kind === "threshold" && controls.consecutive.value.trim()) condition.consecutive = asNumber(controls.consecutive.value);
    const clear = {};
    if (controls.clear.value.trim()) clear[controls.clearKind.value] = asNumber(controls.clear.value);
    if (controls.clearFor.value.trim()) clear.for = controls.clearFor.value.trim();
    return Object.keys(clear).length ? { ...condition, clear } : condition;
  }
}

/** What is no number goes to the server as it is: its answer says what is wrong. */
function asNumber(text) {
  const value = Number(text.trim().replace(",", ".").replace("−", "-"));
  return text.trim() === "" || Number.isNaN(value) ? text : value;
}

const opposite = (bound) => (bound.includes("above") ? "below" : "above");
