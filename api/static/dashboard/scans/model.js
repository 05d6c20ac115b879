// What a scan looks like in space: the thinned cloud while it runs, then the mesh or the cleaned cloud, whichever is chosen.
import { choices, failure, fill, h } from "../dom.js";
import { count } from "../format.js";
import { parsePly } from "./ply.js";
import { Scene } from "./scene.js";
import { RUNNING, fileSize } from "./words.js";

const LARGE_BYTES = 60e6;
const PREVIEW = "preview.ply";
const KINDS = [["ply", "Mesh"], ["points.ply", "Cloud"]];

export class Model {
  #api;
  #path;
  #signal;
  #scene = null;
  #kind = "ply";
  #status = "";
  #formats = [];
  #shown = null;
  #asking = null;
  #again = false;
  #words = h("p", { class: "muted small", role: "status" });
  #stage = h("div", {});
  #choice = h("div", { class: "row" });
  element;

  constructor(api, path, signal) {
    this.#api = api;
    this.#path = path;
    this.#signal = signal;
    this.element = h("div", { class: "stack" }, this.#choice, this.#stage, this.#words);
  }

  /** Shows what there is of a scan in this state. */
  follow(scan) {
    const isDone = ["completed", "incomplete"].includes(scan.status);
    const wasDone = ["completed", "incomplete"].includes(this.#status);
    this.#status = scan.status;
    this.#formats = scan.model?.formats ?? [];
    if (isDone && !wasDone) fill(this.#choice, choices("What is shown", KINDS, this.#kind, (kind) => { this.#kind = kind; this.#load(); }));
    if (!isDone && !RUNNING.includes(scan.status)) this.#empty();
    else if (!isDone || !wasDone) this.#load();
  }

  dispose() {
    this.#scene?.dispose();
  }

  /** A preview is of a scan that runs: of one that failed or was stopped nothing stays. */
  #empty() {
    this.#again = false;
    this.dispose();
    this.#scene = this.#shown = null;
    fill(this.#stage);
    this.#tell("There is nothing to look at.");
  }

  /** One request at a time; what changed meanwhile makes one more. */
  #load() {
    this.#again = true;
    this.#asking ??= this.#run().finally(() => { this.#asking = null; });
  }

  async #run() {
    while (this.#again && !this.#signal.aborted) {
      this.#again = false;
      const format = RUNNING.includes(this.#status) ? PREVIEW : this.#kind;
      if (!this.#formats.includes(format)) {
        this.#tell(format === PREVIEW ? "Nothing to look at yet." : "Too little was seen for this model.");
        continue;
      }
      try {
        const what = await this.#fetched(format);
        if (format !== PREVIEW || RUNNING.includes(this.#status)) this.#draw(format, what);
      } catch (error) {
        if (!this.#signal.aborted) this.#refused(format, error);
      }
    }
  }

  async #fetched(format) {
    const response = await this.#api.raw("GET", `${this.#path}/export?format=${format}`, { signal: this.#signal });
    const bytes = Number(response.headers.get("content-length"));
    if (bytes > LARGE_BYTES) {
      await response.body.cancel();
      throw new Error(`It has ${fileSize(bytes)}, too much for this page; download it below.`);
    }
    return parsePly(await response.arrayBuffer());
  }

  #draw(format, what) {
    if (!this.#scene) {
      this.#scene = new Scene("The scan in space");
      fill(this.#stage, this.#scene.element);
    }
    const amount = what.triangles.length ? `${count(what.triangles.length / 3)} triangles` : `${count(what.positions.length / 3)} points`;
    this.#scene.label = `The scan in space: ${amount}. Arrow keys turn it, plus and minus come nearer and go farther.`;
    this.#scene.show(what, this.#shown === null || (this.#shown === PREVIEW) !== (format === PREVIEW));
    this.#shown = format;
    this.#tell(`${amount}${format === PREVIEW ? ", thinned, while the scan runs" : ""}.`);
  }

  #refused(format, error) {
    // A preview is gone once the final result is there, which the next event tells.
    if (error.status === 409 && format === PREVIEW) this.#tell("Nothing to look at yet.");
    else fill(this.#words, failure(error, null));
  }

  #tell(text) {
    this.#words.textContent = text;
  }
}
