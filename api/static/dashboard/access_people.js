// The part of the page “Access” about people: who there is, what they are, and who is invited.
import { announce, cell, complain, confirmed, failure, field, fill, h, loading, select, table } from "./dom.js";
import { badge, capital, moment } from "./format.js";

const ROLES = ["owner", "manager", "staff", "viewer", "inspector"];
const INVITED_AS = { owner: "Owner: everything", manager: "Manager: everything but billing", staff: "Staff: handle alerts", viewer: "Viewer: look only", inspector: "Inspector: look only" };

export function people({ api, session, signal }) {
  const mayWrite = session.may("users:write");
  // Nobody gives a role that may do more than their own; a key with all rights gives each.
  const given = session.me.role ? ROLES.slice(ROLES.indexOf(session.me.role)) : ROLES;
  const users = h("div", {}, loading());
  const invited = h("div", {});
  const news = h("div", {});

  async function load() {
    try {
      const [everybody, waiting] = await Promise.all(["v1/users", "v1/auth/invitations"].map((path) => api.all(path, {}, { signal })));
      fill(users, table("People", columns(["Name", "Role", "Last signed in", "Since"]), everybody.map(person)));
      fill(invited, waiting.length ? [h("h3", { class: "panel-head" }, "Invited"), table("Invitations that wait", columns(["E-mail", "Role", "Until"]), waiting.map(invitation))] : null);
    } catch (error) {
      if (!signal.aborted) fill(users, failure(error, load));
    }
  }

  const columns = (names) => [...names, ...(mayWrite ? [""] : [])].map((name) => ({ name }));

  function person(user) {
    const name = user.name || user.email, isMe = user.user_id === session.me.subject_id;
    const mayChange = mayWrite && !isMe && given.includes(user.role);
    return h("tr", {},
      h("th", { scope: "row" }, h("strong", {}, name), isMe ? " (you)" : null, user.name ? h("div", { class: "muted small" }, user.email) : null),
      cell("Role", mayChange ? roleChoice(user, name) : badge("", null, capital(user.role))),
      cell("Last signed in", user.last_login_at ? moment(user.last_login_at) : "never"), cell("Since", moment(user.created_at)),
      mayWrite ? cell("", mayChange ? h("button", { type: "button", class: "small danger", "aria-label": `Remove ${name}`, onclick: () => remove(user, name) }, "Remove") : null, "actions") : null);
  }

  function roleChoice(user, name) {
    return select(named(given), user.role, { "aria-label": `Role of ${name}`, onchange: (event) => attempt(
      () => api.patch(`v1/users/${encodeURIComponent(user.user_id)}`, { role: event.currentTarget.value }), `${name} has another role.`) });
  }

  function invitation(each) {
    return h("tr", {}, h("th", { scope: "row" }, each.name || each.email, each.name ? h("div", { class: "muted small" }, each.email) : null),
      cell("Role", badge("", null, capital(each.role))), cell("Until", moment(each.expires_at)),
      mayWrite ? cell("", h("button", { type: "button", class: "small", "aria-label": `Take back the invitation of ${each.email}`, onclick: () => attempt(
        () => api.delete(`v1/auth/invitations/${encodeURIComponent(each.invitation_id)}`), "The invitation is taken back.") }, "Take back"), "actions") : null);
  }

  async function remove(user, name) {
    if (!(await confirmed(`Remove ${name}?`, "They are signed out within seconds and cannot sign in again.", "Remove"))) return;
    await attempt(() => api.delete(`v1/users/${encodeURIComponent(user.user_id)}`), `${name} is removed.`);
  }

  /** Does it, says so, and shows how things stand then, whether it worked or not. */
  async function attempt(work, done) {
    fill(news);
    try {
      await work();
      announce(done);
    } catch (error) {
      fill(news, failure(error, null));
    }
    await load();
  }

  load();
  return h("section", { class: "panel flush", "aria-label": "People" }, h("h2", {}, "People"), news, users, invited, mayWrite ? inviteForm(api, given, load) : null);
}

const named = (roles) => roles.map((each) => [each, capital(each)]);

function inviteForm(api, given, invited) {
  const email = h("input", { type: "email", required: true, maxlength: 254, autocomplete: "off" });
  const name = h("input", { maxlength: 200, autocomplete: "off" });
  const role = select(given.map((each) => [each, INVITED_AS[each]]), given.includes("staff") ? "staff" : given[0]);
  return h("form", { class: "filters panel-head", "aria-label": "Invite somebody", onsubmit: async (event) => {
    event.preventDefault();
    complain(email, "");
    try {
      await api.post("v1/auth/invitations", { email: email.value.trim(), role: role.value, ...(name.value.trim() ? { name: name.value.trim() } : {}) });
      announce(`${email.value.trim()} is invited. A message with a code, good for seven days, goes there.`);
      email.value = name.value = "";
      await invited();
    } catch (error) {
      complain(email, error.message);
      email.focus();
    }
  } }, h("div", { class: "grow" }, field("E-mail of whom you invite", email)), field("Name (may be left out)", name), field("Role", role), h("button", { class: "primary" }, "Invite"));
}
