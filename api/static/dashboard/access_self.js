// The part of the page “Access” about whoever looks at it.
import { announce, complain, field, h } from "./dom.js";
import { badge, capital } from "./format.js";

export function self({ api, session }) {
  const { me } = session;
  const who = session.isUser
    ? h("p", { class: "row" }, h("strong", {}, me.name || me.email), me.name ? h("span", { class: "muted" }, me.email) : null, badge("", null, capital(me.role ?? "")))
    : h("p", { class: "muted" }, "You are signed in with an API key.");
  return h("section", { class: "panel stack", "aria-label": "You" }, h("h2", {}, "You"), who, session.isUser ? changePassword(api) : null);
}

function changePassword(api) {
  const old = h("input", { type: "password", autocomplete: "current-password", required: true });
  const fresh = h("input", { type: "password", autocomplete: "new-password", required: true, minlength: 8, maxlength: 256 });
  const form = h("form", { class: "filters spaced", onsubmit: async (event) => {
    event.preventDefault();
    [old, fresh].forEach((control) => complain(control, ""));
    try {
      await api.post("v1/auth/password", { old_password: old.value, new_password: fresh.value });
      form.reset();
      announce("Your password is changed. Your other sessions have ended.");
      place.open = false;
    } catch (error) {
      const wrong = error.errors[0]?.parameter === "new_password" ? fresh : old;
      complain(wrong, error.message);
      wrong.focus();
    }
  } }, h("div", { class: "grow" }, field("Your password now", old)), h("div", { class: "grow" }, field("The new one", fresh, { hint: "8 characters or more" })), h("button", {}, "Change password"));
  const place = h("details", {}, h("summary", {}, "Change your password"), form);
  return place;
}
