// Where samples lie: a grid for what is near a place, and which lie inside a shape.

const CELLS = 256;
const SHIFT = 8; // 65,536 places a side in 256 cells
export const NOWHERE = 65535;

export class Places {
  constructor(pairs) {
    this.pairs = pairs;
    this.many = pairs.length / 2;
    this.starts = new Uint32Array(CELLS * CELLS + 1);
    const cell = (row) => (pairs[2 * row + 1] >> SHIFT) * CELLS + (pairs[2 * row] >> SHIFT);
    for (let row = 0; row < this.many; row += 1) {
      if (pairs[2 * row] !== NOWHERE) this.starts[cell(row) + 1] += 1;
    }
    for (let i = 1; i < this.starts.length; i += 1) this.starts[i] += this.starts[i - 1];
    this.rows = new Uint32Array(this.starts.at(-1));
    const next = this.starts.slice();
    for (let row = 0; row < this.many; row += 1) {
      if (pairs[2 * row] !== NOWHERE) this.rows[next[cell(row)]++] = row;
    }
  }

  /** The row nearest to x, y within `far`, or −1; those that `favoured` names count as nearer. */
  near(x, y, far, favoured = () => false) {
    const clip = (value) => Math.min(CELLS - 1, Math.max(0, value >> SHIFT));
    let [best, found] = [far * far, -1];
    for (let down = clip(y - far); down <= clip(y + far); down += 1) {
      for (let across = clip(x - far); across <= clip(x + far); across += 1) {
        const cell = down * CELLS + across;
        for (let i = this.starts[cell]; i < this.starts[cell + 1]; i += 1) {
          const row = this.rows[i];
          let apart = (this.pairs[2 * row] - x) ** 2 + (this.pairs[2 * row + 1] - y) ** 2;
          if (apart < far * far && favoured(row)) apart *= 0.25;
          if (apart < best) [best, found] = [apart, row];
        }
      }
    }
    return found;
  }

  inBox({ left, top, right, bottom }, row) {
    const x = this.pairs[2 * row];
    const y = this.pairs[2 * row + 1];
    return x !== NOWHERE && x >= left && x <= right && y >= top && y <= bottom;
  }

  inside(box) {
    const rows = [];
    for (let row = 0; row < this.many; row += 1) if (this.inBox(box, row)) rows.push(row);
    return Uint32Array.from(rows);
  }

  /** Rows inside a polygon of [x, y]: the polygon is filled once, and each place looked up. */
  within(polygon) {
    const [xs, ys] = [0, 1].map((axis) => polygon.map((point) => point[axis]));
    const box = {
      left: Math.min(...xs), right: Math.max(...xs), top: Math.min(...ys), bottom: Math.max(...ys),
    };
    const side = 1024;
    const across = side / Math.max(box.right - box.left, 1);
    const down = side / Math.max(box.bottom - box.top, 1);
    const canvas = new OffscreenCanvas(side + 1, side + 1);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.beginPath();
    for (const [x, y] of polygon) context.lineTo((x - box.left) * across, (y - box.top) * down);
    context.fill();
    const filled = context.getImageData(0, 0, side + 1, side + 1).data;
    const at = (row) =>
      Math.round((this.pairs[2 * row + 1] - box.top) * down) * (side + 1) +
      Math.round((this.pairs[2 * row] - box.left) * across);
    return this.inside(box).filter((row) => filled[4 * at(row) + 3] > 127);
  }
}

/** The order of drawing: shuffled, so that any beginning of it shows the whole. */
export function shuffled(many) {
  const order = Uint32Array.from({ length: many }, (_, row) => row);
  let state = 1;
  for (let i = many - 1; i > 0; i -= 1) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const j = Math.floor((state / 4294967296) * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}
