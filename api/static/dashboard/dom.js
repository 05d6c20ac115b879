// Elements from plain calls. Text is only ever a text node: nothing from the server is parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";

/** An element; `on…` are listeners, `data` its data attributes, null and false attributes are left out. */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function s(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Replaces what an element holds. Who was told the page's heading stays at it, when it becomes what was waited for. */
export function fill(element, ...children) {
  const wasAtHeading = document.activeElement?.tagName === "H1" && element.contains(document.activeElement);
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  if (wasAtHeading) focusHeading(element);
  return element;
}

/** Puts whoever listens at the heading of a page. */
export function focusHeading(place) {
  const heading = place.querySelector("h1");
  heading?.setAttribute("tabindex", "-1");
  heading?.focus();
}

let counter = 0;

/** A label with its field, hint and a place for what the server says is wrong with it. */
export function field(label, control, { hint = null, wide = false, part = null } = {}) {
  const id = control.id || `field-${++counter}`;
  control.id = id;
  const wrong = h("p", { class: "wrong", id: `${id}-wrong`, hidden: true });
  const described = [hint ? `${id}-hint` : null, `${id}-wrong`].filter(Boolean).join(" ");
  control.setAttribute("aria-describedby", described);
  if (part) control.dataset.part = part;
  return h("div", { class: wide ? "wide" : null },
    h("label", { for: id }, label), control,
    hint ? h("p", { class: "hint", id: `${id}-hint` }, hint) : null, wrong);
}

/** Shows a message at a field, or takes it away. */
export function complain(control, message) {
  const place = document.getElementById(`${control.id}-wrong`);
  if (message) control.setAttribute("aria-invalid", "true");
  else control.removeAttribute("aria-invalid");
  if (place) {
    place.textContent = message || "";
    place.hidden = !message;
  }
}

export function select(options, value, attributes = {}) {
  return h("select", attributes, options.map(([key, text]) => h("option", { value: key, selected: key === value }, text)));
}

/** A row of buttons of which one is pressed; options are [value, text, what is read out after the text]. */
export function choices(label, options, value, chosen) {
  const buttons = options.map(([key, text, spoken]) => h("button", {
    type: "button", "aria-label": spoken ? `${text}: ${spoken}` : null, "aria-pressed": String(key === value), data: { value: key },
    onclick: () => {
      for (const each of buttons) each.setAttribute("aria-pressed", String(each.dataset.value === key));
      chosen(key);
    },
  }, text));
  return h("div", { class: "choices", role: "group", "aria-label": label }, buttons);
}

/** A table whose cells carry their column's name, so that it can become cards on a narrow screen. */
export function table(caption, columns, rows) {
  return h("div", { class: "scroll" }, h("table", { class: "cards" },
    h("caption", { class: "unseen" }, caption),
    h("thead", {}, h("tr", {}, columns.map((column) => h("th", { scope: "col", class: column.number ? "number" : null }, column.name || h("span", { class: "unseen" }, "What can be done"))))),
    h("tbody", {}, rows)));
}

export function cell(label, content, kind = null) {
  return h("td", { "data-label": label, class: kind }, content);
}

/** For those who may look at a page but not change what it shows. */
export const readOnly = (session, what) => h("p", { class: "muted small" }, `${session.me.role ? `Your role, ${session.me.role},` : "This API key"} may look at ${what}, not change them.`);

export const loading = () => h("p", { class: "empty", role: "status" }, "Loading…");

/** What went wrong, and another try. */
export function failure(error, again) {
  return h("div", { class: "notice", "data-tone": "alert", role: "alert" },
    h("p", {}, error.status === 404 && error.code === "not_found" ? "This server does not have it." : error.message),
    error.status === 402 ? h("p", {}, h("a", { href: "#/usage" }, "Plan and quotas")) : null,
    again ? h("p", { class: "row" }, h("button", { type: "button", onclick: again }, "Try again")) : null);
}

/** Asks before something that cannot be undone; resolves to whether it was confirmed. */
export async function confirmed(title, text, verb) {
  return (await answered(title, h("p", {}, text), verb, "danger")) !== null;
}

/** Asks for a text, with the one that there is; resolves to the new one, null if there is none. */
export async function asked(title, label, value, verb, most = 128) {
  const control = h("input", { value, required: true, maxlength: most, autocomplete: "off" });
  const answer = await answered(title, field(label, control), verb, "primary");
  const text = control.value.trim();
  return answer === null || !text || text === value ? null : text;
}

/** A dialog that resolves to null if it is left in any other way than by its verb. */
function answered(title, content, verb, kind) {
  return new Promise((resolve) => {
    const dialog = h("dialog", { "aria-labelledby": "dialog-title" },
      h("form", { method: "dialog", class: "stack" },
        h("h2", { id: "dialog-title" }, title), content,
        h("div", { class: "row" }, h("span", { class: "grow" }),
          // Enter in a field takes the first button that submits: that is the verb, and Cancel submits nothing.
          h("button", { type: "button", onclick: () => dialog.close("") }, "Cancel"), h("button", { value: "yes", class: kind }, verb))));
    dialog.addEventListener("close", () => {
      resolve(dialog.returnValue === "yes" ? true : null);
      dialog.remove();
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** A dialog with fields that stays until `save` has worked; what is refused is told at its field. Resolves to whether it was saved. */
export function edited(title, fields, controls, save) {
  return new Promise((resolve) => {
    const button = h("button", { class: "primary" }, "Save");
    const dialog = h("dialog", { "aria-labelledby": "dialog-title" }, h("form", { class: "stack", onsubmit: async (event) => {
      event.preventDefault();
      controls.forEach((control) => complain(control, ""));
      button.disabled = true;
      try {
        await save();
        dialog.close("saved");
      } catch (error) {
        const path = error.errors?.[0]?.parameter?.split(".")[0];
        const wrong = controls.find((control) => control.dataset.part === path) ?? controls[0];
        complain(wrong, error.message);
        wrong.focus();
      } finally {
        button.disabled = false;
      }
    } }, h("h2", { id: "dialog-title" }, title), fields,
      h("div", { class: "row" }, h("span", { class: "grow" }), h("button", { type: "button", onclick: () => dialog.close("") }, "Cancel"), button)));
    dialog.addEventListener("close", () => {
      resolve(dialog.returnValue === "saved");
      dialog.remove();
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Says something to people who listen rather than look. */
export function announce(text, urgent = false) {
  document.getElementById(urgent ? "announce-now" : "announce").textContent = text;
}
