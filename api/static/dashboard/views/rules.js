// The rules of the tenant.
import { announce, cell, confirmed, failure, fill, h, loading, readOnly, table } from "../dom.js";
import { conditionText, moment, severityBadge } from "../format.js";

export function show({ api, feed, session, signal }) {
  const mayWrite = session.may("rules:write");
  const list = h("section", { class: "panel flush", "aria-label": "Rules" }, loading());

  async function load() {
    try {
      await feed.loadPlaces();
      if (!signal.aborted) draw();
    } catch (error) {
      if (!signal.aborted) fill(list, failure(error, load));
    }
  }

  function draw() {
    const rules = [...feed.rules.values()].sort((a, b) => a.name.localeCompare(b.name));
    fill(list, rules.length ? table("Rules", ["Severity", "Rule", "Applies to", "Changed", ...(mayWrite ? [""] : [])].map((name) => ({ name })), rules.map(row))
      : h("p", { class: "empty" }, "No rules yet: nothing raises an alert. ", mayWrite ? h("a", { href: "#/rules/new" }, "Create the first one") : null));
  }

  function row(rule) {
    const to = `#/rules/${encodeURIComponent(rule.rule_id)}`;
    return h("tr", {}, cell("Severity", severityBadge(rule.severity), "bare"),
      h("th", { scope: "row" }, h("a", { href: to }, rule.name), h("div", { class: "muted small" }, conditionText(rule.condition), rule.schedule ? " · on a schedule" : ""),
        rule.progress < 1 ? h("div", { class: "small" }, `Judging stored readings: ${Math.floor(rule.progress * 100)} %`) : null),
      cell("Applies to", targetText(rule.applies_to, feed)), cell("Changed", [moment(rule.updated_at), h("span", { class: "muted small" }, ` · version ${rule.version}`)]),
      mayWrite ? cell("", [h("a", { class: "button small", href: to, "aria-label": `Edit ${rule.name}` }, "Edit"), h("button", { type: "button", class: "small danger", "aria-label": `Delete ${rule.name}`, onclick: () => remove(rule) }, "Delete")], "actions") : null);
  }

  async function remove(rule) {
    const text = "It judges no further readings and its open alerts resolve now. What it found stays.";
    if (!(await confirmed(`Delete “${rule.name}”?`, text, "Delete"))) return;
    try {
      await api.delete(`v1/rules/${encodeURIComponent(rule.rule_id)}`);
      announce("Deleted.");
      await load();
    } catch (error) {
      list.prepend(failure(error, null));
    }
  }

  load();
  return { title: "Rules", node: h("div", { class: "stack" },
    h("div", { class: "head" }, h("div", {}, h("h1", {}, "Rules"), h("p", { class: "muted" }, "What a sensor must not do, and how bad it is if it does."), mayWrite ? null : readOnly(session, "rules")),
      mayWrite ? h("a", { class: "button primary", href: "#/rules/new" }, "New rule") : null), list) };
}

/** Whom a rule is for, in words. */
export function targetText(target, feed) {
  if (!target || target.all) return "All sensors";
  if (target.sensor_id) return feed.nameOf(target.sensor_id);
  if (target.unit_id) return `Unit ${feed.units.get(target.unit_id)?.name ?? target.unit_id}`;
  if (target.site_id) return `Site ${feed.sites.get(target.site_id)?.name ?? target.site_id}`;
  return `Units of kind ${target.unit_kind}`;
}
