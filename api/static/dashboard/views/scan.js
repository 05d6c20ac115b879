// One scan: how it stands, its plan, its measurements and what they are worth, the cloud and the mesh, files to take away.
import { announce, asked, cell, confirmed, failure, field, fill, h, loading, table } from "../dom.js";
import { capital, count, duration, moment } from "../format.js";
import { kindOfOpening, nameOfOpening, planOf, wallsOf } from "../scans/plan.js";
import { Model } from "../scans/model.js";
import { FORMATS, QUANTITIES, RUNNING, ceilingText, fileSize, measured, partTexts, reasonText, statusOfScan, thing, verdictBadge, verdictText, warningText } from "../scans/words.js";
import { begin, send } from "../scans/upload.js";

const PLACE_MS = 5_000;
const WAITING = ["queued", "processing"];

export function show(context, [scanId]) {
  const { api, feed, session, signal, go } = context;
  const mayWrite = session.may("scans:write");
  const path = `v1/scans/${encodeURIComponent(scanId)}`;
  const heading = h("h1", {}, "Scan"), state = h("div", { class: "row" }), news = h("div", {}), body = h("div", { class: "stack" }, loading());
  const files = filesPanel(context, path, scanId);
  const model = new Model(api, path, signal);
  const progress = h("progress", { max: 100, "aria-label": "Progress" }), words = h("span", { class: "muted small" });
  // These stay where they are while numbers change: a canvas that is moved lets go of the pointer that turns it.
  const top = h("div", { class: "stack" }), drawing = h("div", {}), tables = h("div", { class: "stack" });
  const whole = h("div", { class: "stack" }, top,
    h("div", { class: "halves" }, h("section", { class: "panel stack" }, h("h2", {}, "Plan"), drawing), h("section", { class: "panel stack" }, h("h2", {}, "Cloud and mesh"), model.element)),
    tables, files.element);
  let shown = "", status = "", heard = 0, place = {};

  async function load() {
    try {
      await answered(api.get(path, {}, signal));
    } catch (error) {
      if (signal.aborted) return;
      if (shown && error.status === 404) left();
      // What is shown stays: the link's state says from when it is, and it is asked for again.
      else if (!shown) fill(body, failure(error, load));
    }
  }

  /** Takes an answer, unless something was heard while it was on its way, which is newer. */
  async function answered(request) {
    const before = heard;
    const scan = await request;
    if (heard === before) take([scan]);
  }

  function take(items) {
    const scan = items.findLast((item) => item.scan_id === scanId);
    if (!scan || signal.aborted) return;
    heard++;
    if (scan.status === "erased") return left();
    // Events do not tell its place in the queue, which moves as others are done: that is asked for.
    if (scan.queue_position !== undefined || scan.status !== status) place = { queue_position: scan.queue_position, estimated_seconds: scan.estimated_seconds };
    // Progress moves often, the rest rarely: what is the same stays, and with it the focus.
    drawState({ ...scan, ...place });
    const text = JSON.stringify({ ...scan, progress: null, queue_position: null, estimated_seconds: null });
    if (text !== shown) drawBody(scan);
    shown = text;
  }

  /** Whoever erased it, here or elsewhere: there is nothing left to look at. */
  function left() {
    announce("The scan was erased.");
    go("#/scans");
  }

  async function rename() {
    const name = await asked("Rename this scan", "Name", heading.dataset.name, "Rename", 200);
    if (name) await attempt(() => answered(api.patch(path, { name })));
  }

  async function erase() {
    const text = "Its frames, files and measurements are gone for good, for everybody. What was counted of it stays on the bill.";
    if (await confirmed("Erase this scan?", text, "Erase")) await attempt(() => api.delete(path).then(left));
  }

  async function attempt(work) {
    fill(news);
    await work().catch((error) => fill(news, failure(error, null)));
  }

  /** Progress moves in place: a button that has the focus keeps it. */
  function drawState(scan) {
    heading.textContent = scan.name || "Unnamed scan";
    heading.dataset.name = scan.name;
    document.title = `${heading.textContent} – Weir`;
    progress.value = scan.progress ?? 0;
    words.textContent = standing(scan);
    if (scan.status === status) return;
    if (status) announce(`The scan is ${scan.status}.`);
    status = scan.status;
    const runs = RUNNING.includes(status);
    fill(state, statusOfScan(scan), runs ? progress : null, words,
      mayWrite && status === "receiving" ? act("Complete", "complete", null) : null,
      mayWrite && runs ? act("Cancel", "cancel", "Nothing more of it is processed. Its frames and files stay.") : null,
      mayWrite && status === "failed" ? act("Try again", "retry", null) : null,
      mayWrite ? h("button", { type: "button", class: "small", onclick: rename }, "Rename") : null,
      session.may("organization:write") ? h("button", { type: "button", class: "small danger", onclick: erase }, "Erase") : null);
  }

  function act(name, verb, question) {
    return h("button", { type: "button", class: "small", onclick: async () => {
      if (question && !(await confirmed(`${name} this scan?`, question, `${name} scan`))) return;
      await attempt(() => answered(api.post(`${path}/${verb}`)));
    } }, name);
  }

  function drawBody(scan) {
    const runs = RUNNING.includes(scan.status);
    fill(top,
      scan.error ? h("p", { class: "notice", "data-tone": "alert" }, scan.error) : null,
      verdictPanel(scan),
      h("dl", { class: "tiles" }, QUANTITIES.map(([key, label, unit]) => tile(label, scan.verdict ? measured(scan.room_dimensions?.[key], scan.uncertainty?.[key], unit) : { value: "–", spread: runs ? "not yet" : "" }))));
    fill(drawing, planOf(scan) ?? h("p", { class: "empty" }, runs ? "There is no plan yet: the walls are not seen well enough." : scan.verdict ? "There is no plan: the walls were not seen well enough." : "There is no plan."));
    const found = walls(scan), others = [openings(scan), objects(scan)];
    fill(tables, h("div", { class: "halves" }, found ? [found, h("div", { class: "stack" }, others)] : others), roomPlan(scan.roomplan), frames(scan), downloads(scan));
    if (whole.parentNode !== body) fill(body, whole);
    model.follow(scan);
    files.follow(scan);
  }

  function downloads(scan) {
    const known = scan.model?.formats ?? [];
    const isDone = ["completed", "incomplete"].includes(scan.status);
    const buttons = FORMATS.filter(([format]) => known.includes(format)).map(([format, text]) => h("button", { type: "button", onclick: () => download(`${path}/export?format=${format}`, `${scan.name || scanId}.${format}`) }, text));
    return h("section", { class: "panel stack" }, h("h2", {}, "Downloads"), isDone && buttons.length ? h("div", { class: "row" }, buttons) : h("p", { class: "muted" }, RUNNING.includes(scan.status) ? "They are there when the scan is processed." : "There are none."));
  }

  async function download(from, name) {
    fill(news);
    try {
      await save(await api.raw("GET", from, { signal }), name);
    } catch (error) {
      if (!signal.aborted) fill(news, failure(error, null));
    }
  }

  files.download = download;
  signal.addEventListener("abort", () => model.dispose());
  const asking = setInterval(() => WAITING.includes(status) && feed.link === "live" && load(), PLACE_MS);
  signal.addEventListener("abort", () => clearInterval(asking));
  feed.follow("scans", { snapshot: take, event: take, lost: load }, load, signal);
  load();
  return { title: "Scan", node: h("div", { class: "stack" }, h("div", {}, h("p", { class: "crumbs" }, h("a", { href: "#/scans" }, "Scans")), heading), state, news, body) };
}

