// Signing in with e-mail and password, with an API key, or for the first time with a code that came by message.
import { announce, complain, field, fill, h } from "../dom.js";
import { exchange } from "../http.js";

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
    h("div", { class: "panel stack" }, byPassword, seldom("I have a code from a message", () => redeemed(session)),
      seldom("I forgot my password", forgot), other)) };
}

/** A form that most people never need: made when it is asked for. */
function seldom(title, make) {
  const element = h("details", { ontoggle: () => {
    if (element.open && element.children.length === 1) element.append(h("div", { class: "spaced" }, make()));
  } }, h("summary", {}, title));
  return element;
}

/** An invitation makes somebody a user; the code of a forgotten password sets a new one. */
function redeemed(session) {
  const code = h("input", { autocomplete: "off", spellcheck: "false", required: true });
  const password = h("input", { type: "password", autocomplete: "new-password", required: true, minlength: 8, maxlength: 256 });
  const element = form("Set the password", [field("Code", code), field("New password", password, { hint: "8 characters or more" })], code, async () => {
    await session.redeem(code.value.trim(), password.value);
    if (!session.isSignedIn) fill(element, h("p", { role: "status" }, "Your password is set. Sign in with it above."));
  });
  return element;
}

function forgot() {
  const email = h("input", { type: "email", autocomplete: "username", required: true });
  const element = form("Send me a code", [field("Your e-mail", email)], email, async () => {
    await exchange("POST", "v1/auth/password-reset", { body: { email: email.value.trim() } });
    fill(element, h("p", { role: "status" }, "If somebody has this address, a message with a code goes there."));
    announce("If somebody has this address, a message with a code goes there.");
  });
  return element;
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
