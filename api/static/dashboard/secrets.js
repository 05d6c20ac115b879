// A credential that the server shows this once.
import { announce, fill, h } from "./dom.js";

/** A notice with the secret, to copy and to put away. */
export function shownOnce(title, secret, explanation) {
  const copy = h("button", { type: "button", class: "small", onclick: async () => {
    try {
      await navigator.clipboard.writeText(secret);
      fill(copy, "Copied");
      announce("Copied.");
    } catch {
      fill(copy, "Select and copy it by hand");
    }
  } }, "Copy");
  const element = h("div", { class: "notice stack", "data-tone": "ok", role: "status" },
    h("p", {}, h("strong", {}, title)), h("code", { class: "secret", tabindex: 0 }, secret), h("p", { class: "small" }, explanation),
    h("div", { class: "row" }, copy, h("button", { type: "button", class: "small", onclick: () => element.remove() }, "I have put it away")));
  return element;
}
