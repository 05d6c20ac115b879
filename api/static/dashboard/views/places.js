// Sites, the units in them, and which sensors stand where.
import { announce, cell, complain, confirmed, failure, field, fill, h, readOnly, select, table } from "../dom.js";
import { stateBadge } from "../format.js";
import { KINDS, editSensor, editSite, editUnit, kindName, zoneField } from "../place_edits.js";

export function show({ api, feed, session, signal }) {
  const mayPlace = session.may("places:write"), mayAssign = session.may("sensors:write");
  const here = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";

  const name = (label, row) => h("th", { scope: "row" }, h("strong", {}, row.name), label ? h("div", { class: "muted small" }, label) : null);
  const sensorsOf = (key, id) => [...feed.sensors.values()].filter((sensor) => sensor[key] === id);
  const siteOptions = () => [["", "No site"], ...[...feed.sites.values()].map((site) => [site.site_id, site.name])];
  const unitOptions = () => [["", "No unit"], ...[...feed.units.values()].map((unit) => [unit.unit_id, placed(unit)]).sort(([, a], [, b]) => a.localeCompare(b))];
  const placed = (unit) => [feed.sites.get(unit.site_id)?.name, unit.name].filter(Boolean).join(" › ");

  // Forms stay as they are while lists are drawn anew: nobody loses what they typed.
  const lists = { sites: h("div", {}), units: h("div", {}), sensors: h("div", {}) };
  const newUnitSite = select(siteOptions(), "");

  function draw() {
    const chosen = newUnitSite.value || feed.sites.keys().next().value || "";
    fill(newUnitSite, [...select(siteOptions(), chosen).children]);
    for (const [list, drawn] of [[lists.sites, sites], [lists.units, units], [lists.sensors, sensors]]) {
      // Nor is an open choice taken away from under somebody.
      if (!list.contains(document.activeElement)) fill(list, drawn());
    }
  }

  function sites() {
    const rows = [...feed.sites.values()].map((site) => h("tr", {}, name(site.timezone, site), cell("State", stateBadge(feed.stateOfAll(sensorsOf("site_id", site.site_id))), "bare"),
      cell("Units", [...feed.units.values()].filter((unit) => unit.site_id === site.site_id).length, "number"), acts(site, `v1/sites/${encodeURIComponent(site.site_id)}`, editSite)));
    return rows.length ? table("Sites", [{ name: "Site" }, { name: "State" }, { name: "Units", number: true }, ...(mayPlace ? [{ name: "" }] : [])], rows) : h("p", { class: "empty" }, "No sites yet.");
  }

  function newSite() {
    const title = h("input", { required: true, maxlength: 128, autocomplete: "off" });
    const zone = zoneField(here);
    return maker("Create site", [field("Name of the new site", title, { part: "name" }), field("Time zone", zone, { part: "timezone" })], [title, zone], () => api.post("v1/sites", { name: title.value.trim(), timezone: zone.value.trim() }));
  }

  function units() {
    const rows = [...feed.units.values()].map((unit) => h("tr", {}, name(kindName(unit.kind), unit), cell("State", stateBadge(feed.stateOfAll(sensorsOf("unit_id", unit.unit_id))), "bare"),
      cell("Sensors", sensorsOf("unit_id", unit.unit_id).length, "number"), cell("Site", mover(`Site of ${unit.name}`, siteOptions(), unit.site_id, mayPlace, (to) => api.patch(`v1/units/${encodeURIComponent(unit.unit_id)}`, { site_id: to }))), acts(unit, `v1/units/${encodeURIComponent(unit.unit_id)}`, editUnit)));
    return rows.length ? table("Units", [{ name: "Unit" }, { name: "State" }, { name: "Sensors", number: true }, { name: "Site" }, ...(mayPlace ? [{ name: "" }] : [])], rows) : h("p", { class: "empty" }, "No units yet.");
  }

  function newUnit() {
    const title = h("input", { required: true, maxlength: 128, autocomplete: "off" });
    const kind = select(KINDS.map((each) => [each, kindName(each)]), "fridge");
    return maker("Create unit", [field("Name of the new unit", title, { part: "name" }), field("Kind", kind, { part: "kind" }), field("At", newUnitSite, { part: "site_id" })], [title, kind, newUnitSite],
      () => api.post("v1/units", { name: title.value.trim(), kind: kind.value, site_id: newUnitSite.value || null }));
  }

  function sensors() {
    const rows = [...feed.sensors.values()].sort((a, b) => feed.nameOf(a.sensor_id).localeCompare(feed.nameOf(b.sensor_id))).slice(0, 500).map((sensor) => h("tr", {},
      h("th", { scope: "row" }, h("a", { href: `#/sensors/${encodeURIComponent(sensor.sensor_id)}` }, sensor.name), h("div", { class: "muted small" }, feed.devices.get(sensor.device_id)?.name ?? sensor.device_id)),
      cell("Measures in", sensor.unit), cell("Expected every", sensor.expected_interval ?? h("span", { class: "muted" }, "not declared")),
      cell("Unit", mover(`Unit of ${feed.nameOf(sensor.sensor_id)}`, unitOptions(), sensor.unit_id, mayAssign, (to) => api.patch(`v1/sensors/${encodeURIComponent(sensor.sensor_id)}`, { unit_id: to }))),
      mayAssign ? cell("", editor(feed.nameOf(sensor.sensor_id), () => editSensor(api, sensor, feed.nameOf(sensor.sensor_id))), "actions") : null));
    return rows.length ? table("Sensors and their units", ["Sensor", "Measures in", "Expected every", "Unit", ...(mayAssign ? [""] : [])].map((each) => ({ name: each })), rows) : h("p", { class: "empty" }, "A device's sensors appear when it first sends readings.");
  }

  /** A button that opens a thing's dialog. */
  function editor(called, edit) {
    return h("button", { type: "button", class: "small", "aria-label": `Edit ${called}`, onclick: async () => {
      if (await edit()) await attempt(() => null, "Saved.");
    } }, "Edit");
  }

  /** Buttons that change a place or take it out of the lists. */
  function acts(thing, path, edit) {
    if (!mayPlace) return null;
    const button = (verb, work) => h("button", { type: "button", class: "small", "aria-label": `${verb} ${thing.name}`, onclick: work }, verb);
    return cell("", [editor(thing.name, () => edit(api, thing)), button("Archive", async () => {
      const text = "It leaves the lists, and nothing new can be put into it. Its sensors stay in it and rules go on judging them.";
      if (await confirmed(`Archive “${thing.name}”?`, text, "Archive")) await attempt(() => api.delete(path), "Archived.");
    })], "actions");
  }

  async function attempt(work, done) {
    try {
      await work();
      announce(done);
      // The focus was on a button of a row that is drawn anew.
      document.activeElement?.blur();
      await feed.reload();
    } catch (error) {
      fill(news, failure(error, null));
    }
  }

  /** A list of places that moves a thing as soon as another is chosen. */
  function mover(label, options, value, isAllowed, move) {
    if (!isAllowed) return options.find(([key]) => key === (value ?? ""))?.[1] ?? "";
    const chosen = select(options, value ?? "", { "aria-label": label, onchange: async () => {
      chosen.disabled = true;
      try {
        await move(chosen.value || null);
        announce("Moved, from now on.");
        await feed.reload();
      } catch (error) {
        fill(news, failure(error, null));
        chosen.value = value ?? "";
      } finally {
        chosen.disabled = false;
      }
    } });
    return chosen;
  }

  function maker(verb, fields, controls, make) {
    return h("form", { class: "filters panel-head", onsubmit: async (event) => {
      event.preventDefault();
      controls.forEach((control) => complain(control, ""));
      try {
        await make();
        controls[0].value = "";
        announce("Created.");
        await feed.reload();
      } catch (error) {
        const wrong = controls.find((control) => control.dataset.part === error.errors?.[0]?.parameter) ?? controls[0];
        complain(wrong, error.message);
        wrong.focus();
      }
    } }, fields, h("button", { class: "primary" }, verb));
  }

  const section = (title, ...parts) => h("section", { class: "panel flush", "aria-label": title }, h("h2", {}, title), parts);
  const news = h("div", {});
  feed.addEventListener("places", draw, { signal });
  draw();
  return { title: "Places", node: h("div", { class: "stack" }, h("div", {}, h("h1", {}, "Places"), h("p", { class: "muted" }, "Sites, the units in them, and which sensor stands where. A move holds from now on; what was before stays as it was."), mayPlace ? null : readOnly(session, "places")), news,
    section("Sites", lists.sites, mayPlace ? newSite() : null), section("Units", lists.units, mayPlace ? newUnit() : null), section("Sensors", lists.sensors)) };
}
