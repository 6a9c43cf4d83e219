// Colours of samples: by what happened to them, by a name, or by a number.
import { colour } from "./dom.js";

// Okabe & Ito's eight without black, then three of Tol's: told apart with any colour vision
const NAMES = {
  light: ["0072b2", "d55e00", "009e73", "cc79a7", "b58900", "56b4e9", "882255", "6b6b00", "332288"],
  dark: ["56b4e9", "e69f00", "1fc29a", "e39ac4", "f0e442", "7f9cf5", "d5677f", "b9c26a", "b39ddb"],
};
const STEPS = {
  light: ["fde725", "a0da39", "4ac16d", "1fa187", "277f8e", "365c8d", "46327e", "440154"],
  dark: ["5b3a8e", "4f62b0", "3d86b5", "30a5a5", "3dbf86", "7ad151", "bddf26", "fde725"],
};
const OTHERS = { light: [150, 156, 165], dark: [110, 118, 128] };
const NAMED = NAMES.light.length;

const numbers = (hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16));
const scheme = () => (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");

export function signs() {
  return {
    cloud: colour("cloud"),
    ground: colour("stage"),
    picked: colour("picked"),
    entered: colour("entered"),
    left: colour("left"),
  };
}

/** A column as classes with a colour and a name each: its greatest names, or eight steps. */
export function classed(column, values) {
  const shades = (table) => table[scheme()].map(numbers);
  if (column.sort === "category") {
    const counts = new Float64Array(column.labels.length);
    for (const code of values) counts[code] += 1;
    const order = [...counts.keys()].filter((code) => counts[code]).sort((a, b) => counts[b] - counts[a]);
    const most = order.length > NAMED + 1 ? order.slice(0, NAMED) : order;
    const entries = most.map((code, at) => ({
      name: column.labels[code] || "(none)", shade: shades(NAMES)[at] ?? OTHERS[scheme()], many: counts[code],
    }));
    const rest = order.slice(most.length);
    if (rest.length) {
      const many = rest.reduce((sum, code) => sum + counts[code], 0);
      entries.push({ name: `${rest.length} others`, shade: OTHERS[scheme()], many });
    }
    const of = new Uint8Array(column.labels.length).fill(most.length);
    most.forEach((code, at) => (of[code] = at));
    return { entries, of: (row) => of[values[row]] };
  }
  const read = values.filter((_, at) => at % Math.ceil(values.length / 20000) === 0);
  const sorted = read.filter((value) => !Number.isNaN(value)).sort();
  const palette = shades(STEPS);
  const at = (share) => sorted[Math.floor(share * (sorted.length - 1))] ?? 0;
  const bounds = [...new Set(palette.slice(1).map((_, i) => at((i + 1) / palette.length)))];
  const round = (value) => Number(value.toPrecision(3)).toLocaleString("en");
  const entries = palette.slice(0, bounds.length + 1).map((shade, i) => ({
    name: i === 0 ? `below ${round(bounds[0] ?? at(1))}` : `from ${round(bounds[i - 1])}`, shade,
  }));
  entries.push({ name: "none", shade: OTHERS[scheme()] });
  const step = (value) => {
    if (Number.isNaN(value)) return entries.length - 1;
    let low = 0;
    while (low < bounds.length && value >= bounds[low]) low += 1;
    return low;
  };
  return { entries, of: (row) => step(values[row]) };
}
