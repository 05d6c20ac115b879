// Usage: what is metered, by day, and whether it agrees with what is stored.
import { cell, choices, failure, fill, h, loading, table } from "../dom.js";
import { badge, capital, count } from "../format.js";
import { nowMs } from "../http.js";

const DAY_MS = 86_400_000;
const SPANS = [["7", "7 days"], ["30", "30 days"], ["90", "90 days"]];
const day = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric", timeZone: "UTC" });
// What a period comes to: counted things add up, sensors do not.
const SUMS = { active_sensors: false };

export function show({ api, signal }) {
  let days = "30", asked = 0;
  const body = h("div", { class: "stack" }, loading());

  async function load() {
    const mine = ++asked;
    try {
      const today = Math.floor(nowMs() / DAY_MS) * DAY_MS;
      const range = { start: new Date(today - (Number(days) - 1) * DAY_MS).toISOString(), end: new Date(today + DAY_MS).toISOString() };
      const [rows, drift] = await Promise.all([api.all("v1/usage", { ...range, bucket: "day" }, { signal }), reconciliation()]);
      if (mine === asked) draw(rows, drift);
    } catch (error) {
      if (!signal.aborted && mine === asked) fill(body, failure(error, load));
    }
  }

  const reconciliation = () => api.all("v1/usage/reconciliation", {}, { signal, most: 500 }).catch((error) => {
    if (error.status === 404 || error.status === 403) return null;
    throw error;
  });

  function draw(rows, drift) {
    const meters = Map.groupBy(rows, (row) => row.meter);
    const tiles = [...meters].map(([meter, found]) => {
      const amounts = found.map((row) => row.quantity);
      const total = SUMS[meter] === false ? Math.max(...amounts) : amounts.reduce((a, b) => a + b, 0);
      return h("div", { class: "tile" }, h("dt", {}, name(meter)), h("dd", {}, count(total), " ", h("small", {}, SUMS[meter] === false ? "at most on a day" : `in ${days} days`)));
    });
    fill(body, tiles.length ? h("dl", { class: "tiles" }, tiles) : h("p", { class: "panel empty" }, "Nothing was metered in this time."),
      drift === null ? null : h("section", { class: "panel stack" }, h("h2", {}, "Reconciliation"), drift.length ? differences(drift) : h("p", {}, badge("ok", "ok", "Agrees"), " What is stored, metered and billed is the same.")),
      [...meters].map(([meter, found]) => h("section", { class: "panel flush" }, h("h2", {}, name(meter)), byDay(meter, found))));
  }

  function byDay(meter, rows) {
    const most = Math.max(...rows.map((row) => row.quantity), 1);
    const sorted = [...rows].sort((a, b) => (a.bucket_start < b.bucket_start ? 1 : -1));
    return table(`${name(meter)} by day`, [{ name: "Day (UTC)" }, { name: "Quantity", number: true }, { name: "Share of the largest" }], sorted.map((row) => h("tr", {},
      h("th", { scope: "row" }, day.format(Date.parse(row.bucket_start))), cell("Quantity", count(row.quantity), "number"),
      cell("Share", h("meter", { min: 0, max: most, value: row.quantity, "aria-label": `${count(row.quantity)} of at most ${count(most)}` })))));
  }

  const differences = (rows) => table("Differences", ["Meter", "Hour", "Stored", "Metered", "Difference", "Why"].map((each) => ({ name: each, number: ["Stored", "Metered", "Difference"].includes(each) })), rows.map((row) => h("tr", {},
    h("th", { scope: "row" }, name(row.meter)), cell("Hour", row.bucket_start), cell("Stored", count(row.stored ?? 0), "number"), cell("Metered", count(row.metered ?? 0), "number"), cell("Difference", count(row.difference ?? 0), "number"), cell("Why", row.explanation ?? ""))));

  load();
  return { title: "Usage", node: h("div", { class: "stack" }, h("div", { class: "head" }, h("div", {}, h("h1", {}, "Usage"), h("p", { class: "muted" }, "What is metered and billed, by the time of the readings.")), choices("Range", SPANS, days, (value) => { days = value; load(); })), body) };
}

const name = (meter) => capital(meter.replaceAll("_", " "));
