// Who is signed in. Access tokens and API keys live in this module's memory only; the refresh token is a cookie that no
// script can read (docs/decisions tells why). Tabs share the cookie, so they renew one after the other.
import { exchange } from "./http.js";

const SESSION = "dashboard/session";
const EARLY_MS = 60_000;
const INVITATION = "weir_invite_";

export class Session extends EventTarget {
  #token = null;
  #endsMs = Infinity;
  #renewable = false;
  #renewing = null;
  #rights = new Set();
  /** Who it is, as the server says: `subject_id`, and of a person `email`, `name`, `role`. */
  me = {};

  /** Takes what the server says about who is signed in; true if that changes what they may do. */
  learn(me) {
    const before = this.#rights;
    this.me = me;
    this.#rights = new Set(me.permissions);
    return before.size !== this.#rights.size || me.permissions.some((each) => !before.has(each));
  }

  /** Whether whoever is signed in may do something. Only the server decides; the page leaves out what it would refuse. */
  may(permission) {
    return this.#rights.has(permission);
  }

  get isSignedIn() {
    return this.#token !== null;
  }

  get isUser() {
    return this.#renewable;
  }

  /** Goes on with the session of an earlier visit, if the browser still has one. */
  async resume() {
    return this.#renew().then(() => this.isSignedIn, () => false);
  }

  async signInWithPassword(email, password) {
    this.#take(await exchange("POST", SESSION, { body: { email, password } }));
  }

  async signInWithKey(key) {
    await exchange("GET", "v1/sensors?limit=1", { token: key });
    this.#token = key;
    this.#endsMs = Infinity;
    this.#renewable = false;
    this.dispatchEvent(new Event("change"));
  }

  /** The credential to send; renewed when it is about to end. */
  async token() {
    if (this.#renewable && Date.now() > this.#endsMs - EARLY_MS) await this.#renew().catch(() => {});
    return this.#token;
  }

  /** Another credential after `refused` was not taken; null (and signed out) if there is none. */
  async renewed(refused) {
    if (this.#token !== refused) return this.#token;
    try {
      if (this.#renewable) {
        await this.#renew();
        return this.#token;
      }
    } catch (error) {
      if (error.isPassing) return null;
    }
    this.#end("Your session has ended; sign in again.");
    return null;
  }

  /** Makes a user of an invitation, or sets a forgotten password; both codes come by message and work once. */
  async redeem(code, password) {
    if (!code.startsWith(INVITATION)) {
      await exchange("POST", "v1/auth/password-reset/confirm", { body: { token: code, password } });
      return;
    }
    const { access_token: token } = await exchange("POST", "v1/auth/invitations/accept", { body: { token: code, password } });
    const me = await exchange("GET", "v1/auth/me", { token });
    // That session's refresh token was in reach of scripts; the page's own is not.
    await exchange("POST", "v1/auth/logout", { token });
    await this.signInWithPassword(me.email, password);
  }

  async signOut() {
    if (this.#renewable) await exchange("DELETE", SESSION, { token: this.#token }).catch(() => {});
    this.#end("");
  }

  #renew() {
    this.#renewing ??= oneTabAtATime(() => exchange("POST", `${SESSION}/refresh`, { body: {} }))
      .then((answer) => this.#take(answer))
      .finally(() => { this.#renewing = null; });
    return this.#renewing;
  }

  #take(answer) {
    // The browser has no session: nobody was signed in, or the cookie has ended.
    if (answer === null) return this.#token === null ? undefined : this.#end("Your session has ended; sign in again.");
    const began = this.#token === null;
    this.#token = answer.access_token;
    this.#endsMs = Date.now() + answer.expires_in * 1000;
    this.#renewable = true;
    if (began) this.dispatchEvent(new Event("change"));
  }

  #end(reason) {
    this.#token = null;
    this.#renewable = false;
    this.me = {};
    this.#rights = new Set();
    this.dispatchEvent(new CustomEvent("change", { detail: reason }));
  }
}

function oneTabAtATime(work) {
  return navigator.locks ? navigator.locks.request("weir.session", work) : work();
}
