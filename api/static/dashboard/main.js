// Puts the page together: who is signed in, which view the address names, how the link to the server stands.
import { announce, fill, focusHeading, h } from "./dom.js";
import { Feed } from "./feed.js";
import { capital, clockTime } from "./format.js";
import { Api } from "./http.js";
import { icon } from "./icons.js";
import { Live } from "./live.js";
import { Bell } from "./notifications.js";
import { Session } from "./session.js";
import * as access from "./views/access.js";
import * as alertView from "./views/alert.js";
import * as alerts from "./views/alerts.js";
import * as devices from "./views/devices.js";
import * as jobs from "./views/jobs.js";
import * as overview from "./views/overview.js";
import * as places from "./views/places.js";
import * as quality from "./views/quality.js";
import * as ruleEditor from "./views/rule_editor.js";
import * as rules from "./views/rules.js";
import * as scan from "./views/scan.js";
import * as scans from "./views/scans.js";
import * as sensor from "./views/sensor.js";
import * as signIn from "./views/sign_in.js";
import * as usage from "./views/usage.js";

const VIEWS = [
  [/^\/$/, overview], [/^\/sensors\/([^/]+)$/, sensor], [/^\/alerts$/, alerts], [/^\/alerts\/([^/]+)$/, alertView],
  [/^\/rules$/, rules], [/^\/rules\/([^/]+)$/, ruleEditor], [/^\/quality$/, quality], [/^\/scans$/, scans], [/^\/scans\/([^/]+)$/, scan], [/^\/jobs$/, jobs], [/^\/places$/, places], [/^\/devices$/, devices],
  [/^\/usage$/, usage], [/^\/access$/, access],
];
const NAV = [["/", "Overview"], ["/alerts", "Alerts"], ["/rules", "Rules"], ["/quality", "Data quality"], ["/scans", "Scans"], ["/places", "Places"], ["/devices", "Devices"], ["/jobs", "Jobs", "jobs:read"], ["/usage", "Usage", "billing:read"], ["/access", "Access"]];

const main = document.getElementById("main");
const session = new Session();
const api = new Api(session);
let feed = null;
let bell = null;
let shown = null;

function place() {
  const [path, query] = (location.hash.slice(1) || "/").split("?");
  return { path: path || "/", query: new URLSearchParams(query) };
}

/** Shows the view that the address names. */
function show() {
  shown?.abort();
  shown = new AbortController();
  if (!feed) return present(signIn.show({ session }, [], new URLSearchParams()), false);
  const { path, query } = place();
  const [view, parts] = viewOf(path);
  markNav(path);
  if (!view) return present({ title: "Nothing here", node: h("p", { class: "empty" }, "There is no such page. ", h("a", { href: "#/" }, "Overview")) });
  const context = { api, feed, session, signal: shown.signal, go: (to) => { location.hash = to; } };
  present(view.show(context, parts, query));
}

/** The view of an address, and its parts; null for what is none, or is torn. */
function viewOf(path) {
  const [pattern, view] = VIEWS.find(([each]) => each.test(path)) ?? [];
  try {
    return view ? [view, pattern.exec(path).slice(1).map((part) => decodeURIComponent(part))] : [null, []];
  } catch {
    return [null, []];
  }
}

let isFirst = true;

function present({ title, node }) {
  document.title = title ? `${title} – Weir` : "Weir";
  fill(main, node);
  scrollTo(0, 0);
  // Whoever listens hears the new page's name; the first page begins at the top of the document, as any page.
  if (!isFirst && !main.contains(document.activeElement)) focusHeading(main);
  isFirst = false;
}

function bar() {
  const theme = h("button", { type: "button", class: "quiet", onclick: () => { turnTheme(); nameTheme(theme); } });
  nameTheme(theme);
  fill(document.getElementById("bar"), h("div", { class: "bar" },
    h("a", { class: "brand", href: "#/" }, icon("brand"), "Weir"),
    feed ? h("nav", { class: "nav", "aria-label": "Pages" }, NAV.filter(([, , needed]) => !needed || session.may(needed)).map(([to, name]) => h("a", { href: `#${to}`, data: { to } }, name,
      to === "/alerts" ? h("span", { class: "count", id: "alert-count", hidden: true }) : null))) : h("span", { class: "grow" }),
    h("div", { class: "tools" },
      feed ? h("span", { class: "link-state", id: "link", role: "status" }) : null, bell?.element, theme,
      feed ? h("button", { type: "button", class: "quiet", onclick: () => session.signOut() }, "Sign out") : null)));
}