function standing(scan) {
  const parts = [
    RUNNING.includes(scan.status) ? `${scan.progress ?? 0} %` : null,
    scan.status === "queued" && scan.queue_position ? `number ${scan.queue_position} in the queue` : null,
    RUNNING.includes(scan.status) && scan.estimated_seconds ? `about ${duration(scan.estimated_seconds * 1000)} to go` : null,
    scan.processing?.seconds ? `processed in ${scan.processing.seconds.toFixed(1)} s` : null,
  ];
  return parts.filter(Boolean).join(", ");
}

const tile = (label, { value, spread }) => h("div", { class: "tile" }, h("dt", {}, label), h("dd", {}, value, " ", h("small", {}, spread)));

function verdictPanel(scan) {
  const parts = partTexts(scan.missing_parts ?? []), ceiling = ceilingText(scan.ceiling), warnings = scan.warnings ?? [];
  if (!scan.verdict) return h("p", { class: "panel muted" }, RUNNING.includes(scan.status) ? "Nothing is measured yet." : "Nothing was measured.");
  return h("section", { class: "panel stack" }, h("h2", {}, "How far this can be trusted"), h("p", {}, verdictBadge(scan.verdict), " ", verdictText(scan.verdict)),
    h("p", { class: "muted small" }, "± is one standard deviation: the truth lies within twice of it in 19 of 20 cases."),
    ceiling ? h("p", {}, ceiling) : null,
    parts.length ? h("div", {}, h("h3", {}, "Scan again"), h("ul", { class: "dots" }, parts.map((part) => h("li", {}, part)))) : null,
    warnings.length ? h("div", {}, h("h3", {}, "What went wrong"), h("ul", { class: "dots" }, warnings.map((each) => h("li", {}, warningText(each))))) : null);
}

