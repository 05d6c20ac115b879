// A cloud or a mesh to look around in: WebGL 2, turned by dragging, arrow keys and buttons. Metres, z is up.
import { h } from "../dom.js";

const VERTEX = `#version 300 es
in vec3 place; in vec3 tint;
uniform mat4 view; uniform float dot_size;
out vec3 shade; out vec3 where_;
void main() {
  gl_Position = view * vec4(place, 1.0);
  gl_PointSize = clamp(dot_size / gl_Position.w, 1.5, 9.0);
  shade = tint; where_ = place;
}`;
const FRAGMENT = `#version 300 es
precision highp float;
in vec3 shade; in vec3 where_;
uniform float cut; uniform bool is_mesh;
out vec4 colour;
void main() {
  if (where_.z > cut) discard;
  float light = 1.0;
  if (is_mesh) light = 0.62 + 0.38 * abs(dot(normalize(cross(dFdx(where_), dFdy(where_))), normalize(vec3(0.35, 0.55, 0.76))));
  colour = vec4(shade * light, 1.0);
}`;
const FIELD_OF_VIEW = 0.8;
const STEP = Math.PI / 24;
const NEAR_M = 0.05, FAR_M = 500;

export class Scene {
  #canvas;
  #gl;
  #program = null;
  #what = null;
  #camera = { turn: -0.9, tilt: 0.85, distance: 10, center: [0, 0, 0] };
  #cut = Infinity;
  #isZoomed = false;
  #frame = 0;
  #resizing;
  element;

