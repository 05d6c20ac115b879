// Devices: what publishes, and the secrets that they sign with.
import { announce, asked, cell, complain, confirmed, failure, field, fill, h, loading, readOnly, table } from "../dom.js";
import { ago, count, moment, stateBadge } from "../format.js";
import { nowMs } from "../http.js";
import { shownOnce } from "../secrets.js";

const ONCE = "It is shown this once. Put it into the device now; without it a new one has to be made.";

export function show({ api, feed, session, signal }) {
  const mayWrite = session.may("devices:write");
  const list = h("section", { class: "panel flush", "aria-label": "Devices" }, loading());
  const news = h("div", {});
  const name = h("input", { required: true, maxlength: 200, autocomplete: "off" });

  async function load() {
    try {
      const devices = await api.all("v1/devices", {}, { signal });
      feed.devices = new Map(devices.map((device) => [device.device_id, device]));
      draw(devices);
    } catch (error) {
      if (!signal.aborted) fill(list, failure(error, load));
    }
  }

  function draw(devices) {
    const sensors = Map.groupBy(feed.sensors.values(), (sensor) => sensor.device_id);
    fill(list, devices.length ? table("Devices", [{ name: "Device" }, { name: "State" }, { name: "Sensors", number: true }, { name: "Last reading" }, { name: "Created" }, ...(mayWrite ? [{ name: "" }] : [])],
      [...devices].sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true })).map((device) => row(device, sensors.get(device.device_id) ?? []))) : h("p", { class: "empty" }, "No devices yet."));
  }

  function row(device, sensors) {
    const last = sensors.map((sensor) => sensor.last?.at).filter(Boolean).sort().at(-1);
    return h("tr", {}, h("th", { scope: "row" }, h("strong", {}, device.name), h("div", { class: "muted small" }, h("code", {}, device.device_id))),
      cell("State", stateBadge(feed.stateOfAll(sensors)), "bare"), cell("Sensors", count(sensors.length), "number"), cell("Last reading", last ? ago(last, nowMs()) : "never"), cell("Created", moment(device.created_at)),
      mayWrite ? cell("", [act("Rename", "", () => rename(device), `Rename ${device.name}`), act("New secret", "", () => rotate(device), `New secret for ${device.name}`), act("Revoke", "danger", () => revoke(device), `Revoke ${device.name}`)], "actions") : null);
  }

  const act = (verb, kind, work, spoken) => h("button", { type: "button", class: `small ${kind}`, "aria-label": spoken, onclick: work }, verb);
  const path = (device) => `v1/devices/${encodeURIComponent(device.device_id)}`;

  async function rename(device) {
    const name = await asked(`Rename “${device.name}”`, "Name", device.name, "Rename");
    if (name) await attempt(() => api.patch(path(device), { name }), "Renamed.");
  }

  async function revoke(device) {
    const text = "Within seconds nothing that it sends is believed, for good. What it sent stays, and so do its sensors.";
    if (await confirmed(`Revoke “${device.name}”?`, text, "Revoke")) await attempt(() => api.delete(path(device)), "Revoked.");
  }

  async function attempt(work, done) {
    try {
      await work();
      announce(done);
      await load();
    } catch (error) {
      fill(news, failure(error, null));
    }
  }

  async function rotate(device) {
    const text = "The secret that the device has now holds for another day, so that it can be replaced without a gap. Then only the new one is taken.";
    if (!(await confirmed(`A new secret for “${device.name}”?`, text, "Make a new secret"))) return;
    try {
      showSecret(device.name, await api.post(`${path(device)}/secrets`, {}));
    } catch (error) {
      fill(news, failure(error, null));
    }
  }

  function showSecret(deviceName, answer) {
    fill(news, shownOnce(`Secret of ${deviceName}`, answer.secret, ONCE));
    announce("The new secret is shown above the list.");
    news.querySelector(".secret").focus();
  }

  const create = h("form", { class: "panel row", onsubmit: async (event) => {
    event.preventDefault();
    complain(name, "");
    try {
      const device = await api.post("v1/devices", { name: name.value.trim() });
      showSecret(device.name, device);
      name.value = "";
      load();
    } catch (error) {
      complain(name, error.message);
      name.focus();
    }
  } }, h("div", { class: "grow" }, field("Name of the new device", name)), h("button", { class: "primary" }, "Create device"));
  load();
  return { title: "Devices", node: h("div", { class: "stack" }, h("div", {}, h("h1", {}, "Devices"), h("p", { class: "muted" }, "What publishes readings. A device's sensors appear when it first sends them."), mayWrite ? null : readOnly(session, "devices")), news, mayWrite ? create : null, list) };
}
