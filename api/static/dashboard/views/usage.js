// Usage and billing: what this period comes to, what of it Stripe has, quotas, corrections; by day, and whether all agrees.
import { cell, choices, failure, fill, h, loading, table } from "../dom.js";
import { badge, capital, count } from "../format.js";
import { nowMs } from "../http.js";

const DAY_MS = 86_400_000;
// Usage moves with every reading; the bill is read again at most so often.
const AGAIN_MS = 30_000;
// Differences asked for, and shown: many have one cause.
const MOST = 500, SHOWN = 20;
const SPANS = [["7", "7 days"], ["30", "30 days"], ["90", "90 days"]];
const day = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric", timeZone: "UTC" });
const hour = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short", timeZone: "UTC" });
const money = new Intl.NumberFormat(undefined, { style: "currency", currency: "EUR" });
// What a period comes to: counted things add up, sensors do not.
const SUMS = { active_sensors: false };
const PLANS = ["basic", "professional", "enterprise"];
const CHARGES = { gathered: "on a coming invoice", pending: "being sent", sent: "being sent", ambiguous: "being looked up", acknowledged: "on the invoice that follows", rejected: "refused by Stripe", free: "nothing to pay" };
const REASONS = { not_included: "not in this plan", unpaid: "waits for payment", quota_exceeded: "the month's quota is used up" };