const metres = (value) => (value === null || value === undefined ? "–" : `${value.toFixed(2)} m`);

function walls(scan) {
  const rows = wallsOf(scan).map((each) => {
    const { value, spread } = measured(each.length, each.sigma, "m");
    return h("tr", {}, h("th", { scope: "row" }, `Wall ${each.number}`), cell("Length", [value, " ", h("span", { class: "muted" }, spread)], "number"), cell("Seen", each.seen === null ? "–" : `${Math.round(each.seen * 100)} %`, "number"));
  });
  return rows.length ? h("section", { class: "panel flush" }, h("h2", {}, "Walls"), table("Walls", [{ name: "Wall" }, { name: "Length", number: true }, { name: "Seen", number: true }], rows)) : null;
}

function openings(scan) {
  const rows = (scan.openings ?? []).map((each, n) => h("tr", {}, h("th", { scope: "row" }, `${nameOfOpening(each, n)} ${kindOfOpening(each.kind)}`), cell("Wall", String(each.wall + 1)), cell("Width", metres(each.width), "number"), cell("Height", metres(each.height), "number"), cell("Sill", metres(each.sill), "number")));
  return h("section", { class: "panel flush" }, h("h2", {}, "Doors, windows, passages"), rows.length ? table("Openings", [{ name: "Opening" }, { name: "Wall" }, { name: "Width", number: true }, { name: "Height", number: true }, { name: "Sill", number: true }], rows) : h("p", { class: "empty" }, "None found."));
}

function objects(scan) {
  const rows = (scan.objects ?? []).map((each, n) => h("tr", {}, h("th", { scope: "row" }, each.class ? thing(each.class) : `Object ${n + 1}`, each.source === "roomplan" ? h("div", { class: "muted small" }, "seen by RoomPlan only") : null), cell("Length", metres(each.size[0]), "number"), cell("Width", metres(each.size[1]), "number"), cell("Height", metres(each.size[2]), "number")));
  return h("section", { class: "panel flush" }, h("h2", {}, "Objects"), rows.length ? table("Objects", [{ name: "Object" }, { name: "Length", number: true }, { name: "Width", number: true }, { name: "Height", number: true }], rows) : h("p", { class: "empty" }, "None found."));
}

/** What RoomPlan's numbers are beside ours. */
function roomPlan(check) {
  if (!check) return null;
  const words = check.is_source ? "No frames came: every number is RoomPlan's own." : check.placement === "none" ? "It could not be laid over the measured room: only sizes are compared." : "Its labels are taken, its numbers are compared with the measured ones.";
  const rows = check.differences.map((each) => h("tr", {}, h("th", { scope: "row" }, capital(each.what.replace(/^wall (\d+)/, (_, n) => `wall ${Number(n) + 1}`))), cell("Measured", each.measured.toFixed(3), "number"), cell("RoomPlan", each.roomplan.toFixed(3), "number"), cell("Difference", `${each.difference.toFixed(3).replace("-", "−")}${each.agrees ? "" : ", too much"}`, "number")));
  return h("section", { class: "panel flush" }, h("h2", {}, "RoomPlan"), h("p", { class: "panel-head muted" }, words), rows.length ? table("RoomPlan beside the measured room", [{ name: "What" }, { name: "Measured", number: true }, { name: "RoomPlan", number: true }, { name: "Difference", number: true }], rows) : null);
}

