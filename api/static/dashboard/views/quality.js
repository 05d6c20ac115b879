// Data quality: what was stored, doubled, contradicted, late, refused and missing.
import { cell, choices, failure, fill, h, loading, table } from "../dom.js";
import { count, duration, moment, number } from "../format.js";
import { nowMs, withQuery } from "../http.js";

const SPANS = [["1", "24 hours"], ["7", "7 days"], ["30", "30 days"]];
const COUNTS = [["accepted", "Stored"], ["duplicates", "Duplicates"], ["conflict_count", "Conflicts"], ["late", "Late"], ["quarantined", "Quarantined"], ["rejected", "Rejected"], ["gap_count", "Gaps"]];
const MOST_PAGES = 10;

export function show({ api, feed, signal }) {
  let days = "1", asked = 0;
  const body = h("div", { class: "stack" }, loading());

  async function load() {
    const mine = ++asked;
    fill(body, h("div", { class: "panel" }, loading()));
    try {
      const end = nowMs(), range = { start: new Date(end - Number(days) * 86_400_000).toISOString(), end: new Date(end).toISOString() };
      const items = [];
      let page = null, pages = 0;
      do {
        page = await api.call("GET", withQuery("v1/data-quality", page ? { cursor: page.next } : range), { signal });
        items.push(...page.items);
      } while (page.next && ++pages < MOST_PAGES);
      if (mine === asked) draw(items, page);
    } catch (error) {
      if (!signal.aborted && mine === asked) fill(body, failure(error, load));
    }
  }

  function draw(items, page) {
    const total = (key) => items.reduce((sum, item) => sum + item[key], 0);
    fill(body, h("dl", { class: "tiles" }, COUNTS.map(([key, name]) => h("div", { class: "tile" }, h("dt", {}, name), h("dd", {}, count(total(key)))))),
      h("section", { class: "panel flush" }, h("h2", {}, "By sensor"), items.length ? table("Data quality by sensor", [{ name: "Sensor" }, ...COUNTS.map(([, name]) => ({ name, number: true }))],
        [...items].sort((a, b) => trouble(b) - trouble(a)).map(row)) : h("p", { class: "empty" }, "No sensors yet."), page.next ? h("p", { class: "more muted" }, "More sensors than are shown here; /v1/data-quality has them all.") : null),
      h("section", { class: "panel flush" }, h("h2", {}, "Refused, by device"), page.refusals.length ? table("Refusals by device", [{ name: "Device" }, { name: "Reason" }, { name: "Refused", number: true }, { name: "Kept", number: true }],
        page.refusals.map((each) => h("tr", {}, h("th", { scope: "row" }, feed.devices.get(each.device_id)?.name ?? each.device_id), cell("Reason", each.reason.replaceAll("_", " ")), cell("Refused", count(each.refused), "number"), cell("Kept", count(each.kept), "number")))) : h("p", { class: "empty" }, "Nothing was refused.")));
  }

  const trouble = (item) => item.conflict_count * 4 + item.gap_count * 2 + item.rejected * 4 + item.quarantined * 4 + item.late / 1000;

  function row(item) {
    return h("tr", {}, h("th", { scope: "row" }, h("a", { href: `#/sensors/${encodeURIComponent(item.sensor_id)}` }, feed.nameOf(item.sensor_id)), details(item)),
      COUNTS.map(([key, name]) => cell(name, count(item[key]), `number${item[key] === 0 ? " muted" : ""}`)));
  }

  function details(item) {
    if (!item.gaps.length && !item.conflicts.length) return null;
    return h("details", { class: "small" }, h("summary", {}, [item.gap_count ? `${count(item.gap_count)} gaps` : null, item.conflict_count ? `${count(item.conflict_count)} conflicts` : null].filter(Boolean).join(", ")),
      h("ul", {}, item.gaps.slice(-20).map((gap) => h("li", {}, "No readings from ", moment(gap.from), " for ", duration(Date.parse(gap.to) - Date.parse(gap.from)))),
        item.conflicts.slice(-20).map((each) => h("li", {}, moment(each.at), `: ${number(each.value)} was kept, not ${each.others.map(number).join(", ")}`))));
  }

  load();
  return { title: "Data quality", node: h("div", { class: "stack" },
    h("div", { class: "head" }, h("div", {}, h("h1", {}, "Data quality"), h("p", { class: "muted" }, "What was stored, doubled, contradicted, late, refused and missing.")), choices("Range", SPANS, days, (value) => { days = value; load(); })), body) };
}
