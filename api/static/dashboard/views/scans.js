// Scans: what was scanned, how far each has come, and new ones, from a file too.
import { announce, cell, complain, failure, field, fill, h, loading, select, table } from "../dom.js";
import { ago, moment } from "../format.js";
import { nowMs } from "../http.js";
import { RUNNING, sizeText, statusOfScan, verdictBadge } from "../scans/words.js";
import { begin, send } from "../scans/upload.js";

const PRIORITIES = [["0", "Normal"], ["10", "High"], ["-10", "Low"]];
const PAGE = 100;

export function show({ api, feed, session, signal, go }) {
  const list = h("section", { class: "panel flush", "aria-label": "Scans" }, loading());
  const rows = new Map();
  const scans = new Map();
  let older = null, isLoaded = false;

  /** The newest ones, and from a cursor on older ones. */
  async function load(cursor = null) {
    try {
      const page = await api.get("v1/scans", { limit: PAGE, cursor }, signal);
      if (cursor || !isLoaded) older = page.next;
      isLoaded = true;
      for (const scan of page.items) scans.set(scan.scan_id, scan);
      draw();
    } catch (error) {
      if (!signal.aborted) fill(list, failure(error, () => load(cursor)));
    }
  }

  /** Only what changed is drawn anew, so that the focus stays where it is. */
  function take(items) {
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
    if (hadFocus) made.querySelector("a").focus();
  }

  function draw() {
    rows.clear();
    const sorted = [...scans.values()].sort((a, b) => (a.created_at < b.created_at ? 1 : -1));
    fill(list, sorted.length ? table("Scans", [{ name: "Scan" }, { name: "Status" }, { name: "Length × width × height" }, { name: "Verdict" }, { name: "Device" }, { name: "Created" }], sorted.map(row)) : h("p", { class: "empty" }, "No scans yet. A device that publishes frames makes one, or begin with a file here."),
      older ? h("div", { class: "more" }, h("button", { type: "button", onclick: () => load(older) }, "Show older ones")) : null);
  }

  function row(scan) {
    const made = h("tr", { data: { scan: scan.scan_id } },
      h("th", { scope: "row" }, h("a", { href: `#/scans/${encodeURIComponent(scan.scan_id)}` }, scan.name || "Unnamed scan"), h("div", { class: "muted small" }, h("code", {}, scan.scan_id))),
      cell("Status", [statusOfScan(scan), RUNNING.includes(scan.status) ? h("progress", { max: 100, value: scan.progress ?? 0, "aria-label": `Progress of ${scan.name || scan.scan_id}` }) : null], "bare"),
      cell("Size", sizeText(scan)), cell("Verdict", verdictBadge(scan.verdict), "bare"),
      cell("Device", feed.devices.get(scan.device_id)?.name ?? scan.device_id ?? "–"), cell("Created", h("span", { title: ago(scan.created_at, nowMs()) }, moment(scan.created_at))));
    rows.set(scan.scan_id, made);
    return made;
  }

  feed.follow("scans", { snapshot: take, event: take }, () => load(), signal);
  load();
  return { title: "Scans", node: h("div", { class: "stack" }, h("div", {}, h("h1", {}, "Scans"), h("p", { class: "muted" }, "Rooms, from the frames of phones, depth cameras and laser scanners, or from a point cloud's file.")), session.may("scans:write") ? newScan({ api, feed, go, signal }) : null, list) };
}

function newScan({ api, feed, go, signal }) {
  const name = h("input", { required: true, maxlength: 200, autocomplete: "off" });
  const device = select([["", "None: files only"], ...[...feed.devices.values()].map((each) => [each.device_id, each.name])], "");
  const priority = select(PRIORITIES, "0");
  const file = h("input", { type: "file", accept: ".ply,.pcd,.json" });
  const button = h("button", { class: "primary" }, "Create scan");
  const progress = h("p", { class: "muted", role: "status" });
  let scanId = null;

  async function create() {
    const body = { name: name.value.trim(), priority: Number(priority.value), ...(device.value ? { device_id: device.value } : {}) };
    scanId ??= (await api.post("v1/scans", body)).scan_id;
    const chosen = file.files[0];
    if (chosen) {
      const fileId = await begin(api, scanId, chosen);
      await send(api, scanId, fileId, chosen, { signal, told: (bytes) => { progress.textContent = `${Math.floor((100 * bytes) / chosen.size)} % of the file is there.`; } });
      await api.post(`v1/scans/${encodeURIComponent(scanId)}/complete`);
    }
    announce("The scan was created.");
    go(`#/scans/${encodeURIComponent(scanId)}`);
  }

  return h("form", { class: "panel stack", onsubmit: async (event) => {
    event.preventDefault();
    button.disabled = true;
    complain(name, "");
    try {
      await create();
    } catch (error) {
      if (signal.aborted) return;
      complain(name, error.message);
      name.focus();
    }
    button.disabled = false;
  } }, h("h2", {}, "New scan"), h("div", { class: "fields" }, field("Name of the new scan", name), field("Device", device, { hint: "Frames of this device only may join it." }), field("Priority", priority), field("File", file, { hint: "Optional: a point cloud (PLY or PCD, up to 2 GB) or RoomPlan's JSON; goes on where it was cut." })),
  h("div", { class: "row" }, button, progress));
}
