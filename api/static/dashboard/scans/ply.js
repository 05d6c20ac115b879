// Reads PLY, the format of clouds and meshes: ascii and both byte orders; of each vertex its place and colour, of each face its corners.

const READ = {
  char: ["getInt8", 1], uchar: ["getUint8", 1], short: ["getInt16", 2], ushort: ["getUint16", 2], int: ["getInt32", 4], uint: ["getUint32", 4], float: ["getFloat32", 4], double: ["getFloat64", 8],
  int8: ["getInt8", 1], uint8: ["getUint8", 1], int16: ["getInt16", 2], uint16: ["getUint16", 2], int32: ["getInt32", 4], uint32: ["getUint32", 4], float32: ["getFloat32", 4], float64: ["getFloat64", 8],
};
const MAX_HEADER = 65_536;

/** `{ positions: Float32Array, colours: Uint8Array | null, triangles: Uint32Array }` of a file's bytes; throws what is wrong with it. */
export function parsePly(buffer) {
  const { elements, format, start } = header(buffer);
  const cursor = format === "ascii" ? new Words(buffer, start) : new Binary(buffer, start, format === "binary_little_endian");
  const found = { positions: new Float32Array(0), colours: null, triangles: new Uint32Array(0) };
  for (const element of elements) {
    if (element.name === "vertex") readVertices(element, cursor, found);
    else if (element.name === "face") found.triangles = readFaces(element, cursor);
    else for (let n = 0; n < element.count; n++) element.properties.forEach((property) => cursor.skip(property));
  }
  return found;
}

function header(buffer) {
  const text = new TextDecoder("latin1").decode(new Uint8Array(buffer, 0, Math.min(buffer.byteLength, MAX_HEADER)));
  const end = /(^|\n)end_header\r?\n/.exec(text);
  if (!text.startsWith("ply") || !end) throw new Error("This is no PLY file.");
  const elements = [];
  let format = null;
  for (const line of text.slice(0, end.index).split(/\r?\n/)) {
    const words = line.trim().split(/\s+/);
    if (words[0] === "format") format = words[1];
    else if (words[0] === "element") elements.push({ name: words[1], count: Number(words[2]), properties: [] });
    else if (words[0] === "property") elements.at(-1).properties.push(property(words));
  }
  return { elements, format, start: end.index + end[0].length };
}

function property(words) {
  const [, kind] = words;
  return kind === "list" ? { name: words[4], length: words[2], type: words[3] } : { name: words[2], length: null, type: kind };
}

class Binary {
  #view;
  #at;
  #little;

  constructor(buffer, start, little) {
    this.#view = new DataView(buffer);
    this.#at = start;
    this.#little = little;
  }

  next(type) {
    const [read, size] = READ[type];
    const value = this.#view[read](this.#at, this.#little);
    this.#at += size;
    return value;
  }

  skip({ length, type }) {
    const times = length === null ? 1 : this.next(length);
    this.#at += times * READ[type][1];
  }
}

class Words {
  #words;
  #at = 0;

  constructor(buffer, start) {
    this.#words = new TextDecoder("latin1").decode(new Uint8Array(buffer, start)).split(/\s+/).filter(Boolean);
  }

  next() {
    return Number(this.#words[this.#at++]);
  }

  skip({ length }) {
    this.#at += length === null ? 1 : this.next();
  }
}

function readVertices({ count, properties }, cursor, found) {
  const hasColours = ["red", "green", "blue"].every((name) => properties.some((each) => each.name === name));
  found.positions = new Float32Array(count * 3);
  found.colours = hasColours ? new Uint8Array(count * 3) : null;
  const places = properties.map(({ name, length, type }) => {
    const [axis, colour] = [["x", "y", "z"].indexOf(name), ["red", "green", "blue"].indexOf(name)];
    if (length !== null) return { skip: { length, type } };
    if (axis >= 0) return { into: found.positions, axis, type };
    return colour >= 0 && hasColours ? { into: found.colours, axis: colour, type } : { skip: { length, type } };
  });
  for (let n = 0; n < count; n++) {
    for (const place of places) {
      if (place.skip) cursor.skip(place.skip);
      else place.into[n * 3 + place.axis] = cursor.next(place.type);
    }
  }
}

/** Faces of more than three corners become a fan of triangles. */
function readFaces({ count, properties }, cursor) {
  const triangles = [];
  for (let n = 0; n < count; n++) {
    for (const each of properties) {
      if (each.length === null || !each.name.startsWith("vertex_ind")) {
        cursor.skip(each);
        continue;
      }
      const corners = Array.from({ length: cursor.next(each.length) }, () => cursor.next(each.type));
      for (let k = 2; k < corners.length; k++) triangles.push(corners[0], corners[k - 1], corners[k]);
    }
  }
  return Uint32Array.from(triangles);
}