  /** `label` says what it shows to those who do not see it. */
  constructor(label) {
    this.#canvas = h("canvas", { class: "scene", role: "img", tabindex: 0, "aria-label": label });
    this.#gl = this.#canvas.getContext("webgl2", { antialias: true });
    this.element = h("div", { class: "stack" }, this.#gl ? [this.#canvas, this.#tools()] : h("p", { class: "empty" }, "This browser has no WebGL; the files below can be opened elsewhere."));
    if (!this.#gl) return;
    this.#canvas.addEventListener("pointerdown", this.#grab);
    this.#canvas.addEventListener("keydown", this.#press);
    this.#canvas.addEventListener("wheel", this.#roll, { passive: false });
    // A page in the background may lose its context; it is drawn anew when it is back.
    this.#canvas.addEventListener("webglcontextlost", (event) => { event.preventDefault(); this.#program = null; });
    this.#canvas.addEventListener("webglcontextrestored", () => this.#what && this.show(this.#what));
    this.#resizing = new ResizeObserver(() => this.#draw());
    this.#resizing.observe(this.#canvas);
  }

  set label(text) {
    this.#canvas.setAttribute("aria-label", text);
  }

  /** Shows `{ positions, colours, triangles }`, from where all of it is seen unless somebody came nearer; anew after `reset`. */
  show(what, reset = false) {
    const isFirst = this.#what === null || reset;
    this.#what = what;
    if (!this.#gl) return;
    if (this.#gl.isContextLost()) return;
    this.#program ??= program(this.#gl);
    const box = bounds(what.positions);
    upload(this.#gl, this.#program, what, box);
    this.#heights = [box.low[2], box.high[2]];
    this.#slider.disabled = what.positions.length === 0;
    if (isFirst) this.#isZoomed = false;
    this.#lookAt(box);
    // A cloud is seen through from above, but for its ceiling.
    if (!this.#slider.dataset.touched) this.#slider.value = what.triangles.length ? 100 : 88;
    this.#takeCut();
  }

  dispose() {
    this.#resizing?.disconnect();
    cancelAnimationFrame(this.#frame);
    this.#gl?.getExtension("WEBGL_lose_context")?.loseContext();
  }

  #heights = [0, 1];
  #slider = h("input", { type: "range", min: 5, max: 100, value: 100, step: 1, oninput: () => { this.#slider.dataset.touched = "yes"; this.#takeCut(); } });

  #tools() {
    const button = (name, spoken, act) => h("button", { type: "button", class: "small", "aria-label": spoken, title: spoken, onclick: () => { act(); this.#draw(); } }, name);
    this.#slider.id = "scene-cut";
    return h("div", { class: "row scene-tools" },
      button("⟲", "Turn left", () => { this.#camera.turn -= 2 * STEP; }), button("⟳", "Turn right", () => { this.#camera.turn += 2 * STEP; }),
      button("+", "Nearer", () => this.#zoom(0.8)), button("−", "Farther", () => this.#zoom(1.25)),
      button("Top", "From above", () => { this.#camera.tilt = Math.PI / 2; }), button("Side", "From the side", () => { this.#camera.tilt = 0.35; }),
      h("span", { class: "row cut" }, h("label", { for: "scene-cut" }, "Cut at height"), this.#slider));
  }

  #takeCut() {
    const [low, high] = this.#heights;
    const share = Number(this.#slider.value) / 100;
    this.#cut = share >= 1 ? Infinity : low + (high - low) * share;
    this.#slider.setAttribute("aria-valuetext", share >= 1 ? "nothing is cut off" : `${((high - low) * share).toFixed(2)} m above the floor`);
    this.#draw();
  }

  /** What grows, or is laid straight once its walls are known, stays in the middle. */
  #lookAt({ low, high }) {
    const size = Math.hypot(...high.map((value, axis) => value - low[axis])) || 1;
    this.#camera.center = low.map((value, axis) => (value + high[axis]) / 2);
    if (!this.#isZoomed) this.#camera.distance = size / 2 / Math.sin(FIELD_OF_VIEW / 2);
  }

  #zoom(factor) {
    this.#isZoomed = true;
    this.#camera.distance = Math.min(Math.max(this.#camera.distance * factor, 0.3), FAR_M / 2);
  }

  #turnBy(turn, tilt) {
    this.#camera.turn += turn;
    this.#camera.tilt = Math.min(Math.max(this.#camera.tilt + tilt, -Math.PI / 2), Math.PI / 2);
    this.#draw();
  }

  /** One pointer turns it: the main button's, the first finger's. */
  #grab = (event) => {
    if (!event.isPrimary || event.button !== 0) return;
    let [x, y] = [event.clientX, event.clientY];
    const ended = new AbortController();
    this.#canvas.setPointerCapture(event.pointerId);
    this.#canvas.addEventListener("pointermove", (moved) => {
      if (moved.pointerId !== event.pointerId) return;
      this.#turnBy((x - moved.clientX) / 160, (moved.clientY - y) / 160);
      [x, y] = [moved.clientX, moved.clientY];
    }, { signal: ended.signal });
    // However it ends, or the picture would go on turning with nothing pressed.
    for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) this.#canvas.addEventListener(name, () => ended.abort(), { signal: ended.signal });
  };

  #press = (event) => {
    const acts = {
      ArrowLeft: () => this.#turnBy(-STEP, 0), ArrowRight: () => this.#turnBy(STEP, 0), ArrowUp: () => this.#turnBy(0, STEP), ArrowDown: () => this.#turnBy(0, -STEP),
      "+": () => this.#zoom(0.8), "=": () => this.#zoom(0.8), "-": () => this.#zoom(1.25),
    };
    if (!acts[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    acts[event.key]();
    this.#draw();
  };

  /** The wheel scrolls the page, unless the picture has the focus. */
  #roll = (event) => {
    if (document.activeElement !== this.#canvas) return;
    event.preventDefault();
    this.#zoom(event.deltaY > 0 ? 1.1 : 0.9);
    this.#draw();
  };

  #draw() {
    cancelAnimationFrame(this.#frame);
    this.#frame = requestAnimationFrame(() => this.#paint());
  }

  #paint() {
    const gl = this.#gl, canvas = this.#canvas;
    if (!this.#program || gl.isContextLost()) return;
    const scale = Math.min(devicePixelRatio || 1, 2);
    const [width, height] = [Math.max(1, Math.round(canvas.clientWidth * scale)), Math.max(1, Math.round(canvas.clientHeight * scale))];
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    gl.viewport(0, 0, width, height);
    gl.enable(gl.DEPTH_TEST);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    const { uniforms, count, triangles } = this.#program;
    gl.uniformMatrix4fv(uniforms.view, false, viewMatrix(this.#camera, width / height));
    gl.uniform1f(uniforms.cut, Number.isFinite(this.#cut) ? this.#cut : 1e30);
    gl.uniform1f(uniforms.dot_size, height * 0.035);
    gl.uniform1i(uniforms.is_mesh, triangles ? 1 : 0);
    // Walls that are seen from outside are left out, so that a room can be looked into.
    (triangles ? gl.enable : gl.disable).call(gl, gl.CULL_FACE);
    if (triangles) gl.drawElements(gl.TRIANGLES, triangles, gl.UNSIGNED_INT, 0);
    else gl.drawArrays(gl.POINTS, 0, count);
    canvas.dataset.drawn = String(triangles / 3 || count);
  }
}

function program(gl) {
  const made = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(made, shader);
  }
  gl.linkProgram(made);
  gl.useProgram(made);
  const uniforms = Object.fromEntries(["view", "cut", "dot_size", "is_mesh"].map((name) => [name, gl.getUniformLocation(made, name)]));
  const buffers = { place: gl.createBuffer(), tint: gl.createBuffer(), triangles: gl.createBuffer() };
  return { made, uniforms, buffers, count: 0, triangles: 0 };
}

function upload(gl, target, { positions, colours, triangles }, box) {
  const attribute = (name, data, type, normalized) => {
    const location = gl.getAttribLocation(target.made, name);
    gl.bindBuffer(gl.ARRAY_BUFFER, target.buffers[name]);
    gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
    gl.enableVertexAttribArray(location);
    gl.vertexAttribPointer(location, 3, type, normalized, 0, 0);
  };
  attribute("place", positions, gl.FLOAT, false);
  attribute("tint", colours ?? byHeight(positions, box), gl.UNSIGNED_BYTE, true);
  gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, target.buffers.triangles);
  gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, triangles, gl.STATIC_DRAW);
  gl.frontFace(facesInward(positions, triangles, box) ? gl.CCW : gl.CW);
  target.count = positions.length / 3;
  target.triangles = triangles.length;
}

function bounds(positions) {
  const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
  for (let n = 0; n < positions.length; n++) {
    const axis = n % 3;
    if (positions[n] < low[axis]) low[axis] = positions[n];
    if (positions[n] > high[axis]) high[axis] = positions[n];
  }
  return positions.length ? { low, high } : { low: [0, 0, 0], high: [1, 1, 1] };
}

/** Blue at the floor, ochre under the ceiling; seen on light and dark ground alike. */
function byHeight(positions, { low, high }) {
  const [from, to] = [[46, 108, 160], [196, 150, 62]];
  const colours = new Uint8Array(positions.length);
  for (let n = 0; n < positions.length; n += 3) {
    const share = (positions[n + 2] - low[2]) / (high[2] - low[2] || 1);
    for (let k = 0; k < 3; k++) colours[n + k] = from[k] + (to[k] - from[k]) * share;
  }
  return colours;
}

/** Whether the corners run counter-clockwise when looked at from within. */
function facesInward(positions, triangles, { low, high }) {
  const center = low.map((value, axis) => (value + high[axis]) / 2);
  const at = (n, axis) => positions[triangles[n] * 3 + axis];
  let inward = 0;
  const stride = 3 * Math.max(1, Math.floor(triangles.length / 3 / 5_000));
  for (let n = 0; n < triangles.length; n += stride) {
    const [a, b] = [1, 2].map((k) => [0, 1, 2].map((axis) => at(n + k, axis) - at(n, axis)));
    const normal = [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
    inward += normal.reduce((sum, part, axis) => sum + part * (center[axis] - at(n, axis)), 0);
  }
  return inward >= 0;
}

/** Column-major: the camera on a sphere around the centre, in perspective. */
function viewMatrix({ turn, tilt, distance, center }, aspect) {
  const [ct, st, cu, su] = [Math.cos(tilt), Math.sin(tilt), Math.cos(turn), Math.sin(turn)];
  const back = [ct * cu, ct * su, st], right = [-su, cu, 0], up = [-st * cu, -st * su, ct];
  const dot = (axis) => -axis.reduce((sum, part, n) => sum + part * (center[n] + back[n] * distance), 0);
  const f = 1 / Math.tan(FIELD_OF_VIEW / 2), depth = (FAR_M + NEAR_M) / (NEAR_M - FAR_M), shift = (2 * FAR_M * NEAR_M) / (NEAR_M - FAR_M);
  const [x, y] = [f / Math.max(aspect, 1e-6), f];
  return new Float32Array([
    x * right[0], y * up[0], depth * back[0], -back[0],
    x * right[1], y * up[1], depth * back[1], -back[1],
    x * right[2], y * up[2], depth * back[2], -back[2],
    x * dot(right), y * dot(up), depth * dot(back) + shift, -dot(back),
  ]);
}
