// Who may see and do what: oneself, the people of the organization, and API keys of its programs.
import { h } from "../dom.js";
import { keys } from "../access_keys.js";
import { people } from "../access_people.js";
import { self } from "../access_self.js";

export function show(context) {
  const { session } = context;
  return { title: "Access", node: h("div", { class: "stack" },
    h("div", {}, h("h1", {}, "Access"), h("p", { class: "muted" }, "Who may see and change what.")),
    self(context), session.may("users:read") ? people(context) : null, session.may("keys:read") ? keys(context) : null) };
}