function markNav(path) {
  for (const link of document.querySelectorAll(".nav a")) {
    const isHere = link.dataset.to === "/" ? path === "/" || path.startsWith("/sensors") : path.startsWith(link.dataset.to);
    if (isHere) {
      link.setAttribute("aria-current", "page");
      link.scrollIntoView({ block: "nearest", inline: "nearest" });
    } else link.removeAttribute("aria-current");
  }
}

const isDark = () => (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

function turnTheme() {
  const theme = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("weir.theme", theme);
  } catch {
    // It holds for this visit.
  }
  dispatchEvent(new Event("weir-theme"));
}

function nameTheme(button) {
  const other = isDark() ? "light" : "dark";
  fill(button, icon(other), h("span", { class: "unseen" }, `${capital(other)} theme`));
  button.title = `${capital(other)} theme`;
}

const LINK_TEXTS = {
  connecting: () => "Connecting…",
  live: () => "Live",
  polling: () => "Updating every 2 s",
  reconnecting: (feedNow) => `Reconnecting – last update at ${clockTime(feedNow.updatedMs)}`,
};
let toldLink = "";

function showLink() {
  const element = document.getElementById("link");
  if (!element) return;
  const text = LINK_TEXTS[feed.link](feed);
  if (element.dataset.state === feed.link && element.dataset.text === text) return;
  Object.assign(element.dataset, { state: feed.link, text });
  fill(element, icon(feed.link), h("span", {}, text));
  if (feed.link !== toldLink && toldLink === "reconnecting") announce("The connection is back.");
  toldLink = feed.link;
}

function showAlerts(event) {
  const firing = feed.firing.length;
  const badge = document.getElementById("alert-count");
  if (badge) {
    badge.hidden = firing === 0;
    fill(badge, String(firing), h("span", { class: "unseen" }, " firing"));
  }
  for (const alert of (event?.detail ?? []).filter((each) => !each.historical).slice(0, 3)) toast(alert);
}

function toast(alert) {
  const text = `${capital(alert.severity)}: ${feed.ruleName(alert.rule_id)}, ${feed.nameOf(alert.sensor_id)}`;
  const close = () => element.remove();
  const element = h("div", { class: "toast" }, icon("alert"),
    h("a", { class: "plain grow", href: `#/alerts/${alert.alert_id}`, onclick: close }, text),
    h("button", { type: "button", class: "quiet small", "aria-label": "Dismiss", onclick: close }, icon("close")));
  const toasts = document.getElementById("toasts");
  toasts.prepend(element);
  [...toasts.children].slice(3).forEach((old) => old.remove());
  announce(text, true);
}

async function enter() {
  const live = new Live(new URL("v1/live", location.href.replace(/^http/, "ws")).href.split("#")[0], () => session.token());
  const starting = new Feed(api, live);
  // Refused for good: with a credential that ended there may be a newer one; without, the session is over.
  live.addEventListener("ended", async () => (await session.renewed(live.credential)) && live.start());
  fill(main, h("p", { class: "empty", role: "status" }, "Loading…"));
  try {
    session.learn(await api.get("v1/auth/me"));
    await starting.start();
  } catch (error) {
    starting.stop();
    if (!session.isSignedIn) return;
    fill(main, h("div", { class: "notice", "data-tone": "alert", role: "alert" }, h("p", {}, error.message),
      h("p", { class: "row" }, h("button", { type: "button", onclick: enter }, "Try again"))));
    return;
  }
  feed = starting;
  ring();
  bar();
  feed.addEventListener("link", showLink);
  feed.addEventListener("tick", showLink);
  feed.addEventListener("alerts", showAlerts);
  feed.addEventListener("places", showAlerts);
  showLink();
  showAlerts();
  show();
}

/** Notifications are of alerts and of the plan; who may see neither has no bell. */
function ring() {
  bell?.end();
  bell = session.may("alerts:read") ? new Bell({ api, feed, session }) : null;
}

/** A role or a key's scopes were changed while the page was open. */
async function relearn() {
  const me = await api.get("v1/auth/me").catch(() => null);
  if (!me || !feed || !session.learn(me)) return;
  ring();
  bar();
  showLink();
  showAlerts();
  show();
  announce("What you may do has changed.", true);
}

function leave(reason) {
  bell?.end();
  feed?.stop();
  feed = bell = null;
  document.getElementById("toasts").replaceChildren();
  bar();
  show();
  if (reason) announce(reason, true);
}

session.addEventListener("change", (event) => (session.isSignedIn ? enter() : leave(event.detail)));
session.addEventListener("refused", relearn);
addEventListener("hashchange", () => feed && show());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dispatchEvent(new Event("weir-theme")));
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});

bar();
if (!(await session.resume())) show();
