// Scans: what was scanned, how far each has come, and new ones, from a file too.
import { announce, cell, complain, failure, field, fill, h, loading, select, table } from "../dom.js";
import { ago, moment } from "../format.js";
import { nowMs } from "../http.js";
import { RUNNING, sizeText, statusOfScan, verdictBadge } from "../scans/words.js";
import { Hearing, goneFrom } from "../scans/list.js";
import { begin, forget, send } from "../scans/upload.js";

const PRIORITIES = [["0", "Normal"], ["10", "High"], ["-10", "Low"]];
// As many as a snapshot has.
const PAGE = 200;

export function show({ api, feed, session, signal, go }) {
  const list = h("section", { class: "panel flush", "aria-label": "Scans" }, loading()), news = h("div", {});
  const rows = new Map();
  const scans = new Map(), hearing = new Hearing();
  let older = null, isLoaded = false;

  /** The newest ones, and from a cursor on older ones. */
  async function load(cursor = null) {
    try {
      const [page, current] = await hearing.during(api.get("v1/scans", { limit: PAGE, cursor }, signal));
      const isFirst = !isLoaded, gone = cursor ? [] : goneFrom(scans.values(), page.items, page.next === null);
      if (cursor || isFirst) older = page.next;
      isLoaded = true;
      fill(news);
      join(current([...page.items, ...gone.map((id) => ({ scan_id: id, status: "erased" }))]));
      if (cursor || isFirst) draw();
    } catch (error) {
      // What is shown stays.
      if (!signal.aborted && (cursor || !isLoaded)) fill(isLoaded ? news : list, failure(error, () => load(cursor)));
    }
  }

  function take(items) {
    hearing.heard(items);
    join(items);
  }

  /** Only what changed is drawn anew, so that the focus stays where it is. */
  function join(found) {
    const items = found.filter((item) => JSON.stringify(item) !== JSON.stringify(scans.get(item.scan_id)));
    const isOther = items.some((item) => scans.has(item.scan_id) === (item.status === "erased"));
    for (const item of items) {
      if (item.status === "erased") scans.delete(item.scan_id);
      else scans.set(item.scan_id, item);
    }
    if (isOther) return draw();
    for (const item of items) renew(item);
  }

  function renew(scan) {
    const old = rows.get(scan.scan_id);
    if (!old) return;
    const hadFocus = old.contains(document.activeElement), made = row(scan);
    old.replaceWith(made);
    if (hadFocus) made.querySelector("a").focus({ preventScroll: true });
  }

  function draw() {
    const active = list.contains(document.activeElement) ? document.activeElement : null;
    const at = active?.closest("[data-scan]")?.dataset.scan, isAtMore = Boolean(active?.closest(".more"));
    rows.clear();
    const sorted = [...scans.values()].sort((a, b) => (a.created_at < b.created_at ? 1 : -1));
    fill(list, sorted.length ? table("Scans", [{ name: "Scan" }, { name: "Status" }, { name: "Length × width × height" }, { name: "Verdict" }, { name: "Device" }, { name: "Created" }], sorted.map(row)) : h("p", { class: "empty" }, "No scans yet. A device that publishes frames makes one, or begin with a file here."),
      older ? h("div", { class: "more" }, h("button", { type: "button", onclick: () => load(older) }, "Show older ones")) : null);
    (isAtMore ? list.querySelector(".more button") : rows.get(at)?.querySelector("a"))?.focus({ preventScroll: true });
  }

  function row(scan) {
    const made = h("tr", { data: { scan: scan.scan_id } },
      h("th", { scope: "row" }, h("a", { href: `#/scans/${encodeURIComponent(scan.scan_id)}` }, scan.name || "Unnamed scan"), h("div", { class: "muted small" }, h("code", {}, scan.scan_id))),
      cell("Status", [statusOfScan(scan), RUNNING.includes(scan.status) ? h("progress", { max: 100, value: scan.progress ?? 0, "aria-label": `Progress of ${scan.name || scan.scan_id}` }) : null], "bare"),
      cell("Size", sizeText(scan)), cell("Verdict", verdictBadge(scan.verdict), scan.verdict ? "bare" : null),
      cell("Device", feed.devices.get(scan.device_id)?.name ?? scan.device_id ?? "–"), cell("Created", h("span", { title: ago(scan.created_at, nowMs()) }, moment(scan.created_at))));
    rows.set(scan.scan_id, made);
    return made;
  }

  feed.follow("scans", { snapshot: take, event: take, lost: () => load() }, () => load(), signal);
  load();
  return { title: "Scans", node: h("div", { class: "stack" }, h("div", {}, h("h1", {}, "Scans"), h("p", { class: "muted" }, "Rooms, from the frames of phones, depth cameras and laser scanners, or from a point cloud's file.")), session.may("scans:write") ? newScan({ api, feed, go, signal }) : null, list, news) };
}

function newScan({ api, feed, go, signal }) {
  const name = h("input", { required: true, maxlength: 200, autocomplete: "off" });
  const device = select([["", "None: files only"], ...[...feed.devices.values()].map((each) => [each.device_id, each.name])], "");
  const priority = select(PRIORITIES, "0");
  const file = h("input", { type: "file", accept: ".ply,.pcd,.json" });
  const button = h("button", { class: "primary" }, "Create scan");
  const progress = h("p", { class: "muted", role: "status" }), news = h("div", {});
  let scanId = null, upload = null;

  async function create() {
    const body = { name: name.value.trim(), priority: Number(priority.value), ...(device.value ? { device_id: device.value } : {}) };
    scanId ??= (await api.post("v1/scans", body)).scan_id;
    const chosen = file.files[0];
    if (chosen) await give(chosen);
    if (signal.aborted) return;
    announce("The scan was created.");
    go(`#/scans/${encodeURIComponent(scanId)}`);
  }

  /** Another try goes on with what the server has of the same file; what it has of another is forgotten. */
  async function give(chosen) {
    const isSame = ["name", "size", "lastModified"].every((each) => upload?.file[each] === chosen[each]);
    if (upload && !isSame) await forget(api, scanId, upload.fileId).catch(() => {});
    if (!isSame) upload = { file: chosen, fileId: await begin(api, scanId, chosen) };
    await send(api, scanId, upload.fileId, chosen, { signal, told: (bytes) => { progress.textContent = `${Math.floor((100 * bytes) / chosen.size)} % of the file is there.`; } });
    await api.post(`v1/scans/${encodeURIComponent(scanId)}/complete`);
  }

  return h("form", { class: "panel stack", onsubmit: async (event) => {
    event.preventDefault();
    button.disabled = true;
    complain(name, "");
    fill(news);
    try {
      await create();
    } catch (error) {
      if (signal.aborted) return;
      if (error.status === 422) {
        complain(name, error.message);
        name.focus();
      } else fill(news, failure(error, null));
    }
    button.disabled = false;
  } }, h("h2", {}, "New scan"), h("div", { class: "fields" }, field("Name of the new scan", name), field("Device", device, { hint: "Frames of this device only may join it." }), field("Priority", priority), field("File", file, { hint: "Optional: a point cloud (PLY or PCD, up to 2 GB) or RoomPlan's JSON; goes on where it was cut." })),
  h("div", { class: "row" }, button, progress), news);
}
