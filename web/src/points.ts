// Points of the plane in a grid: the nearest one, those in a rectangle, those within a polygon.

export interface Box {
  xMin: number;
  yMin: number;
  xMax: number;
  yMax: number;
}

export interface Point {
  x: number;
  y: number;
}

export class Points {
  readonly count: number;
  private readonly side: number;
  private readonly start: Uint32Array;
  private readonly order: Uint32Array;
  readonly box: Box;

  constructor(
    readonly x: Float32Array<ArrayBuffer>,
    readonly y: Float32Array<ArrayBuffer>,
  ) {
    this.count = x.length;
    this.box = { xMin: Infinity, yMin: Infinity, xMax: -Infinity, yMax: -Infinity };
    for (let i = 0; i < this.count; i++) {
      this.box.xMin = Math.min(this.box.xMin, x[i]);
      this.box.xMax = Math.max(this.box.xMax, x[i]);
      this.box.yMin = Math.min(this.box.yMin, y[i]);
      this.box.yMax = Math.max(this.box.yMax, y[i]);
    }
    this.side = Math.max(1, Math.min(1024, Math.ceil(Math.sqrt(this.count / 2))));
    this.start = new Uint32Array(this.side * this.side + 1);
    const cell = Uint32Array.from(x, (_, i) => this.column(x[i]) + this.side * this.row(y[i]));
    for (const c of cell) this.start[c + 1]++;
    for (let c = 0; c < this.side * this.side; c++) this.start[c + 1] += this.start[c];
    const next = this.start.slice();
    this.order = new Uint32Array(this.count);
    for (let i = 0; i < this.count; i++) this.order[next[cell[i]]++] = i;
  }

  private at(value: number, low: number, high: number): number {
    const place = Math.floor(((value - low) / (high - low || 1)) * this.side);
    return Math.max(0, Math.min(this.side - 1, place));
  }

  private column(x: number): number {
    return this.at(x, this.box.xMin, this.box.xMax);
  }

  private row(y: number): number {
    return this.at(y, this.box.yMin, this.box.yMax);
  }

  /** Points in a rectangle, those of one cell of the grid after the other; `each` may return false to stop. */
  within(box: Box, each: (i: number) => boolean | void): void {
    if (box.xMin > this.box.xMax || box.xMax < this.box.xMin || box.yMin > this.box.yMax || box.yMax < this.box.yMin) return;
    const [left, right] = [this.column(box.xMin), this.column(box.xMax)];
    for (let row = this.row(box.yMin); row <= this.row(box.yMax); row++) {
      for (let k = this.start[row * this.side + left]; k < this.start[row * this.side + right + 1]; k++) {
        const i = this.order[k];
        const inside = this.x[i] >= box.xMin && this.x[i] <= box.xMax && this.y[i] >= box.yMin && this.y[i] <= box.yMax;
        if (inside && each(i) === false) return;
      }
    }
  }

  /** The point nearest to a place, no farther than `reach`; -1 where there is none. */
  nearest(x: number, y: number, reach: number): number {
    let found = -1;
    let best = reach * reach;
    this.within({ xMin: x - reach, yMin: y - reach, xMax: x + reach, yMax: y + reach }, (i) => {
      const square = (this.x[i] - x) ** 2 + (this.y[i] - y) ** 2;
      if (square <= best) [best, found] = [square, i];
    });
    return found;
  }

  inside(polygon: Point[]): number[] {
    const xs = polygon.map((p) => p.x);
    const ys = polygon.map((p) => p.y);
    const box = { xMin: Math.min(...xs), yMin: Math.min(...ys), xMax: Math.max(...xs), yMax: Math.max(...ys) };
    const found: number[] = [];
    this.within(box, (i) => {
      if (contains(polygon, this.x[i], this.y[i])) found.push(i);
    });
    return found.sort((a, b) => a - b);
  }
}

/** Whether a ray to the right crosses the polygon an odd number of times. */
function contains(polygon: Point[], x: number, y: number): boolean {
  let inside = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    const [a, b] = [polygon[i], polygon[j]];
    if (a.y > y !== b.y > y && x < ((b.x - a.x) * (y - a.y)) / (b.y - a.y) + a.x) inside = !inside;
  }
  return inside;
}
