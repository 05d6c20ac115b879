// The list of alerts, newest first, with acknowledging at hand.
import { announce, failure, fill, h, loading, select } from "../dom.js";
import { alertTable } from "../episodes.js";
import { SEVERITIES, capital } from "../format.js";

const PAGE = 100;
const STATUSES = [["open", "Open"], ["firing", "Firing"], ["pending", "Pending"], ["resolved", "Resolved"], ["retracted", "Retracted"], ["all", "All"]];

export function show({ api, feed, session, signal }, _parts, query) {
  let status = query.get("status") ?? "open", severity = query.get("severity") ?? "";
  let alerts = [], next = null, asked = 0;
  const list = h("section", { class: "panel flush", "aria-label": "Alerts" }, loading());

  async function load() {
    const mine = ++asked;
    try {
      // The API selects one status; what is open has two.
      const wanted = status === "open" ? ["firing", "pending"] : [status === "all" ? null : status];
      const pages = await Promise.all(wanted.map((each) => api.get("v1/alerts", { status: each, severity, limit: PAGE }, signal)));
      if (mine !== asked) return;
      alerts = pages.flatMap((page) => page.items).sort((a, b) => (a.started_at < b.started_at ? 1 : -1));
      next = pages.length === 1 ? pages[0].next : null;
      draw(pages.some((page) => page.next) && pages.length > 1);
    } catch (error) {
      if (!signal.aborted && mine === asked) fill(list, failure(error, load));
    }
  }

  async function more(event) {
    event.currentTarget.disabled = true;
    const page = await api.get("v1/alerts", { cursor: next, limit: PAGE }, signal);
    alerts.push(...page.items);
    next = page.next;
    draw();
  }

  function draw(isCut = false) {
    const hadFocus = list.contains(document.activeElement) ? document.activeElement.closest("tr")?.dataset.alert : null;
    fill(list, alerts.length ? alertTable("Alerts", alerts, feed, session.may("alerts:write") ? acknowledge : null) : h("p", { class: "empty" }, status === "open" ? "No open alerts." : "None."),
      next ? h("p", { class: "more" }, h("button", { type: "button", onclick: more }, "Show more")) : null,
      isCut ? h("p", { class: "more muted" }, `The newest ${PAGE} of each status are shown; choose one status to see more.`) : null);
    // Redrawing must not lose the place of somebody on the keyboard.
    if (hadFocus) list.querySelector(`tr[data-alert="${CSS.escape(hadFocus)}"] a`)?.focus();
  }

  async function acknowledge(alert, button) {
    button.disabled = true;
    try {
      const after = await api.post(`v1/alerts/${encodeURIComponent(alert.alert_id)}/acknowledge`);
      alerts = alerts.map((each) => (each.alert_id === after.alert_id ? after : each));
      feed.takeAlert(after);
      draw();
      announce("Acknowledged.");
    } catch (error) {
      button.disabled = false;
      announce(error.message, true);
      list.prepend(failure(error, null));
    }
  }

  let waiting = null;
  feed.addEventListener("alerts", () => { waiting ??= setTimeout(() => { waiting = null; if (!signal.aborted) load(); }, 300); }, { signal });
  feed.addEventListener("places", () => alerts.length && draw(), { signal });
  const pick = (name, options, value, chosen) => select(options, value, { "aria-label": name, onchange: (event) => { chosen(event.currentTarget.value); keep(); load(); } });
  const keep = () => history.replaceState(null, "", `#/alerts?${new URLSearchParams({ status, ...(severity ? { severity } : {}) })}`);
  load();
  return { title: "Alerts", node: h("div", { class: "stack" },
    h("div", { class: "head" }, h("h1", {}, "Alerts"), h("div", { class: "filters" },
      pick("Status", STATUSES, status, (value) => { status = value; }),
      pick("Severity", [["", "Any severity"], ...SEVERITIES.map((each) => [each, capital(each)])], severity, (value) => { severity = value; }))), list) };
}
