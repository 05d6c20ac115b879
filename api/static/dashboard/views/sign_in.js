// Signing in with e-mail and password, or with an API key.
import { complain, field, fill, h } from "../dom.js";

export function show({ session }) {
  const email = h("input", { type: "email", name: "email", autocomplete: "username", required: true });
  const password = h("input", { type: "password", name: "password", autocomplete: "current-password", required: true });
  const key = h("input", { type: "password", name: "key", autocomplete: "off", spellcheck: "false", required: true });
  const byPassword = form("Sign in", [field("E-mail", email), field("Password", password)], password,
    () => session.signInWithPassword(email.value.trim(), password.value));
  const byKey = form("Sign in with the key", [field("API key", key, { hint: "It stays in this page's memory and is gone when you reload." })], key,
    () => session.signInWithKey(key.value.trim()));
  const other = h("details", {}, h("summary", {}, "Use an API key instead"), byKey);
  byKey.classList.add("spaced");
  return { title: "Sign in", node: h("section", { class: "sign-in stack" },
    h("div", {}, h("h1", {}, "Sign in to Weir"), h("p", { class: "muted" }, "Readings, alerts and devices of your organization.")),
    h("div", { class: "panel stack" }, byPassword, other)) };
}

function form(verb, fields, last, work) {
  const button = h("button", { class: "primary" }, verb);
  const element = h("form", { class: "stack", onsubmit: async (event) => {
    event.preventDefault();
    complain(last, "");
    button.disabled = true;
    fill(button, "Signing in…");
    try {
      await work();
    } catch (error) {
      complain(last, explained(error));
      last.focus();
    } finally {
      button.disabled = false;
      fill(button, verb);
    }
  } }, fields, button);
  return element;
}

function explained(error) {
  if (error.status === 401) return "That is not right. Check what you typed and try again.";
  if (error.status === 404 || error.status === 405) return "This server does not sign in by e-mail; use an API key.";
  return error.message;
}
