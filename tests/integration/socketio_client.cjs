// The real socket.io-client: subscribes, prints every event as a JSON line; arguments: url, token, subscription as JSON.
const { io } = require("socket.io-client");

const [url, token, subscription] = process.argv.slice(2);
const tell = (name, content) => process.stdout.write(`${JSON.stringify([name, content ?? null])}\n`);
const socket = io(url, { auth: { token }, reconnection: false });

socket.on("connect_error", (error) => { tell("connect_error", error.message); process.exit(0); });
socket.on("disconnect", () => { tell("disconnect"); process.exit(0); });
socket.onAny(tell);
socket.on("ready", () => socket.emit("subscribe", JSON.parse(subscription)));
