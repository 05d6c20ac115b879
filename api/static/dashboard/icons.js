// Small pictures; each state has a shape of its own, so that colour is never the only sign.
import { s } from "./dom.js";

const LINE = { fill: "none", stroke: "currentColor", "stroke-width": 1.8, "stroke-linecap": "round", "stroke-linejoin": "round" };

const SHAPES = {
  alert: () => [s("path", { d: "M8 1.6 15 14H1Z", ...LINE }), s("path", { d: "M8 6v3.6M8 11.8v.1", ...LINE })],
  silent: () => [s("circle", { cx: 8, cy: 8, r: 6.4, ...LINE, "stroke-dasharray": "2.4 2.6" }), s("path", { d: "M4 12 12 4", ...LINE })],
  ok: () => [s("circle", { cx: 8, cy: 8, r: 6.4, ...LINE }), s("path", { d: "m5.2 8.2 2 2 3.6-4", ...LINE })],
  new: () => [s("circle", { cx: 8, cy: 8, r: 6.4, ...LINE }), s("path", { d: "M8 5v6M5 8h6", ...LINE })],
  live: () => [s("circle", { cx: 8, cy: 8, r: 4.5, fill: "currentColor" })],
  polling: () => [s("path", { d: "M13.5 8A5.5 5.5 0 1 1 11.5 3.8M13.6 1.6v3h-3", ...LINE })],
  connecting: () => [s("circle", { cx: 8, cy: 8, r: 5, ...LINE, "stroke-dasharray": "3 3" })],
  reconnecting: () => [s("path", { d: "M8 1.6 15 14H1Z", ...LINE }), s("path", { d: "M8 6v3.6M8 11.8v.1", ...LINE })],
  stopped: () => [s("path", { d: "M3.5 3.5h9v9h-9z", ...LINE })],
  dark: () => [s("path", { d: "M13.4 9.6A5.8 5.8 0 0 1 6.4 2.6a5.8 5.8 0 1 0 7 7Z", ...LINE })],
  light: () => [s("circle", { cx: 8, cy: 8, r: 3, ...LINE }), s("path", { d: "M8 .9v1.6M8 13.5v1.6M.9 8h1.6M13.5 8h1.6M3 3l1.1 1.1M11.9 11.9 13 13M3 13l1.1-1.1M11.9 4.1 13 3", ...LINE })],
  seen: () => [s("path", { d: "M1.2 8S3.7 3.6 8 3.6 14.8 8 14.8 8 12.3 12.4 8 12.4 1.2 8 1.2 8Z", ...LINE }), s("circle", { cx: 8, cy: 8, r: 1.9, ...LINE })],
  pending: () => [s("circle", { cx: 8, cy: 8, r: 6.4, ...LINE }), s("path", { d: "M8 4.5V8l2.4 1.6", ...LINE })],
  retracted: () => [s("path", { d: "M3 8h10", ...LINE })],
  info: () => [s("circle", { cx: 8, cy: 8, r: 6.4, ...LINE }), s("path", { d: "M8 7.4v3.8M8 4.8v.1", ...LINE })],
  bell: () => [s("path", { d: "M8 1.8a4 4 0 0 0-4 4c0 4-1.8 5.2-1.8 5.2h11.6S12 9.8 12 5.8a4 4 0 0 0-4-4ZM6.7 13.6a1.5 1.5 0 0 0 2.6 0", ...LINE })],
  close: () => [s("path", { d: "m4 4 8 8M12 4l-8 8", ...LINE })],
  brand: () => [s("path", { d: "M1 5.4c2.3-2.3 4.7-2.3 7 0s4.7 2.3 7 0M1 11c2.3-2.3 4.7-2.3 7 0s4.7 2.3 7 0", ...LINE, "stroke-width": 2.2 })],
};

export function icon(name) {
  return s("svg", { viewBox: "0 0 16 16", "aria-hidden": "true", focusable: "false" }, SHAPES[name]());
}
