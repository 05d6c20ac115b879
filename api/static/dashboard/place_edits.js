// What can be changed of sites, units and sensors, each in a dialog. Resolves to whether something was saved.
import { edited, field, h, select } from "./dom.js";
import { capital } from "./format.js";

export const KINDS = ["fridge", "freezer", "cold_room", "freezer_room", "blast_chiller", "display_case", "hot_holding", "vehicle", "room", "other"];
export const kindName = (kind) => capital((kind ?? "").replaceAll("_", " "));

const HOLDS = "Empty: from now on. What was before stays as it was.";

export async function editSite(api, site) {
  const name = nameField(site), since = sinceField();
  const zone = zoneField(site.timezone);
  const attributes = attributesField(site.attributes);
  return edited(`Edit “${site.name}”`,
    [field("Name", name, { part: "name" }), field("Time zone", zone, { part: "timezone" }), attributes.node, field("Time zone and attributes hold since", since, { part: "effective_from", hint: HOLDS })],
    [name, zone, ...attributes.controls, since],
    () => change(api, `v1/sites/${encodeURIComponent(site.site_id)}`, site, { name: name.value.trim(), timezone: zone.value.trim(), attributes: attributes.value() }, since.value));
}

export async function editUnit(api, unit) {
  const name = nameField(unit), since = sinceField();
  const kind = select(KINDS.map((each) => [each, kindName(each)]), unit.kind);
  const attributes = attributesField(unit.attributes);
  return edited(`Edit “${unit.name}”`,
    [field("Name", name, { part: "name" }), field("Kind", kind, { part: "kind" }), attributes.node, field("Kind and attributes hold since", since, { part: "effective_from", hint: HOLDS })],
    [name, kind, ...attributes.controls, since],
    () => change(api, `v1/units/${encodeURIComponent(unit.unit_id)}`, unit, { name: name.value.trim(), kind: kind.value, attributes: attributes.value() }, since.value));
}

export async function editSensor(api, sensor, name) {
  const unit = h("input", { value: sensor.unit, required: true, maxlength: 32, autocomplete: "off" });
  const interval = h("input", { value: sensor.expected_interval ?? "", maxlength: 64, autocomplete: "off", placeholder: "5m" });
  return edited(`Edit “${name}”`,
    [field("Measures in", unit, { part: "unit", hint: "As celsius or percent. The values stay as they are." }),
      field("Expected every", interval, { part: "expected_interval", hint: "A duration as 30s, 5m or 1h; empty: as its readings come. Three of them without a reading are a gap. Stored readings are judged again." })],
    [unit, interval],
    () => change(api, `v1/sensors/${encodeURIComponent(sensor.sensor_id)}`, sensor, { unit: unit.value.trim(), expected_interval: interval.value.trim() || null }, ""));
}

/** Sends only what is different, and only over what was shown. */
async function change(api, path, thing, wanted, since) {
  const body = Object.fromEntries(Object.entries(wanted).filter(([key, value]) => JSON.stringify(value) !== JSON.stringify(thing[key] ?? null)));
  if (!Object.keys(body).length && !since) return;
  if (since) body.effective_from = new Date(since).toISOString();
  await api.patch(path, thing.revision ? { ...body, revision: thing.revision } : body);
}

const nameField = (thing) => h("input", { value: thing.name, required: true, maxlength: 128, autocomplete: "off" });
const sinceField = () => h("input", { type: "datetime-local" });

/** A field that suggests the names of time zones that the browser knows. */
export function zoneField(value) {
  const list = document.getElementById("time-zones") ?? document.body.appendChild(
    h("datalist", { id: "time-zones" }, ["UTC", ...Intl.supportedValuesOf("timeZone")].map((zone) => h("option", { value: zone }))));
  return h("input", { value, required: true, autocomplete: "off", spellcheck: "false", list: list.id });
}

/** Names with numbers, which rules may use, or with short texts. */
function attributesField(given) {
  const rows = h("div", { class: "stack" });

  function add(name = "", value = "") {
    const key = h("input", { value: name, pattern: "[A-Za-z_][A-Za-z0-9_]{0,63}", title: "a letter, then letters, digits or _", "aria-label": "Name of the attribute", autocomplete: "off", placeholder: "max_celsius" });
    const content = h("input", { value: String(value), maxlength: 256, "aria-label": "Value of the attribute", autocomplete: "off", placeholder: "5" });
    const row = h("div", { class: "attribute" }, key, content, h("button", { type: "button", class: "small", "aria-label": `Remove the attribute ${name || "that is new"}`, onclick: () => {
      row.remove();
      more.focus();
    } }, "Remove"));
    row.read = () => [key.value.trim(), content.value === String(value) ? value : typed(content.value.trim())];
    rows.append(row);
    return key;
  }

  const more = h("button", { type: "button", class: "small", onclick: () => add().focus() }, "Add an attribute");
  for (const [name, value] of Object.entries(given ?? {})) add(name, value);
  const node = h("fieldset", { id: "attributes", class: "stack", tabindex: -1, data: { part: "attributes" } }, h("legend", {}, "Attributes"),
    h("p", { class: "hint" }, "Rules may compare readings with them, as max_celsius."), rows, h("p", { class: "wrong", id: "attributes-wrong", hidden: true }), h("div", {}, more));
  return {
    node,
    controls: [node],
    value: () => Object.fromEntries([...rows.children].map((row) => row.read()).filter(([name]) => name)),
  };
}

/** A number where it is one. */
const typed = (text) => (text !== "" && Number.isFinite(Number(text)) ? Number(text) : text);
