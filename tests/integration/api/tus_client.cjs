// Uploads a file with the real tus-js-client and says how it goes, a JSON line each: progress, retry, done or failed.
const fs = require("node:fs");
const tus = require("tus-js-client");

const [endpoint, token, path, pieceBytes] = process.argv.slice(2);
const say = (what) => console.log(JSON.stringify(what));
const upload = new tus.Upload(fs.createReadStream(path), {
  endpoint,
  headers: { Authorization: `Bearer ${token}` },
  metadata: { filename: "room.ply", filetype: "model/ply" },
  uploadSize: fs.statSync(path).size,
  chunkSize: Number(pieceBytes),
  retryDelays: Array(40).fill(500),
  onShouldRetry: (error) => {
    say({ said: "retry", why: String(error) });
    return true;
  },
  onChunkComplete: (_, accepted) => say({ said: "accepted", bytes: accepted }),
  onError: (error) => say({ said: "failed", why: String(error) }),
  onSuccess: () => say({ said: "done", url: upload.url }),
});
upload.start();
