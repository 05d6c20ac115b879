// Values, times and states as people read them.
import { h } from "./dom.js";
import { icon } from "./icons.js";

const UNITS = { celsius: "°C", fahrenheit: "°F", kelvin: "K", percent: "%", hectopascal: "hPa", volt: "V", ppm: "ppm" };
const SEVERITY_TONES = { critical: "alert", major: "alert", minor: "warn", warning: "warn", info: "" };
const STATES = { alert: "Alert", silent: "Silent", ok: "OK", new: "No data yet" };
const STATUSES = { firing: ["alert", "alert"], pending: ["warn", "pending"], resolved: ["ok", "ok"], retracted: ["", "retracted"] };
const SECOND = 1000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE, DAY = 24 * HOUR;
export const SEVERITIES = ["critical", "major", "minor", "warning", "info"];

const dayAndTime = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const withYear = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23", timeZoneName: "short" });
const wholeDay = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric" });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const whole = new Intl.NumberFormat();

export const unitSign = (unit) => UNITS[unit] ?? unit ?? "";
export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
export const count = (number) => whole.format(number);

export function number(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e7 || size < 1e-3)) return value.toExponential(2).replace("-", "−");
  const digits = size >= 1000 ? 0 : size >= 1 || size === 0 ? 1 : 3;
  const rounded = value.toFixed(digits).replace(/(\.\d+?)0+$/, "$1");
  return rounded.replace("-", "−");
}

export const quantity = (value, unit) => `${number(value)} ${unitSign(unit)}`.trim();

/** 75 000 → "1 min 15 s"; the two largest parts. */
export function duration(milliseconds) {
  if (milliseconds === null || milliseconds === undefined) return "–";
  const parts = [];
  let rest = Math.max(0, Math.round(milliseconds / SECOND)) * SECOND;
  for (const [size, name] of [[DAY, "d"], [HOUR, "h"], [MINUTE, "min"], [SECOND, "s"]]) {
    if (rest >= size && parts.length < 2) parts.push(`${Math.floor(rest / size)} ${name}`);
    rest %= size;
  }
  return parts.length ? parts.join(" ") : "0 s";
}

export function ago(at, nowMs) {
  const milliseconds = nowMs - Date.parse(at);
  if (milliseconds < 5 * SECOND) return "now";
  const [size, name] = milliseconds < MINUTE ? [SECOND, "s"] : milliseconds < HOUR ? [MINUTE, "min"] : milliseconds < DAY ? [HOUR, "h"] : [DAY, "d"];
  return `${Math.floor(milliseconds / size)} ${name} ago`;
}

export const clockTime = (ms) => clock.format(ms);
export const fullTime = (at) => withYear.format(Date.parse(at));

/** A moment, short, with the whole of it as its title. */
export function moment(at) {
  return at ? h("time", { datetime: at, title: fullTime(at) }, dayAndTime.format(Date.parse(at))) : "–";
}

/** The day of a moment that may be years away. */
export const day = (at) => h("time", { datetime: at, title: fullTime(at) }, wholeDay.format(Date.parse(at)));

export function badge(tone, shape, text) {
  return h("span", { class: "badge", "data-tone": tone }, shape ? icon(shape) : null, text);
}

export const stateBadge = (state) => badge({ alert: "alert", silent: "silent", ok: "ok" }[state] ?? "", state, STATES[state] ?? state);
export const severityBadge = (severity) => badge(SEVERITY_TONES[severity] ?? "", SEVERITY_TONES[severity] ? "alert" : "info", capital(severity));

export function statusBadge(alert) {
  const [tone, shape] = STATUSES[alert.status] ?? ["", "info"];
  return badge(tone, shape, capital(alert.status));
}

/** Which of several states counts for all of them. */
export function worst(states) {
  return ["alert", "silent", "ok", "new"].find((state) => states.includes(state)) ?? "new";
}

const BOUNDS = { above: "above", at_or_above: "at or above", below: "below", at_or_below: "at or below" };

/** The bound of a condition: [its name, its number]; null without one. */
export function boundOf(condition) {
  const name = Object.keys(BOUNDS).find((each) => condition?.[each] !== undefined);
  return name ? [name, condition[name]] : null;
}

const numberText = (value) => (typeof value === "object" && value ? `${value.attribute} of the ${value.of}` : number(value));

/** A condition in words. */
export function conditionText(condition) {
  const bound = boundOf(condition);
  const beyond = bound ? `${BOUNDS[bound[0]]} ${numberText(bound[1])}` : "";
  const held = condition.for ? ` for ${condition.for}` : condition.consecutive ? `, ${condition.consecutive} in a row` : "";
  switch (condition.type) {
    case "threshold": return capital(`${beyond}${held}`);
    case "aggregate": return `${capital(condition.function.replaceAll("_", " "))} of ${condition.window} ${beyond}${held}`;
    case "exposure": return `${condition.budget} in ${condition.within ?? "30d"} ${beyond}`;
    case "degree_minutes": return `${number(condition.budget)} degree-minutes in ${condition.within ?? "30d"} ${beyond}`;
    case "mean_kinetic_temperature": return `Mean kinetic temperature of ${condition.window} ${beyond}`;
    case "silence": return `Silent for ${condition.after}`;
    case "preset": return `Preset ${condition.name}`;
    case "any_of": return `Any of: ${condition.conditions.map(conditionText).join("; ")}`;
    case "all_of": return `All of: ${condition.conditions.map(conditionText).join("; ")}`;
    default: return condition.type;
  }
}
