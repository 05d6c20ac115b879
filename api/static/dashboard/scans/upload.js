// Sends a file in pieces (tus 1.0) and goes on where the server has it, whatever breaks on the way.

const PIECE_BYTES = 8 * 1024 * 1024;
const MOST_TRIES = 12;
const LONGEST_WAIT_MS = 15_000;
const TUS = { "Tus-Resumable": "1.0.0" };

/** Begins an upload to a scan; its file's id. */
export async function begin(api, scanId, file) {
  const name = btoa(String.fromCharCode(...new TextEncoder().encode(file.name)));
  const response = await api.raw("POST", filesOf(scanId), { headers: { ...TUS, "Upload-Length": String(file.size), "Upload-Metadata": `filename ${name}` } });
  return (await response.json()).file_id;
}

/** Sends what the server does not have yet; `told` hears how many bytes it has. Rejects when it cannot go on. */
export async function send(api, scanId, fileId, file, { told = () => {}, signal } = {}) {
  const path = `${filesOf(scanId)}/${encodeURIComponent(fileId)}`;
  let offset = null, tries = 0;
  while (offset === null || offset < file.size) {
    try {
      if (offset === null) offset = await offsetOf(api, path, signal);
      told(offset);
      if (offset >= file.size) return;
      offset = await patch(api, path, file, offset, signal);
      tries = 0;
    } catch (error) {
      if (signal?.aborted || !(error.isPassing || error.code === "wrong_offset") || ++tries > MOST_TRIES) throw error;
      offset = null;
      await new Promise((resolve) => { setTimeout(resolve, Math.min(LONGEST_WAIT_MS, 250 * 2 ** tries)); });
    }
    told(offset ?? 0);
  }
}

/** Ends an upload that was begun. */
export const forget = (api, scanId, fileId) => api.raw("DELETE", `${filesOf(scanId)}/${encodeURIComponent(fileId)}`, { headers: TUS });

const filesOf = (scanId) => `v1/scans/${encodeURIComponent(scanId)}/files`;
const told = (response) => Number(response.headers.get("upload-offset"));

async function offsetOf(api, path, signal) {
  return told(await api.raw("HEAD", path, { headers: TUS, signal }));
}

async function patch(api, path, file, offset, signal) {
  const headers = { ...TUS, "Upload-Offset": String(offset), "Content-Type": "application/offset+octet-stream" };
  return told(await api.raw("PATCH", path, { headers, body: file.slice(offset, offset + PIECE_BYTES), signal }));
}
