// What a scan's states, numbers and reasons mean, in words.
import { badge, capital, count, number } from "../format.js";

export const RUNNING = ["receiving", "queued", "processing"];
export const FORMATS = [
  ["json", "Everything as data"], ["csv", "Measurements as a table"], ["pdf", "Report with plan"], ["ply", "Mesh, PLY"], ["obj", "Mesh, OBJ"], ["glb", "Mesh, GLB"], ["points.ply", "Cleaned point cloud"],
];
export const QUANTITIES = [["length", "Length", "m"], ["width", "Width", "m"], ["height", "Height", "m"], ["area", "Floor area", "m²"], ["perimeter", "Perimeter", "m"], ["volume", "Volume", "m³"]];

const STATUSES = {
  receiving: ["", "connecting", "Receiving"], queued: ["warn", "pending", "Queued"], processing: ["", "polling", "Processing"], completed: ["ok", "ok", "Completed"],
  incomplete: ["warn", "retracted", "Ended early"], failed: ["alert", "alert", "Failed"], cancelled: ["", "stopped", "Cancelled"],
};
const VERDICTS = {
  good: ["ok", "ok", "Good", "All of the room was seen well: the numbers hold within what is said beside them."],
  estimate: ["warn", "info", "Estimate", "Parts of the room were seen poorly: take the numbers as an estimate, and mind what is said beside them."],
  incomplete: ["alert", "silent", "Incomplete", "Too little was seen for some of the numbers. Nothing was guessed: scan the parts that are listed, and they will be there."],
};
const PARTS = { everything: "The whole room: hardly anything could be used", floor: "The floor", ceiling: "The ceiling", walls: "The walls, most of all just under the ceiling", "level ceiling": "The ceiling: it is not level, and too little of it was seen to say how it runs", rectangle: "Length and width: two unlike rectangles around this plan are equally small" };
const WARNINGS = {
  millimetres_sent_as_metres: "Millimetres were sent as metres: the room would be as large as a town.",
  metres_sent_as_millimetres: "Metres were sent as millimetres: the room would fit into a matchbox.",
  mirror: "A mirror shows the room again behind a wall; nothing of that is in the measurements.",
  inverse_pose: "Poses were sent the wrong way round: world to camera instead of camera to world.",
  y_up_world: "The world's y axis points up instead of z: convert it as the device library does.",
  colour_intrinsics_on_depth: "The intrinsics are those of the colour camera, not of the depth image.",
  roomplan_disagrees: "RoomPlan's numbers are farther from the measured ones than chance explains; the differences are listed below.",
  recognizer_failed: "The recognizer failed, so that objects keep the names that they have, or none.",
  mesh_failed: "The model could not be made from the images; instead it shows the walls, floor and ceiling as measured.",
};
const FIXED = "\u00a0"; // a space at which no line breaks
const REASONS = {
  pose_jump: "the position jumped", tracking_lost: "the device had lost its position", disagrees_with_other_frames: "it shows a room that the other frames do not",
  nothing_in_range: "nothing was between 0.2 and 5 m away", depth_not_in_millimetres: "depths are not in millimetres", impossible_intrinsics: "no such camera takes images of this size",
};

export function statusOfScan(scan) {
  const [tone, shape, text] = STATUSES[scan.status] ?? ["", "info", capital(scan.status)];
  return badge(tone, shape, text);
}

export function verdictBadge(verdict) {
  if (!VERDICTS[verdict]) return "–";
  const [tone, shape, text] = VERDICTS[verdict];
  return badge(tone, shape, text);
}

export const verdictText = (verdict) => VERDICTS[verdict]?.[3] ?? "";

/** What to scan again, in words. Walls are counted: where one was seen too poorly there is no plan that shows which. */
export function partTexts(parts) {
  const walls = parts.filter((part) => /^wall \d+$/.test(part)).length;
  const others = parts.filter((part) => !/^wall \d+$/.test(part)).map((part) => PARTS[part] ?? capital(part.replaceAll("_", " ")));
  return walls ? [walls === 1 ? "One of the walls: too little of it was seen" : `${walls} of the walls: too little of them was seen`, ...others] : others;
}

export const warningText = (warning) => WARNINGS[warning] ?? `${capital(String(warning).replaceAll("_", " "))}.`;
export const reasonText = (reason) => capital(REASONS[reason] ?? String(reason ?? "no reason is known").replaceAll("_", " "));

/** "washerDryer", "dining_table": as words. */
export const thing = (label) => capital(String(label).replace(/([a-z])([A-Z])/g, "$1 $2").replaceAll("_", " ").toLowerCase());

/** "5.203 m ± 1.1 cm", broken before the ± only; a dash without enough evidence. */
export function measured(value, sigma, unit) {
  if (value === null || value === undefined) return { value: "–", spread: "not enough evidence" };
  const digits = unit === "m" ? 3 : 2;
  const spread = sigma === null || sigma === undefined ? "" : unit === "m" && sigma < 0.1 ? `±${FIXED}${number(Math.round(sigma * (sigma < 0.001 ? 1e4 : 1e3)) / (sigma < 0.001 ? 100 : 10))}${FIXED}cm` : `±${FIXED}${Math.max(sigma, 0.01).toFixed(2)}${FIXED}${unit}`;
  return { value: `${value.toFixed(digits)}${FIXED}${unit}`, spread };
}

const CEILINGS = { sloped: "The ceiling slopes", stepped: "The ceiling has steps", uneven: "The ceiling is not level" };

/** That the height is not the same everywhere; null where it is, or where nothing is known of it. */
export function ceilingText(ceiling) {
  const { kind, lowest, highest } = ceiling ?? {};
  if (!CEILINGS[kind]) return null;
  const isKnown = [lowest, highest].every((height) => Number.isFinite(height));
  return isKnown ? `${CEILINGS[kind]}, from ${lowest.toFixed(2)} to ${highest.toFixed(2)}${FIXED}m: the height is the highest.` : `${CEILINGS[kind]}.`;
}

/** "5.20 × 4.10 × 2.50 m". */
export function sizeText(scan) {
  const sides = ["length", "width", "height"].map((name) => scan.room_dimensions?.[name]);
  return sides.every((side) => side === null || side === undefined) ? "–" : `${sides.map((side) => (side ?? null) === null ? "–" : side.toFixed(2)).join(" × ")}${FIXED}m`;
}

export function fileSize(bytes) {
  if (bytes < 1e3) return `${count(bytes)}${FIXED}${bytes === 1 ? "byte" : "bytes"}`;
  const [size, unit] = bytes >= 1e9 ? [1e9, "GB"] : bytes >= 1e6 ? [1e6, "MB"] : [1e3, "kB"];
  return `${number(bytes / size)}${FIXED}${unit}`;
}
