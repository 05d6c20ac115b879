// The part of the page “Access” about API keys, which programs use.
import { announce, cell, complain, confirmed, failure, field, fill, h, loading, select, table } from "./dom.js";
import { day, moment } from "./format.js";
import { shownOnce } from "./secrets.js";

const SCOPES = [["read", "Read"], ["read write", "Read and write"], ["admin", "Everything"]];
const ONCE = "It is shown this once. Keep it where your program reads its secrets.";

export function keys({ api, session, signal }) {
  const mayWrite = session.may("keys:write");
  const list = h("div", {}, loading());
  const news = h("div", {});

  async function load() {
    try {
      const found = await api.all("v1/api-keys", {}, { signal });
      fill(list, found.length ? table("API keys", ["Key", "May", "Ends", "Created", ...(mayWrite ? [""] : [])].map((name) => ({ name })), found.map(row)) : h("p", { class: "empty" }, "No keys."));
    } catch (error) {
      if (!signal.aborted) fill(list, failure(error, load));
    }
  }

  function row(key) {
    const button = (verb, kind, work) => h("button", { type: "button", class: `small ${kind}`, "aria-label": `${verb} ${key.name}`, onclick: work }, verb);
    return h("tr", {}, h("th", { scope: "row" }, h("strong", {}, key.name), h("div", { class: "muted small" }, h("code", {}, `…${key.last_four}`))),
      cell("May", key.scopes.join(", ")), cell("Ends", key.expires_at ? day(key.expires_at) : "never"), cell("Created", moment(key.created_at)),
      mayWrite ? cell("", [button("Replace", "", () => replace(key)), button("Revoke", "danger", () => revoke(key))], "actions") : null);
  }

  const path = (key) => `v1/api-keys/${encodeURIComponent(key.api_key_id)}`;

  async function revoke(key) {
    if (!(await confirmed(`Revoke “${key.name}”?`, "Programs that use it are refused within seconds.", "Revoke"))) return;
    await attempt(() => api.delete(path(key)), () => announce("Revoked."));
  }

  async function replace(key) {
    if (!(await confirmed(`Replace “${key.name}”?`, "The key that programs have now holds for another day, so that it can be replaced without a gap.", "Make its successor"))) return;
    await attempt(() => api.post(`${path(key)}/rotate`), (made) => show(made));
  }

  async function attempt(work, done) {
    try {
      done(await work());
      await load();
    } catch (error) {
      fill(news, failure(error, null));
    }
  }

  function show(made) {
    fill(news, shownOnce(`API key ${made.name}`, made.api_key, ONCE));
    news.querySelector(".secret").focus();
  }

  load();
  return h("section", { class: "panel flush", "aria-label": "API keys" }, h("h2", {}, "API keys"), news, list,
    mayWrite ? keyForm(api, session, (made) => { show(made); load(); }) : null);
}

function keyForm(api, session, created) {
  const name = h("input", { required: true, maxlength: 200, autocomplete: "off" });
  // A key may do no more than who makes it: everything is what owners may.
  const scope = select(session.may("organization:write") ? SCOPES : SCOPES.slice(0, 2), "read");
  const ends = h("input", { type: "date", data: { part: "expires_at" } });
  return h("form", { class: "filters panel-head", "aria-label": "New API key", onsubmit: async (event) => {
    event.preventDefault();
    [name, ends].forEach((control) => complain(control, ""));
    try {
      const until = ends.value ? { expires_at: new Date(`${ends.value}T23:59:59`).toISOString() } : {};
      created(await api.post("v1/api-keys", { name: name.value.trim(), scopes: scope.value.split(" "), ...until }));
      name.value = ends.value = "";
    } catch (error) {
      const wrong = error.errors[0]?.parameter === "expires_at" ? ends : name;
      complain(wrong, error.message);
      wrong.focus();
    }
  } }, h("div", { class: "grow" }, field("Name of the new key", name)), field("It may", scope), field("Last day (may be left out)", ends), h("button", { class: "primary" }, "Create key"));
}
