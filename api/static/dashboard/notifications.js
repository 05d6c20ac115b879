// The bell: what people are told about alerts and quotas, newest first, with how much of it is new to this browser.
import { announce, failure, fill, h } from "./dom.js";
import { ago, badge, capital, count, moment } from "./format.js";
import { nowMs } from "./http.js";
import { icon } from "./icons.js";

const MOST = 50;
const WORDS = { fired: ["alert", "alert", "Fired"], resolved: ["ok", "ok", "Resolved"], historical: ["", "info", "Found in late readings"], quota: ["warn", "info", "Quota"] };

export class Bell {
  #api;
  #feed;
  #key;
  #items = [];
  #isLoaded = false;
  #seen;
  // What is newer is marked as new for as long as the list is open.
  #marked = "";
  #ending = new AbortController();
  #panel;
  #list = h("ul", {});
  #sign = h("span", { class: "count", hidden: true });
  button;
  element;

  constructor({ api, feed, session }) {
    this.#api = api;
    this.#feed = feed;
    this.#key = `weir.seen.${session.me.subject_id}`;
    this.#seen = stored(this.#key);
    this.button = h("button", { type: "button", class: "quiet bell", "aria-expanded": "false", "aria-controls": "notifications", onclick: () => (this.#panel.hidden ? this.#open() : this.#close(true)) });
    this.#panel = h("section", { id: "notifications", class: "bell-panel", "aria-label": "Notifications", hidden: true, tabindex: -1 },
      h("div", { class: "row panel-head" }, h("h2", { class: "grow" }, "Notifications"), h("a", { href: "#/alerts?status=all", onclick: () => this.#close(false) }, "All alerts")), this.#list);
    this.element = h("div", { class: "bell-place", onkeydown: (event) => event.key === "Escape" && this.#close(true) }, this.button, this.#panel);
    const { signal } = this.#ending;
    document.addEventListener("pointerdown", (event) => this.element.contains(event.target) || this.#close(false), { signal });
    feed.addEventListener("places", () => this.#draw(), { signal });
    feed.follow("notifications", { snapshot: () => this.#load(), event: (items) => this.#take(items) }, () => this.#load(), signal);
    this.#draw();
    this.#load();
  }

  end() {
    this.#ending.abort();
  }

  async #load() {
    try {
      const { items } = await this.#api.get("v1/notifications", { limit: MOST }, this.#ending.signal);
      this.#isLoaded = true;
      // It may have been on its way when something was heard.
      this.#join(items, this.#items.filter((item) => item.noticed_at >= (items[0]?.noticed_at ?? "")));
    } catch (error) {
      if (!this.#ending.signal.aborted && !this.#items.length) fill(this.#list, h("li", {}, failure(error, () => this.#load())));
    }
  }

  #take(items) {
    const known = new Set(this.#items.map(keyOf));
    const fresh = items.filter((item) => !known.has(keyOf(item)));
    // Alerts that fire say so themselves.
    for (const item of fresh) if (item.kind === "quota") announce(this.#text(item));
    this.#join(this.#items, fresh.reverse());
  }

  /** A list, and above it what it lacks of others. */
  #join(items, others) {
    const known = new Set(items.map(keyOf));
    this.#items = [...others.filter((item) => !known.has(keyOf(item))), ...items].slice(0, MOST);
    if (this.#panel.hidden) this.#draw();
    else this.#markSeen();
  }

  #open() {
    this.#panel.hidden = false;
    this.button.setAttribute("aria-expanded", "true");
    this.#marked = this.#seen;
    this.#markSeen();
    this.#panel.focus();
  }

  #close(isBack) {
    if (this.#panel.hidden) return;
    this.#panel.hidden = true;
    this.button.setAttribute("aria-expanded", "false");
    if (isBack) this.button.focus();
    this.#draw();
  }

  /** What is on the list now is seen; those that were new stay marked until the list is closed. */
  #markSeen() {
    this.#seen = this.#items.reduce((latest, item) => (item.noticed_at > latest ? item.noticed_at : latest), this.#seen);
    keep(this.#key, this.#seen);
    this.#draw();
  }

  #draw() {
    const unread = this.#items.filter((item) => item.noticed_at > this.#seen).length;
    this.#sign.hidden = unread === 0;
    fill(this.#sign, unread === MOST ? `${MOST}+` : String(unread));
    fill(this.button, icon("bell"), h("span", { class: "unseen" }, unread ? `Notifications, ${unread} new` : "Notifications"), h("span", { "aria-hidden": "true" }, this.#sign));
    if (this.#panel.hidden) return;
    const focused = this.#list.contains(document.activeElement) ? document.activeElement.closest("li")?.dataset.key : null;
    fill(this.#list, this.#items.map((item) => this.#entry(item, item.noticed_at > this.#marked)), this.#items.length ? null : h("li", { class: "empty" }, this.#isLoaded ? "Nothing has happened yet." : "Loading…"));
    if (focused) this.#list.querySelector(`li[data-key="${CSS.escape(focused)}"] a`)?.focus({ preventScroll: true });
  }

  #entry(item, isNew) {
    const [tone, shape, word] = WORDS[item.kind] ?? ["", "info", capital(item.kind.replaceAll("_", " "))];
    return h("li", { "data-key": keyOf(item), "data-fresh": isNew },
      h("a", { class: "plain", href: item.alert_id ? `#/alerts/${encodeURIComponent(item.alert_id)}` : "#/usage", onclick: () => this.#close(false) },
        h("span", { class: "row" }, badge(tone, shape, word), isNew ? h("strong", { class: "small" }, "New") : null, h("span", { class: "grow" }), h("span", { class: "muted small", title: ago(item.noticed_at, nowMs()) }, moment(item.noticed_at))),
        h("span", {}, this.#text(item))));
  }

  #text(item) {
    if (item.alert) return `${capital(item.alert.severity)}: ${this.#feed.ruleName(item.alert.rule_id)}, ${this.#feed.nameOf(item.sensor_id)}`;
    if (item.kind === "quota") return `${item.percent} % of the ${item.meter.replaceAll("_", " ")} of ${item.month} are used: ${count(item.used)} of ${count(item.included)}`;
    return item.text ?? "";
  }
}

const keyOf = (item) => [item.kind, item.alert_id ?? item.meter, item.month, item.percent, item.noticed_at].filter(Boolean).join(" ");

function stored(key) {
  try {
    return localStorage.getItem(key) ?? "";
  } catch {
    return "";
  }
}

function keep(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    // It holds for this visit.
  }
}
