// A room's plan as SVG: walls with their lengths, openings, furniture, as a document of GET /v1/scans/{id} tells them.
import { s } from "../dom.js";
import { thing } from "./words.js";

const UNIT = 100; // drawing units a metre
const MARGIN_M = 0.75, MARGIN_SHARE = 0.08;
// Of a text: how wide a character is, in its own height.
const CHARACTER = 0.56;
// The shortest wall that has its number beside it, in heights of the text: numbers around a narrow corner would lie on each other.
const SHORTEST = 2.5;

/** The drawing; null while no floor is known. */
export function planOf(scan) {
  const corners = scan.floor_polygon ?? [];
  if (corners.length < 3) return null;
  const box = boxOf(corners, scan.objects ?? []);
  const size = Math.max(box.width, box.height);
  const pen = { text: Math.max(size * 0.034, 0.13) * UNIT, line: Math.max(size * 0.008, 0.03) * UNIT };
  const at = ([x, y]) => [(x - box.left) * UNIT, (box.top - y) * UNIT];
  const walls = corners.map((from, n) => wall(n, from, corners[(n + 1) % corners.length], isCounterClockwise(corners)));
  return s("svg", { class: "plan", viewBox: `0 0 ${box.width * UNIT} ${box.height * UNIT}`, role: "img", "aria-label": spoken(scan, walls) },
    s("polygon", { class: "floor", points: corners.map((corner) => at(corner).join(",")).join(" "), "stroke-width": pen.line * 2 }),
    (scan.objects ?? []).map((each, n) => furniture(each, n, at, pen)),
    (scan.openings ?? []).map((each, n) => opening(each, n, walls, at, pen)),
    walls.map((each) => dimension(each, at, pen)));
}

/** The walls with their numbers and lengths, for those who would rather read them; those that the drawing has no place for too. */
export function wallsOf(scan) {
  const corners = scan.floor_polygon ?? [];
  if (corners.length < 3) return [];
  return corners.map((from, n) => {
    const { length } = wall(n, from, corners[(n + 1) % corners.length], true);
    const known = scan.walls?.length === corners.length ? scan.walls[n] : {};
    return { number: n + 1, length: known.length ?? length, sigma: known.uncertainty ?? null, seen: known.seen ?? null };
  });
}

export const kindOfOpening = (kind) => (kind === "opening" ? "passage" : kind);

/** "D1", "W2", "P3": what an opening is called in the drawing and in its table. */
export function nameOfOpening(opening, n) {
  return `${{ door: "D", window: "W" }[opening.kind] ?? "P"}${n + 1}`;
}

function boxOf(corners, objects) {
  const reach = (axis) => objects.map((each) => [each.center[axis], Math.hypot(each.size[0], each.size[1]) / 2]);
  const span = (axis) => {
    const values = [...corners.map((corner) => corner[axis]), ...reach(axis).flatMap(([middle, radius]) => [middle - radius, middle + radius])];
    return [Math.min(...values), Math.max(...values)];
  };
  const [[left, right], [bottom, top]] = [span(0), span(1)];
  // Texts grow with the room, and so does the room for them.
  const margin = Math.max(MARGIN_M, MARGIN_SHARE * Math.max(right - left, top - bottom));
  return { left: left - margin, top: top + margin, width: right - left + 2 * margin, height: top - bottom + 2 * margin };
}

function isCounterClockwise(corners) {
  return corners.reduce((sum, [x, y], n) => {
    const [u, v] = corners[(n + 1) % corners.length];
    return sum + x * v - u * y;
  }, 0) > 0;
}

/** A side of the polygon: its direction, and where outside is. */
function wall(n, from, to, counterClockwise) {
  const along = [to[0] - from[0], to[1] - from[1]];
  const length = Math.hypot(...along) || 1e-9;
  const direction = along.map((part) => part / length);
  const turned = [direction[1], -direction[0]];
  return { n, from, to, length, direction, out: counterClockwise ? turned : turned.map((part) => -part) };
}

const along = ({ from, direction }, metres) => [from[0] + direction[0] * metres, from[1] + direction[1] * metres];
const beside = ([x, y], out, metres) => [x + out[0] * metres, y + out[1] * metres];

/** A wall's number and length; of a shorter one its number alone, of the shortest nothing: texts do not lie on each other. */
function dimension(side, at, pen) {
  const room = (side.length * UNIT) / pen.text, whole = `${side.n + 1}: ${side.length.toFixed(2)} m`;
  if (room < SHORTEST) return null;
  const words = whole.length * CHARACTER <= room ? whole : String(side.n + 1);
  const place = at(beside(along(side, side.length / 2), side.out, (pen.text * 1.15) / UNIT));
  return s("text", { x: place[0], y: place[1], "font-size": pen.text, transform: `rotate(${readable(side.direction)} ${place[0]} ${place[1]})` }, words);
}

/** The angle along a wall at which text is read from below or from the right; SVG's y goes down. */
function readable([x, y]) {
  const degrees = (Math.atan2(-y, x) * 180) / Math.PI;
  return degrees >= 90 || degrees < -90 ? degrees + 180 : degrees;
}

function opening(each, n, walls, at, pen) {
  const side = walls[each.wall];
  if (!side) return null;
  const [from, to] = [each.offset, each.offset + each.width].map((metres) => at(along(side, metres)));
  const name = at(beside(along(side, each.offset + each.width / 2), side.out, (-pen.text * 0.85) / UNIT));
  return s("g", { class: "opening", "data-kind": each.kind },
    s("line", { class: "gap", x1: from[0], y1: from[1], x2: to[0], y2: to[1], "stroke-width": pen.line * 3 }),
    s("line", { class: "leaf", x1: from[0], y1: from[1], x2: to[0], y2: to[1], "stroke-width": pen.line, "stroke-dasharray": each.kind === "opening" ? pen.line * 2 : null }),
    s("text", { x: name[0], y: name[1], "font-size": pen.text * 0.85 }, nameOfOpening(each, n)));
}

function furniture({ center, size, yaw, class: label }, n, at, pen) {
  const [x, y] = at(center);
  const [width, depth] = [size[0] * UNIT, size[1] * UNIT];
  return s("g", { class: "furniture" },
    s("rect", { x: x - width / 2, y: y - depth / 2, width, height: depth, "stroke-width": pen.line * 0.7, transform: `rotate(${(-(yaw ?? 0) * 180) / Math.PI} ${x} ${y})` }),
    s("text", { x, y: y + pen.text * 0.3, "font-size": pen.text * 0.8 }, label ? thing(label) : String(n + 1)));
}

function spoken(scan, walls) {
  const lengths = walls.map((side) => `${side.length.toFixed(2)} m`).join(", ");
  const kinds = Map.groupBy(scan.openings ?? [], (each) => each.kind);
  const openings = [...kinds].map(([kind, found]) => `${found.length} ${kindOfOpening(kind)}${found.length > 1 ? "s" : ""}`).join(", ");
  return `Plan of ${scan.name || "the room"}: ${walls.length} walls of ${lengths}; ${openings || "no openings"}; ${(scan.objects ?? []).length} objects`;
}
