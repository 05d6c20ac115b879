/** Scans of rooms: made, ended, exported, and files uploaded so that a cut goes on where the server has it (tus 1.0). */
import type { components } from "./schema.js";

export type Scan = components["schemas"]["Scan"];
export type ScanFile = components["schemas"]["ScanFileItem"];
export type ExportFormat = "json" | "csv" | "ply" | "obj" | "glb" | "pdf" | "points.ply" | "preview.ply";
export interface NewScan { name?: string; device_id?: string; priority?: number }

export interface UploadOptions {
  name: string;
  /** Goes on with an upload of before, of the same bytes. */
  fileId?: string;
  /** Hears how many bytes the server has. */
  told?(bytes: number): void;
  signal?: AbortSignal;
  pieceBytes?: number;
}

const TUS = { "Tus-Resumable": "1.0.0" };
const PIECE_BYTES = 8 * 1024 * 1024;
const MOST_TRIES = 12;
const LONGEST_WAIT_MS = 15_000;

/** What the server refused; `problem` are its problem details. Status 0: it was not reached. */
export class Refused extends Error {
  constructor(readonly status: number, readonly problem: unknown) {
    super(detailOf(problem) ?? (status ? `the server answered ${status}` : "the server cannot be reached"));
  }

  /** Nothing is wrong with the request: it may be sent again. */
  get isPassing(): boolean {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

export class Scans {
  /** `token` is asked before each request. */
  constructor(private readonly baseUrl: string, private readonly token: () => string | Promise<string>) {}

  /** Its id keys the frames; frames of a scan that nobody made make it too. */
  create(wanted: NewScan = {}): Promise<Scan> {
    return this.post("/v1/scans", wanted);
  }

  async read(scanId: string): Promise<Scan> {
    return (await this.ask("GET", scanPath(scanId))).json() as Promise<Scan>;
  }

  /** Another name, or another place among the tenant's own scans that wait. */
  async change(scanId: string, wanted: { name?: string; priority?: number }): Promise<Scan> {
    const headers = { "Content-Type": "application/json" };
    return (await this.ask("PATCH", scanPath(scanId), { headers, body: JSON.stringify(wanted) })).json() as Promise<Scan>;
  }

  /** Forgets it for good, with all that was sent and found; what was metered stays. */
  async erase(scanId: string): Promise<void> {
    await this.ask("DELETE", scanPath(scanId));
  }

  /** Ends it with so many records in all, or with those that came. */
  complete(scanId: string, frames?: number): Promise<Scan> {
    return this.post(scanPath(scanId, "complete"), frames === undefined ? {} : { frames });
  }

  cancel(scanId: string): Promise<Scan> {
    return this.post(scanPath(scanId, "cancel"), {});
  }

  /** Another try for one that failed. */
  retry(scanId: string): Promise<Scan> {
    return this.post(scanPath(scanId, "retry"), {});
  }

  /** A file of the scan; its body can be read as it comes. */
  export(scanId: string, format: ExportFormat, signal?: AbortSignal): Promise<Response> {
    return this.ask("GET", `${scanPath(scanId, "export")}?format=${format}`, { signal });
  }

  /** Uploads a file of a scan that is being received; resolves once the scan has it whole. */
  async upload(scanId: string, file: Blob, options: UploadOptions): Promise<ScanFile> {
    const fileId = options.fileId ?? (await this.begin(scanId, file.size, options)).file_id;
    const path = scanPath(scanId, `files/${encodeURIComponent(fileId)}`);
    let offset: number | null = null, farthest = -1;
    for (let tries = 0; offset === null || offset < file.size;) {
      try {
        offset = offset === null ? await this.offset(path, options.signal) : await this.send(path, file, offset, options);
        options.told?.(offset);
        // Only what brings it on ends a row of failures: a server that tells the offset may still take no piece.
        if (offset > farthest) tries = 0;
        farthest = Math.max(farthest, offset);
      } catch (error) {
        if (!(error instanceof Refused && mayGoOn(error)) || ++tries > MOST_TRIES) throw error;
        offset = null;
        await pause(Math.min(LONGEST_WAIT_MS, 250 * 2 ** tries), options.signal);
      }
    }
    return this.file(scanId, fileId);
  }

  private async begin(scanId: string, size: number, { name, signal }: UploadOptions): Promise<ScanFile> {
    const encoded = btoa(String.fromCharCode(...new TextEncoder().encode(name)));
    const headers = { ...TUS, "Upload-Length": String(size), "Upload-Metadata": `filename ${encoded}` };
    return (await this.ask("POST", scanPath(scanId, "files"), { headers, signal })).json() as Promise<ScanFile>;
  }

  private async offset(path: string, signal?: AbortSignal): Promise<number> {
    return told(await this.ask("HEAD", path, { headers: TUS, signal }));
  }

  private async send(path: string, file: Blob, offset: number, { pieceBytes = PIECE_BYTES, signal }: UploadOptions): Promise<number> {
    const headers = { ...TUS, "Upload-Offset": String(offset), "Content-Type": "application/offset+octet-stream" };
    return told(await this.ask("PATCH", path, { headers, body: file.slice(offset, offset + pieceBytes), signal }));
  }

  private async file(scanId: string, fileId: string): Promise<ScanFile> {
    let cursor: string | null = null;
    do {
      const query: string = cursor === null ? "" : `?cursor=${cursor}`;
      const page = (await (await this.ask("GET", scanPath(scanId, `files${query}`))).json()) as components["schemas"]["ScanFilePage"];
      const found = page.items.find((each) => each.file_id === fileId);
      if (found) return found;
      cursor = page.next;
    } while (cursor !== null);
    throw new Refused(404, null);
  }

  private async post(path: string, body: unknown): Promise<Scan> {
    const headers = { "Content-Type": "application/json" };
    return (await this.ask("POST", path, { headers, body: JSON.stringify(body) })).json() as Promise<Scan>;
  }

  private async ask(method: string, path: string, { headers = {}, ...more }: { headers?: Record<string, string>; body?: BodyInit; signal?: AbortSignal | undefined } = {}): Promise<Response> {
    const authorized = { ...headers, Authorization: `Bearer ${await this.token()}` };
    const { signal, ...rest } = more;
    const response = await fetch(new URL(path, this.baseUrl), { method, headers: authorized, ...rest, ...(signal ? { signal } : {}) }).catch((error: unknown) => {
      if (signal?.aborted) throw error;
      throw new Refused(0, error);
    });
    if (!response.ok) throw new Refused(response.status, await response.json().catch(() => null));
    return response;
  }
}

const scanPath = (scanId: string, more = ""): string => `/v1/scans/${encodeURIComponent(scanId)}${more ? `/${more}` : ""}`;
const detailOf = (problem: unknown): string | undefined => (problem as { detail?: string } | null)?.detail;
const codeOf = (problem: unknown): string | undefined => (problem as { code?: string } | null)?.code;
/** Another offset than the server has can be asked for. */
const mayGoOn = (error: Refused): boolean => error.isPassing || codeOf(error.problem) === "wrong_offset";
/** Ends early with the signal; the next request throws its reason. */
const pause = (milliseconds: number, signal?: AbortSignal): Promise<void> => new Promise((resolve) => {
  const end = (): void => {
    clearTimeout(timer);
    signal?.removeEventListener("abort", end);
    resolve();
  };
  const timer = setTimeout(end, signal?.aborted ? 0 : milliseconds);
  signal?.addEventListener("abort", end);
});
const told = (response: Response): number => Number(response.headers.get("upload-offset"));
