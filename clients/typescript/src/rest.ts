/** Reading from the REST API with the types of its OpenAPI document. */
import type { paths } from "./schema.js";

/** Paths that can be read. */
export type GetPath = { [P in keyof paths]: paths[P] extends { get: { responses: { 200: unknown } } } ? P : never }[keyof paths];

type Operation<P extends GetPath> = paths[P] extends { get: infer G } ? G : never;
type Parameters_<P extends GetPath> = Operation<P> extends { parameters: infer A } ? A : never;

/** What may stand in the query of a path. */
export type Query<P extends GetPath> = Parameters_<P> extends { query?: infer Q } ? Q : never;

/** What stands in braces in a path. */
export type PathParameters<P extends GetPath> = Parameters_<P> extends { path: infer A } ? A : Record<string, never>;

/** The body that a path answers with. */
export type Answer<P extends GetPath> =
  Operation<P> extends { responses: { 200: { content: { "application/json": infer A } } } } ? A : never;

/** Reads a path; rejects with the server's problem details if it does not answer 200. */
export async function get<P extends GetPath>(
  baseUrl: string,
  token: string,
  path: P,
  options: { path?: PathParameters<P>; query?: Query<P>; signal?: AbortSignal } = {},
): Promise<Answer<P>> {
  const filled = (path as string).replace(/\{(\w+)\}/g, (_, name: string) =>
    encodeURIComponent(String((options.path as Record<string, unknown> | undefined)?.[name] ?? "")));
  const url = new URL(filled, baseUrl);
  for (const [name, value] of Object.entries(options.query ?? {})) {
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== undefined && each !== null) url.searchParams.append(name, String(each));
    }
  }
  const response = await fetch(url, { headers: { Authorization: `Bearer ${token}` }, signal: options.signal ?? null });
  if (response.ok) return (await response.json()) as Answer<P>;
  // A proxy's own refusal is no JSON.
  const problem: unknown = await response.json().catch(() => null);
  throw Object.assign(new Error(`${response.status} ${url.pathname}`), { status: response.status, problem });
}
