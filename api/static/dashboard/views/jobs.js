// Background work: what is judged or measured for the tenant at this moment, how far it is, and what came of the rest.
import { cell, failure, fill, h, loading, select, table } from "../dom.js";
import { ago, badge, capital, duration, moment } from "../format.js";
import { nowMs } from "../http.js";

const PAGE = 100;
const STATUSES = { queued: ["warn", "pending"], running: ["", "polling"], succeeded: ["ok", "ok"], failed: ["alert", "alert"], cancelled: ["", "stopped"] };
const KINDS = { rule_evaluation: "A rule over stored readings", place_evaluation: "Readings after a change of place", scan_processing: "Measuring a scan" };

/** Where what a job is about can be looked at. */
function target(job) {
  if (job.rule_id) return `#/rules/${encodeURIComponent(job.rule_id)}`;
  if (job.scan_id) return `#/scans/${encodeURIComponent(job.scan_id)}`;
  return job.sensor_id ? `#/sensors/${encodeURIComponent(job.sensor_id)}` : "#/places";
}

export function show({ api, feed, signal }, _parts, query) {
  const list = h("section", { class: "panel flush", "aria-label": "Jobs" }, loading());
  const jobs = new Map(), rows = new Map();
  let kind = Object.hasOwn(KINDS, query.get("kind")) ? query.get("kind") : "";
  let older = null, asked = 0, isLoaded = false;

  /** The newest ones, and from a cursor on older ones. */
  async function load(cursor = null) {
    const mine = ++asked;
    try {
      const page = await api.get("v1/jobs", { kind, limit: PAGE, cursor }, signal);
      if (mine !== asked) return;
      if (cursor || !isLoaded) older = page.next;
      isLoaded = true;
      // What came over the socket meanwhile is newer.
      for (const job of page.items) if (!isNewer(jobs.get(job.job_id), job)) jobs.set(job.job_id, job);
      draw();
    } catch (error) {
      if (!signal.aborted && mine === asked) fill(list, failure(error, () => load(cursor)));
    }
  }

  const isNewer = (known, job) => Boolean(known) && (Boolean(known.finished_at) > Boolean(job.finished_at) || known.attempts > job.attempts || (known.attempts === job.attempts && known.progress > job.progress));

  function take(items) {
    const wanted = items.filter((job) => !kind || job.kind === kind);
    const isNew = wanted.some((job) => !jobs.has(job.job_id));
    for (const job of wanted) jobs.set(job.job_id, job);
    if (isNew) draw();
    else wanted.forEach(renew);
  }

  /** After a break the page may lack what ended meanwhile. */
  function begin(items) {
    take(items);
    load();
  }

  /** Only what changed is drawn anew, so that the focus stays where it is. */
  function renew(job) {
    const old = rows.get(job.job_id);
    if (!old) return;
    const hadFocus = old.contains(document.activeElement), made = row(job);
    old.replaceWith(made);
    if (hadFocus) made.querySelector("a").focus();
  }

  function draw() {
    const focused = list.contains(document.activeElement) ? document.activeElement.closest("tr")?.dataset.job : null;
    rows.clear();
    const sorted = [...jobs.values()].sort((a, b) => (a.created_at < b.created_at ? 1 : -1));
    fill(list, sorted.length ? table("Jobs", ["About", "What", "Status", "Took", "Begun"].map((name) => ({ name })), sorted.map(row)) : h("p", { class: "empty" }, "Nothing yet. A changed rule, a moved sensor or a scan makes work that shows here."),
      older ? h("div", { class: "more" }, h("button", { type: "button", onclick: () => load(older) }, "Show older ones")) : null);
    if (focused) list.querySelector(`tr[data-job="${CSS.escape(focused)}"] a`)?.focus({ preventScroll: true });
  }

  function row(job) {
    const name = job.name || "Unnamed", [tone, shape] = STATUSES[job.status] ?? ["", "info"];
    const bar = job.finished_at ? null : h("progress", { max: 100, value: job.progress, "aria-label": `Progress of ${name}` });
    const made = h("tr", { data: { job: job.job_id } },
      h("th", { scope: "row" }, h("a", { href: target(job) }, name), job.error ? h("p", { class: "wrong" }, job.error) : null),
      cell("What", KINDS[job.kind] ?? job.kind),
      cell("Status", [badge(tone, shape, capital(job.status)), bar, job.attempts > 1 ? h("span", { class: "muted small" }, ` attempt ${job.attempts}`) : null], "bare"),
      cell("Took", job.finished_at && job.started_at ? duration(Date.parse(job.finished_at) - Date.parse(job.started_at)) : "–"),
      cell("Begun", h("span", { title: ago(job.created_at, nowMs()) }, moment(job.created_at))));
    rows.set(job.job_id, made);
    return made;
  }

  const pick = select([["", "Every kind"], ...Object.entries(KINDS)], kind, { "aria-label": "Kind of job", onchange: () => {
    kind = pick.value;
    jobs.clear();
    isLoaded = false;
    load();
  } });
  feed.follow("jobs", { snapshot: begin, event: take }, () => load(), signal);
  load();
  return { title: "Jobs", node: h("div", { class: "stack" },
    h("div", { class: "head" }, h("div", {}, h("h1", {}, "Jobs"), h("p", { class: "muted" }, "What is worked on in the background. Readings and alerts that come in meanwhile do not wait for it.")), h("div", { class: "filters" }, pick)), list) };
}