function frames({ frames: found = {} }) {
  const reasons = Map.groupBy(found.rejected ?? [], (each) => each.reason);
  const rows = [...reasons].map(([reason, each]) => h("tr", {}, h("th", { scope: "row" }, reasonText(reason)), cell("Frames", count(each.length), "number"), cell("Which", some(each.map((one) => one.seq)))));
  const missing = found.missing ?? [];
  return h("section", { class: "panel flush" }, h("h2", {}, "Frames"),
    h("p", { class: "panel-head muted" }, `${count(found.received ?? 0)} received, ${count(found.accepted ?? 0)} used${missing.length ? `, ${count(missing.length)} missing: ${some(missing)}` : ""}.`),
    rows.length ? table("Frames that were not used", [{ name: "Not used, because" }, { name: "Frames", number: true }, { name: "Which" }], rows) : null);
}

const some = (numbers) => (numbers.length > 12 ? `${numbers.slice(0, 12).join(", ")} and more` : numbers.join(", "));

async function save(response, name) {
  const url = URL.createObjectURL(await response.blob());
  const link = h("a", { href: url, download: name.replace(/[/\\:*?"<>|\p{Cc}]/gu, "_") });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** The scan's files: those there, those on their way, and another one. */
function filesPanel({ api, session, signal }, path, scanId) {
  const mayWrite = session.may("scans:write");
  const list = h("div", {}), progress = h("p", { class: "muted", role: "status" });
  const chosen = h("input", { type: "file", accept: ".ply,.pcd,.json" });
  const button = h("button", {}, "Upload");
  const add = h("form", { class: "row panel-head", onsubmit: async (event) => {
    event.preventDefault();
    const file = chosen.files[0];
    if (!file) return;
    button.disabled = true;
    await begin(api, scanId, file).then((fileId) => forward(fileId, file), told);
    button.disabled = false;
  } }, h("div", { class: "grow" }, field("Add a file", chosen, { hint: "PLY or PCD, up to 2 GB, or RoomPlan's JSON." })), button, progress);
  let isReceiving = false, drawn = "";
  const panel = { element: h("section", { class: "panel flush" }, h("h2", {}, "Files"), list, add), follow, download: null };

  const told = (error) => { if (!signal.aborted) progress.textContent = error.message; };

  async function forward(fileId, file) {
    try {
      await send(api, scanId, fileId, file, { signal, told: (bytes) => { progress.textContent = `${Math.floor((100 * bytes) / file.size)} % is there.`; } });
      progress.textContent = "The file is there.";
    } catch (error) {
      told(error);
    }
    load();
  }

  /** An upload that was cut goes on with the same file, also after the page was left. */
  function goOn(file) {
    const picker = h("input", { type: "file", hidden: true, onchange: () => {
      const again = picker.files[0];
      if (again.size !== file.bytes) progress.textContent = `That file has ${fileSize(again.size)}, the upload is of ${fileSize(file.bytes)}: choose the same one.`;
      else forward(file.file_id, again);
    } });
    picker.click();
  }

  function row(file) {
    const button = !file.complete && (!mayWrite || !isReceiving || file.expires_at === null) ? null : file.complete
      ? h("button", { type: "button", class: "small", "aria-label": `Download ${file.name}`, onclick: () => panel.download(`${path}/files/${encodeURIComponent(file.file_id)}`, file.name) }, "Download")
      : h("button", { type: "button", class: "small", "aria-label": `Go on with ${file.name}`, onclick: () => goOn(file) }, "Go on");
    return h("tr", {}, h("th", { scope: "row" }, file.name || file.file_id, file.error ? h("div", { class: "muted small" }, file.error) : null), cell("Size", file.bytes === null ? "–" : fileSize(file.bytes), "number"), cell("There", file.complete ? "all" : fileSize(file.received), "number"), cell("Began", moment(file.created_at)), cell("", button, "actions"));
  }

  /** Files join a scan while it is being received. */
  function follow(scan) {
    isReceiving = scan.status === "receiving";
    add.hidden = !mayWrite || !isReceiving;
    load();
  }

  async function load() {
    try {
      const files = await api.all(`${path}/files`, {}, { most: 200, signal });
      const text = JSON.stringify([files, isReceiving]);
      if (text === drawn) return;
      drawn = text;
      fill(list, files.length ? table("Files of this scan", [{ name: "File" }, { name: "Size", number: true }, { name: "There", number: true }, { name: "Began" }, { name: "" }], files.map(row)) : h("p", { class: "panel-head muted" }, "None."));
    } catch (error) {
      drawn = "";
      if (!signal.aborted) fill(list, failure(error, load));
    }
  }

  return panel;
}