export function show({ api, feed, signal }) {
  let days = "30", asked = 0, busy = 0, due = null;
  const parts = { plan: h("div", { hidden: true }), bill: h("div", { class: "stack", hidden: true }), body: h("div", { class: "stack" }, loading()) };
  const drawn = new Map();

  /** Draws a part from what it shows, unless it shows just that: the focus and what is marked stay. */
  function redraw(part, what, make) {
    const text = JSON.stringify(what);
    if (drawn.get(part) === text) return;
    drawn.set(part, text);
    fill(part, what === null ? null : make());
    part.hidden = part.children.length === 0;
  }

  /** Once more by itself, what is shown stays if that fails. */
  async function load(isAgain = false) {
    const mine = ++asked;
    busy++;
    try {
      const today = Math.floor(nowMs() / DAY_MS) * DAY_MS;
      const range = { start: new Date(today - (Number(days) - 1) * DAY_MS).toISOString(), end: new Date(today + DAY_MS).toISOString() };
      const [rows, drift, statement] = await Promise.all([
        api.all("v1/usage", { ...range, bucket: "day" }, { signal }), allowed(api.all("v1/usage/reconciliation", {}, { signal, most: MOST })),
        allowed(api.get("v1/billing", {}, signal))]);
      if (mine !== asked) return;
      const { meters, quotas: used, corrections: made, ...about } = statement ?? {};
      redraw(parts.plan, statement && about, () => plan(statement));
      redraw(parts.bill, statement && [used, meters, made], () => [quotas(statement), period(statement), corrections(statement)]);
      redraw(parts.body, [days, rows, drift], () => draw(rows, drift));
    } catch (error) {
      if (signal.aborted || mine !== asked || isAgain) return;
      drawn.delete(parts.body);
      fill(parts.body, failure(error, () => load()));
    } finally {
      busy--;
    }
  }

  function soon() {
    due ??= setTimeout(() => {
      due = null;
      if (busy) soon();
      else load(true);
    }, AGAIN_MS);
  }

  const allowed = (answer) => answer.catch((error) => {
    if (error.status === 404 || error.status === 403) return null;
    throw error;
  });

  function plan(statement) {
    const { period: { start, end }, status } = statement;
    const state = status === null ? badge("", null, "Not subscribed") : badge(status === "active" || status === "trialing" ? "ok" : "alert", null, capital(status.replaceAll("_", " ")));
    const refused = Object.entries(statement.refused).map(([feature, why]) => h("li", {}, capital(feature), ": ", REASONS[why] ?? why));
    return h("section", { class: "panel stack" }, h("h2", {}, "Plan"),
      h("p", {}, h("strong", {}, capital(statement.plan)), ` ${money.format(statement.monthly_cents / 100)} a month `, state),
      h("p", { class: "muted" }, `This period: ${day.format(Date.parse(start))} to ${day.format(Date.parse(end) - 1)} (UTC).`,
        statement.cancel_at_period_end ? " The subscription ends with it." : ""),
      refused.length ? h("ul", {}, refused) : null, h("p", { class: "muted" }, "Readings are stored and alerts raised on any plan, paid or not."),
      statement.is_sold ? buttons(statement) : h("p", { class: "muted" }, "This system sells no subscriptions."));
  }

  function buttons(statement) {
    const note = h("p", { role: "status" });
    const go = (path, fields, label) => h("button", { type: "button", onclick: async ({ currentTarget: button }) => {
      button.disabled = true; // A second click would begin a second payment.
      addEventListener("pageshow", () => { button.disabled = false; }, { once: true, signal });
      try {
        location.assign((await api.post(path, fields)).url);
      } catch (error) {
        button.disabled = false;
        fill(note, error.status === 403 ? "Your role may not change the subscription." : error.message);
      }
    } }, label);
    const here = location.href;
    return h("div", { class: "stack" }, h("div", { class: "actions" }, statement.is_subscribed
      ? go("v1/billing/portal", { return_url: here }, "Manage the subscription")
      : PLANS.map((each) => go("v1/billing/checkout", { plan: each, success_url: here, cancel_url: here }, `Subscribe to ${each}`))), note);
  }

  const quotas = ({ quotas: found }) => found.length === 0 ? null : h("section", { class: "panel flush" }, h("h2", {}, "Quotas of this month"),
    table("Quotas", [{ name: "Meter" }, { name: "Used", number: true }, { name: "Included", number: true }, { name: "Share" }], found.map((one) => h("tr", {},
      h("th", { scope: "row" }, name(one.meter)), cell("Used", count(one.used), "number"), cell("Included", count(one.included), "number"),
      cell("Share", h("span", {}, h("meter", { min: 0, max: 100, value: Math.min(one.percent, 100), "aria-label": `${one.percent} percent of ${name(one.meter)}` }), ` ${one.percent} % `,
        one.warning === null ? null : badge(one.warning === "over" ? "alert" : "silent", null, one.warning === "over" ? "Used up" : "Nearly used up"),
        one.grace_end === null || Date.parse(one.grace_end) < nowMs() ? null : ` Nothing is held back before ${hour.format(Date.parse(one.grace_end))} UTC.`))))));

  function period({ meters, is_subscribed: billed }) {
    const columns = ["Metered", "Sent to Stripe", "Read back", "In flight", "Corrected"];
    return meters.length === 0 ? null : h("section", { class: "panel flush" }, h("h2", {}, "This period"),
      table("This period by meter", [{ name: "Meter" }, ...columns.map((each) => ({ name: each, number: true }))], meters.map((one) => h("tr", {},
        h("th", { scope: "row" }, name(one.meter), one.rejected ? [" ", badge("alert", null, `${count(one.rejected)} hours refused`)] : null),
        ...[one.metered, billed ? one.pushed : null, billed ? one.stripe : null, billed ? one.in_flight : null, billed ? one.adjusted : null]
          .map((value, n) => cell(columns[n], value === null ? "–" : count(value), "number"))))));
  }

  const corrections = ({ corrections: found }) => found.length === 0 ? null : h("section", { class: "panel flush" }, h("h2", {}, "Corrections"),
    table("Corrections", [{ name: "Meter" }, { name: "Hour (UTC)" }, { name: "Quantity", number: true }, { name: "Why" }, { name: "Noted" }, { name: "Charge" }], found.map((one) => h("tr", {},
      h("th", { scope: "row" }, name(one.meter)), cell("Hour (UTC)", hour.format(Date.parse(one.bucket_start))), cell("Quantity", count(one.quantity), "number"),
      cell("Why", one.reason), cell("Noted", hour.format(Date.parse(one.created_at))),
      cell("Charge", CHARGES[one.charge] ?? one.charge)))));

  function draw(rows, drift) {
    const meters = Map.groupBy(rows, (row) => row.meter);
    const tiles = [...meters].map(([meter, found]) => {
      const amounts = found.map((row) => row.quantity);
      const total = SUMS[meter] === false ? Math.max(...amounts) : amounts.reduce((a, b) => a + b, 0);
      return h("div", { class: "tile" }, h("dt", {}, name(meter)), h("dd", {}, count(total), " ", h("small", {}, SUMS[meter] === false ? "at most on a day" : `in ${days} days`)));
    });
    return [tiles.length ? h("dl", { class: "tiles" }, tiles) : h("p", { class: "panel empty" }, "Nothing was metered in this time."),
      drift === null ? null : h("section", { class: "panel stack" }, h("h2", {}, "Reconciliation"), drift.length ? differences(drift) : h("p", {}, badge("ok", "ok", "Agrees"), " What is stored, metered and billed is the same.")),
      [...meters].map(([meter, found]) => h("section", { class: "panel flush" }, h("h2", {}, name(meter)), byDay(meter, found)))];
  }

  function byDay(meter, rows) {
    const most = Math.max(...rows.map((row) => row.quantity), 1);
    const sorted = [...rows].sort((a, b) => (a.bucket_start < b.bucket_start ? 1 : -1));
    return table(`${name(meter)} by day`, [{ name: "Day (UTC)" }, { name: "Quantity", number: true }, { name: "Share of the largest" }], sorted.map((row) => h("tr", {},
      h("th", { scope: "row" }, day.format(Date.parse(row.bucket_start))), cell("Quantity", count(row.quantity), "number"),
      cell("Share", h("meter", { min: 0, max: most, value: row.quantity, "aria-label": `${count(row.quantity)} of at most ${count(most)}` })))));
  }

  const COUNTS = [["Stored", "stored"], ["Metered", "metered"], ["Sent to Stripe", "pushed"], ["Read back", "stripe"], ["Difference", "difference"]];
  const differences = (rows) => [
    table("Differences", [{ name: "Meter" }, { name: "Hour (UTC)" }, ...COUNTS.map(([each]) => ({ name: each, number: true })), { name: "Why" }], rows.slice(0, SHOWN).map((row) => h("tr", {},
      h("th", { scope: "row" }, name(row.meter)), cell("Hour (UTC)", hour.format(Date.parse(row.bucket_start))),
      COUNTS.map(([each, key]) => cell(each, (row[key] ?? null) === null ? "–" : count(row[key]), "number")), cell("Why", row.explanation ?? "")))),
    rows.length > SHOWN ? h("p", { class: "muted" }, `These are the first ${SHOWN} of ${rows.length < MOST ? rows.length : `${MOST} or more`} differences.`) : null];

  feed.follow("usage", { event: soon }, soon, signal);
  signal.addEventListener("abort", () => clearTimeout(due));
  load();
  return { title: "Usage", node: h("div", { class: "stack" }, h("div", { class: "head" }, h("div", {}, h("h1", {}, "Usage"), h("p", { class: "muted" }, "What is metered and billed, by the time of the readings.")), choices("Range", SPANS, days, (value) => { days = value; load(); })), parts.plan, parts.bill, parts.body) };
}

const name = (meter) => capital(meter.replaceAll("_", " "));
