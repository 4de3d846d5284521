// Colours of points: of classes, told apart under the common forms of colour blindness first; of numbers, dark to light.

const CLASSES = [
  "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8c564b", "#7b6fd0", "#b5bd22", "#17807e",
  "#e377c2", "#c49c94", "#4c78a8", "#9e3d22", "#6a9f58", "#b07aa1", "#d7b5a6", "#59a14f", "#f28e2b", "#76b7b2",
];
const NUMBERS = [
  "#440154", "#481a6c", "#472f7d", "#414487", "#39568c", "#31688e", "#2a788e", "#23888e",
  "#1f988b", "#22a884", "#35b779", "#54c568", "#7ad151", "#a5db36", "#d2e21b", "#fde725",
];
const NONE = { light: "#b4bac2", dark: "#4a515c" };
const MOST = 255; // categories that fit a byte, the last of which is "none"

export interface Entry {
  colour: string;
  name: string;
  count: number;
  category: number;
}

export interface Colouring {
  title: string;
  note: string;
  category: Uint8Array<ArrayBuffer>;
  colours: string[];
  legend: Entry[];
  /** What a row is called in this colouring. */
  word(row: number): string;
}

export function byNames(title: string, note: string, values: (number | null)[], names: string[], dark: boolean): Colouring {
  const used = Math.min(names.length, MOST);
  const category = Uint8Array.from(values, (v) => (v === null || v < 0 || v >= used ? used : v));
  const counts = new Array<number>(used + 1).fill(0);
  for (const c of category) counts[c]++;
  const colours = [...names.slice(0, used).map((_, k) => CLASSES[k % CLASSES.length]), NONE[dark ? "dark" : "light"]];
  const legend = colours
    .map((colour, k) => ({ colour, name: k < used ? names[k] : "none", count: counts[k], category: k }))
    .filter((entry) => entry.count > 0);
  return { title, note, category, colours, legend, word: (row) => (category[row] < used ? names[category[row]] : "none") };
}

export function byNumbers(title: string, note: string, values: (number | null)[], dark: boolean): Colouring {
  const known = values.filter((v): v is number => v !== null).sort((a, b) => a - b);
  const bins = NUMBERS.length;
  // By rank: a few extreme numbers would leave all others one colour.
  const edges = Array.from({ length: bins - 1 }, (_, k) => known[Math.floor(((k + 1) * known.length) / bins)]);
  const bin = (v: number): number => {
    let low = 0;
    let high = edges.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (v >= edges[middle]) low = middle + 1;
      else high = middle;
    }
    return low;
  };
  const category = Uint8Array.from(values, (v) => (v === null ? bins : bin(v)));
  const counts = new Array<number>(bins + 1).fill(0);
  for (const c of category) counts[c]++;
  const colours = [...NUMBERS, NONE[dark ? "dark" : "light"]];
  const legend = colours
    .map((colour, k) => {
      const from = k === 0 ? known[0] : edges[k - 1];
      return { colour, name: k === bins ? "none" : `from ${format(from)}`, count: counts[k], category: k };
    })
    .filter((entry) => entry.count > 0);
  return { title, note, category, colours, legend, word: (row) => (values[row] === null ? "none" : format(values[row]!)) };
}

export function format(value: number): string {
  return Math.abs(value) >= 100 ? value.toFixed(0) : Number(value.toPrecision(3)).toString();
}
