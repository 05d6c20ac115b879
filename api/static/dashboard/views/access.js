// Who may see and do what: people of the organization and API keys of its programs.
import { announce, cell, complain, confirmed, failure, field, fill, h, loading, select, table } from "../dom.js";
import { badge, capital, moment } from "../format.js";
import { shownOnce } from "../secrets.js";

const SCOPES = [["read", "Read"], ["read write", "Read and write"], ["admin", "Everything"]];

export function show({ api, signal }) {
  const people = h("section", { class: "panel flush", "aria-label": "People" }, h("h2", {}, "People"), loading());
  const keys = h("section", { class: "panel flush", "aria-label": "API keys" }, h("h2", {}, "API keys"), loading());
  const news = h("div", {});
  const name = h("input", { required: true, maxlength: 200, autocomplete: "off" });
  const scope = select(SCOPES, "read");

  async function list(place, title, path, draw) {
    try {
      fill(place, h("h2", {}, title), draw(await api.all(path, {}, { signal })));
    } catch (error) {
      if (signal.aborted) return;
      fill(place, h("h2", {}, title), error.status === 403 ? h("p", { class: "empty" }, "Your role does not see these.") : failure(error, () => list(place, title, path, draw)));
    }
  }

  const loadPeople = () => list(people, "People", "v1/users", (users) => table("People", ["Name", "Role", "Since"].map((each) => ({ name: each })), users.map((user) => h("tr", {},
    h("th", { scope: "row" }, h("strong", {}, user.name || user.email), user.name ? h("div", { class: "muted small" }, user.email) : null), cell("Role", badge("", null, capital(user.role ?? ""))), cell("Since", moment(user.created_at))))));

  const loadKeys = () => list(keys, "API keys", "v1/api-keys", (found) => (found.length ? table("API keys", ["Key", "May", "Ends", "Created", ""].map((each) => ({ name: each })), found.map((key) => h("tr", {},
    h("th", { scope: "row" }, h("strong", {}, key.name), h("div", { class: "muted small" }, h("code", {}, `…${key.last_four ?? ""}`))), cell("May", (key.scopes ?? []).join(", ")), cell("Ends", key.expires_at ? moment(key.expires_at) : "never"), cell("Created", moment(key.created_at)),
    cell("", h("button", { type: "button", class: "small danger", "aria-label": `Revoke ${key.name}`, onclick: () => revoke(key) }, "Revoke"), "actions")))) : h("p", { class: "empty" }, "No keys.")));

  async function revoke(key) {
    if (!(await confirmed(`Revoke “${key.name}”?`, "Programs that use it are refused within seconds.", "Revoke"))) return;
    try {
      await api.delete(`v1/api-keys/${encodeURIComponent(key.api_key_id)}`);
      announce("Revoked.");
      loadKeys();
    } catch (error) {
      fill(news, failure(error, null));
    }
  }

  const create = h("form", { class: "panel filters", onsubmit: async (event) => {
    event.preventDefault();
    complain(name, "");
    try {
      const made = await api.post("v1/api-keys", { name: name.value.trim(), scopes: scope.value.split(" ") });
      fill(news, shownOnce(`API key ${made.name}`, made.api_key ?? made.key, "It is shown this once. Keep it where your program reads its secrets."));
      news.querySelector(".secret").focus();
      name.value = "";
      loadKeys();
    } catch (error) {
      complain(name, error.message);
      name.focus();
    }
  } }, h("div", { class: "grow" }, field("Name of the new key", name)), field("It may", scope), h("button", { class: "primary" }, "Create key"));

  loadPeople();
  loadKeys();
  return { title: "Access", node: h("div", { class: "stack" }, h("div", {}, h("h1", {}, "Access"), h("p", { class: "muted" }, "People of the organization, and keys of its programs.")), people, news, create, keys) };
}
