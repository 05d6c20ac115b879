// Requests to the REST API of the same origin; failures are the server's problem details (RFC 9457).

const TIMEOUT_MS = 20_000;
const FILE_TIMEOUT_MS = 600_000;

export class ApiError extends Error {
  constructor(status, problem = {}) {
    super(problem.detail || (status ? `The server answered ${status}.` : "The server cannot be reached."));
    this.status = status;
    this.code = problem.code ?? "";
    this.errors = problem.errors ?? [];
  }

  /** Nothing is wrong with the request: it may be sent again. */
  get isPassing() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

let skewMs = 0;

/** The server's time: what a reading's age is measured against. */
export const nowMs = () => Date.now() + skewMs;

/** One exchange; resolves to the parsed body, null without one. */
export async function exchange(method, path, { body, headers = {}, ...options } = {}) {
  const json = body === undefined ? { headers } : { headers: { ...headers, "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const response = await respond(method, path, { ...options, ...json });
  if (response.status === 204) return null;
  return response.json().catch((error) => {
    if (error instanceof SyntaxError) return null;
    throw options.signal?.aborted ? error : new ApiError(0); // Cut in the middle of its answer.
  });
}

/** One exchange of whatever bytes; resolves to the response if it is a good one. */
async function respond(method, path, { token = null, body, headers = {}, signal, timeoutMs = TIMEOUT_MS } = {}) {
  const timeout = AbortSignal.timeout(timeoutMs);
  const options = { method, body, cache: "no-store", signal: signal ? AbortSignal.any([signal, timeout]) : timeout };
  options.headers = { ...headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0);
  }
  learnTime(response.headers.get("date"));
  if (!response.ok) throw new ApiError(response.status, (await response.json().catch(() => null)) ?? {});
  return response;
}

function learnTime(date) {
  const server = Date.parse(date ?? "");
  if (!Number.isFinite(server)) return;
  // The header has whole seconds: only a difference beyond them is one.
  const difference = server + 500 - Date.now();
  skewMs = Math.abs(difference) > 2_000 ? difference : 0;
}

/** The API as one viewer sees it. */
export class Api {
  constructor(session) {
    this.session = session;
  }

  call(method, path, options = {}) {
    return this.#asked((token) => exchange(method, path, { ...options, token }));
  }

  /** For files: the response itself, which may take minutes. */
  raw(method, path, options = {}) {
    return this.#asked((token) => respond(method, path, { timeoutMs: FILE_TIMEOUT_MS, ...options, token }));
  }

  async #asked(ask) {
    const token = await this.session.token();
    try {
      return await ask(token);
    } catch (error) {
      // What was allowed when the page was drawn is not any more.
      if (error.code === "missing_permission") this.session.dispatchEvent(new Event("refused"));
      if (error.status !== 401) throw error;
      const renewed = await this.session.renewed(token);
      if (!renewed) throw error;
      return ask(renewed);
    }
  }

  get(path, parameters = {}, signal = undefined) {
    return this.call("GET", withQuery(path, parameters), { signal });
  }

  post(path, body = {}) {
    return this.call("POST", path, { body });
  }

  patch(path, body) {
    return this.call("PATCH", path, { body });
  }

  delete(path) {
    return this.call("DELETE", path);
  }

  /** All items of a list, page after page, up to a number that a page can show. */
  async all(path, parameters = {}, { most = 20_000, signal } = {}) {
    const items = [];
    let cursor = null;
    do {
      const page = await this.get(path, { ...parameters, cursor }, signal);
      items.push(...page.items);
      cursor = page.next;
    } while (cursor && items.length < most);
    return items;
  }
}

export function withQuery(path, parameters) {
  const given = Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}
