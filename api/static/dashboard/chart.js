// Charts of readings: a line, the band between minimum and maximum, bounds of rules, episodes as shaded spans with a name.
//
// Plotly comes from the server and only when a chart is drawn. Its texts never hold markup: <b> would need inline styles.
import { h, s } from "./dom.js";
import { clockTime, number, unitSign } from "./format.js";

let loadingPlotly = null;

function plotly() {
  loadingPlotly ??= new Promise((resolve, reject) => {
    const script = h("script", { src: document.documentElement.dataset.plotly });
    script.addEventListener("load", () => resolve(globalThis.Plotly));
    script.addEventListener("error", () => {
      loadingPlotly = null;
      script.remove();
      reject(new Error("The chart's program could not be loaded; reload the page when the server is back."));
    });
    document.head.append(script);
  });
  return loadingPlotly;
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** Plotly shows times as if they were UTC; people want their own clock's. */
const local = (t) => t - new Date(t).getTimezoneOffset() * 60_000;

/** What is missing is drawn as missing: the line breaks between neighbours three times the usual distance apart. */
export function withGaps(points) {
  if (points.length < 3) return points;
  const distances = points.slice(1).map((point, index) => point.t - points[index].t).sort((a, b) => a - b);
  const limit = 3 * Math.max(distances[Math.floor(distances.length / 2)], 1000);
  const shown = [];
  for (const point of points) {
    const before = shown.at(-1);
    if (before && point.t - before.t > limit) shown.push({ t: before.t + 1, value: null, low: null, high: null });
    shown.push(point);
  }
  return shown;
}

export class Chart {
  #element;
  #what = null;
  #drawing = null;
  #dirty = false;
  #ended = false;

  /** `label` says what it shows to those who do not see it. */
  constructor(label, low = false) {
    this.#element = h("div", { class: `chart${low ? " low" : ""}`, role: "img", "aria-label": label });
    addEventListener("weir-theme", this.#again);
  }

  get element() {
    return this.#element;
  }

  set label(text) {
    this.#element.setAttribute("aria-label", text);
  }

  /**
   * Draws; calls while it draws are joined into one more.
   * `what`: points [{t, value, low?, high?}], start, end (epoch ms), unit, bounds [{value, name}],
   * episodes [{start, end, name, tone}], key (a new one forgets the zoom).
   */
  draw(what) {
    this.#what = what;
    this.#dirty = true;
    this.#drawing ??= this.#run().finally(() => { this.#drawing = null; });
    return this.#drawing;
  }

  dispose() {
    this.#ended = true;
    removeEventListener("weir-theme", this.#again);
    globalThis.Plotly?.purge(this.#element);
  }

  #again = () => this.#what && this.draw(this.#what);

  async #run() {
    const Plotly = await plotly();
    while (this.#dirty && !this.#ended) {
      this.#dirty = false;
      await Plotly.react(this.#element, traces(this.#what), layout(this.#what, this.#element.clientWidth || 600), {
        displayModeBar: false, responsive: true, doubleClick: "reset", scrollZoom: false,
      });
      await new Promise(requestAnimationFrame);
    }
  }
}

function traces({ points, unit }) {
  const shown = withGaps(points);
  const x = shown.map((point) => local(point.t));
  const accent = colour("accent");
  const isBand = shown.some((point) => point.low !== undefined && point.low !== null);
  const sign = unitSign(unit);
  const band = (name, key, fill) => ({
    x, y: shown.map((point) => point[key] ?? null), name, type: "scatter", mode: "lines", line: { width: 0, color: accent },
    hovertemplate: `%{y:.1f} ${sign}`, connectgaps: false, ...(fill ? { fill: "tonexty", fillcolor: colour("band") } : {}),
  });
  const line = {
    x, y: shown.map((point) => point.value), name: isBand ? "Mean" : "Reading", type: "scatter",
    mode: points.length < 3 ? "markers" : "lines", line: { width: 1.6, color: accent }, hovertemplate: `%{y:.2f} ${sign}`, connectgaps: false,
  };
  return isBand ? [band("Min", "low", false), band("Max", "high", true), line] : [line];
}

function layout({ start, end, unit, bounds = [], episodes = [], key, points }, width) {
  const text = colour("text"), muted = colour("muted"), grid = colour("line");
  const font = { family: getComputedStyle(document.body).fontFamily, size: 12, color: muted };
  const spans = episodes.map((episode) => ({ ...episode, from: Math.max(episode.start, start), to: Math.min(episode.end ?? end, end) }))
    .filter((episode) => episode.to >= episode.from);
  return {
    uirevision: key, autosize: true, paper_bgcolor: "transparent", plot_bgcolor: "transparent", font,
    margin: { l: 44, r: 12, t: spans.length ? 26 : 10, b: 42 }, showlegend: false, hovermode: "x unified", dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    hoverlabel: { bgcolor: colour("surface"), bordercolor: colour("strong-line"), font: { ...font, color: text } },
    xaxis: { type: "date", range: [local(start), local(end)], gridcolor: grid, linecolor: grid, tickcolor: grid, zeroline: false, fixedrange: false, hoverformat: "%-d %b %H:%M:%S", nticks: Math.max(3, Math.floor(width / 110)), tickangle: 0 },
    yaxis: { gridcolor: grid, zeroline: false, fixedrange: true, ticksuffix: unitSign(unit) === "°C" ? "°" : "", range: valueRange(points, bounds), automargin: true },
    shapes: [
      ...spans.map((episode) => ({ type: "rect", xref: "x", yref: "paper", x0: local(episode.from), x1: local(episode.to), y0: 0, y1: 1, layer: "below", fillcolor: colour(`${episode.tone ?? "alert"}-ground`), line: { width: 1, color: colour(episode.tone ?? "alert"), dash: "dot" } })),
      ...bounds.map((bound) => ({ type: "line", xref: "paper", yref: "y", x0: 0, x1: 1, y0: bound.value, y1: bound.value, line: { width: 1.2, color: colour("warn"), dash: "dash" } })),
    ],
    annotations: [
      ...labelled(spans, start, end, width - 56).map((episode) => ({ xref: "x", yref: "paper", x: local(episode.from), y: 1, xanchor: "left", yanchor: "bottom", showarrow: false, text: `▲ ${plain(episode.name)}`, font: { ...font, size: 11, color: colour(episode.tone ?? "alert") } })),
      ...bounds.map((bound) => ({ xref: "paper", yref: "y", x: 1, y: bound.value, xanchor: "right", yanchor: "bottom", showarrow: false, text: plain(bound.name), font: { ...font, size: 11, color: colour("warn") } })),
    ],
  };
}

/** Plotly reads some markup in its texts; names given by people are text. */
const plain = (name) => (name.length > 40 ? `${name.slice(0, 39)}…` : name).replaceAll("<", "‹").replaceAll(">", "›").replaceAll("&", "＆");

/** Names that fit: none begins where another still stands, or runs out of the chart. */
function labelled(spans, start, end, width) {
  const place = (span) => (span.from - start) / (end - start) * width;
  const length = (span) => 6.4 * Math.min(span.name.length, 40) + 22;
  const shown = [];
  for (const span of [...spans].sort((a, b) => a.from - b.from)) {
    const last = shown.at(-1);
    if (place(span) + length(span) <= width && (!last || place(span) >= place(last) + length(last))) shown.push(span);
  }
  return shown;
}

/** At least one degree high, bounds near the readings included. */
function valueRange(points, bounds) {
  const values = points.flatMap((point) => [point.value, point.low, point.high]).filter((value) => Number.isFinite(value));
  if (!values.length) return undefined;
  let low = values.reduce((a, b) => Math.min(a, b)), high = values.reduce((a, b) => Math.max(a, b));
  const near = Math.max((high - low) * 1.5, 5);
  for (const { value } of bounds) {
    if (value < low && low - value < near) low = value;
    if (value > high && value - high < near) high = value;
  }
  const margin = Math.max((high - low) * 0.08, 0.5 - (high - low) / 2, 0.05);
  return [low - margin, high + margin];
}

/** A small line of the newest readings, without axes. */
export function spark(points, label) {
  const view = { viewBox: "0 0 100 28", preserveAspectRatio: "none", class: "spark", role: "img", "aria-label": label };
  if (points.length < 2) return s("svg", { ...view, "aria-label": null, role: null, "aria-hidden": "true" });
  const times = points.map((point) => point.t), values = points.map((point) => point.value);
  const [first, last] = [times[0], times.at(-1)];
  const low = Math.min(...values), span = Math.max(Math.max(...values) - low, 0.5);
  const place = (point) => `${((point.t - first) / (last - first || 1) * 100).toFixed(1)} ${(26 - (point.value - low) / span * 24).toFixed(1)}`;
  return s("svg", view, s("path", { d: `M${points.map(place).join("L")}` }));
}

/** The newest readings as a table, for those who would rather read them. */
export function asTable(points, unit, rows = 60) {
  const isBand = points.some((point) => point.low !== undefined);
  const names = isBand ? ["From", "Mean", "Min", "Max"] : ["Time", "Value"];
  return h("details", {}, h("summary", {}, "Newest values as a table"),
    h("div", { class: "scroll" }, h("table", {},
      h("caption", { class: "unseen" }, `The newest ${rows} values`),
      h("thead", {}, h("tr", {}, names.map((name, index) => h("th", { scope: "col", class: index ? "number" : null }, name)))),
      h("tbody", {}, points.slice(-rows).reverse().map((point) => h("tr", {},
        h("td", {}, new Date(point.t).toLocaleDateString(undefined, { month: "short", day: "numeric" }), " ", clockTime(point.t)),
        [point.value, ...(isBand ? [point.low, point.high] : [])].map((value) => h("td", { class: "number" }, `${number(value)} ${unitSign(unit)}`))))))));
}

const key = (...children) => s("svg", { viewBox: "0 0 22 12", "aria-hidden": "true" }, children);

/** What the lines and shades mean. */
export function legend({ band, bounds, episodes }) {
  const item = (picture, text) => h("span", {}, picture, text);
  return h("p", { class: "legend" },
    item(key(s("path", { d: "M0 6h22", stroke: "var(--accent)", "stroke-width": 2 })), band ? "Mean" : "Readings"),
    band ? item(key(s("rect", { width: 22, height: 12, fill: "var(--band)" })), "Minimum to maximum") : null,
    bounds ? item(key(s("path", { d: "M0 6h22", stroke: "var(--warn)", "stroke-width": 2, "stroke-dasharray": "4 3" })), "Bound of a rule") : null,
    episodes ? item(key(s("rect", { x: 1, y: 1, width: 20, height: 10, fill: "var(--alert-ground)", stroke: "var(--alert)", "stroke-dasharray": "2 2" })), "Alert") : null);
}
