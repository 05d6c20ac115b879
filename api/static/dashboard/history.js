// Stored readings of a sensor for a chart: raw for hours, roll-ups beyond, so that any range is a few hundred points.

const HOUR = 3_600_000, DAY = 24 * HOUR;
export const RANGES = [["1h", "1 h", "1 hour"], ["6h", "6 h", "6 hours"], ["24h", "24 h", "24 hours"], ["7d", "7 d", "7 days"], ["30d", "30 d", "30 days"], ["1y", "1 y", "1 year"]];
const LENGTHS = { "1h": HOUR, "6h": 6 * HOUR, "24h": DAY, "7d": 7 * DAY, "30d": 30 * DAY, "1y": 365 * DAY };

export const lengthOf = (range) => LENGTHS[range];

/** The coarsest resolution that still shows a range well. */
export function resolutionFor(length) {
  if (length <= 2 * HOUR) return "raw";
  if (length <= 2 * DAY) return "1m";
  return length <= 60 * DAY ? "1h" : "1d";
}

/** Points [{t, value, low?, high?, count}] of [start, end). */
export async function readings(api, sensorId, start, end, signal) {
  const resolution = resolutionFor(end - start);
  const path = `v1/sensors/${encodeURIComponent(sensorId)}/readings`;
  const query = { resolution, start: new Date(start).toISOString(), end: new Date(end).toISOString(), limit: 10_000 };
  const items = await api.all(path, query, { most: 40_000, signal });
  if (resolution === "raw") return items.map((item) => ({ t: Date.parse(item.at), value: item.value, count: 1 }));
  return items.map((item) => ({ t: Date.parse(item.at), value: item.mean, low: item.min, high: item.max, count: item.count }));
}

/** Minimum, mean, maximum and number of readings of points. */
export function statistics(points) {
  const finite = points.filter((point) => Number.isFinite(point.value));
  const total = finite.reduce((sum, point) => sum + point.count, 0);
  if (!total) return { count: 0, min: null, mean: null, max: null };
  return {
    count: total,
    min: finite.reduce((low, point) => Math.min(low, point.low ?? point.value), Infinity),
    max: finite.reduce((high, point) => Math.max(high, point.high ?? point.value), -Infinity),
    mean: finite.reduce((sum, point) => sum + point.value * point.count, 0) / total,
  };
}
