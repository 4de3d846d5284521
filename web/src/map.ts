// The map: points drawn by Embedding Atlas' EmbeddingView; pictures, names of clusters, lasso and touch are ours.

import { EmbeddingView, type DataPoint, type EmbeddingViewProps, type Rectangle, type ViewportState } from "embedding-atlas";
import type { Colouring } from "./colours";
import { h } from "./dom";
import { type Box, type Point, Points } from "./points";

export interface Label extends Point {
  text: string;
}

export interface MapEvents {
  pick(row: number, more: boolean): void;
  lasso(rows: number[]): void;
  tooltip(row: number): HTMLElement;
  thumbnail(row: number): string;
}

const PICTURE = 52; // pixels of a picture on the map
const FEW = 260; // points in view from which pictures take the place of dots
const SAMPLE = 2000; // points of which some have pictures where more are in view
const [TOP, EDGE] = [60, 22]; // pixels around all points
const REACH = 12; // pixels within which a point is under the pointer

const inside = (box: Box, x: number, y: number): boolean =>
  x >= box.xMin && x <= box.xMax && y >= box.yMin && y <= box.yMax;

export class MapView {
  private readonly view: EmbeddingView;
  private readonly overlay = h("div", { className: "overlay", ariaHidden: "true" });
  private readonly lassoLayer = h("div", { className: "lasso", hidden: true });
  private points = new Points(new Float32Array(), new Float32Array());
  private rows = new Uint32Array(); // of the points: hidden images have none
  private sample: number[] = []; // points, as even over the rows as can be
  private place = new Map<number, number>(); // of the rows
  private viewport: ViewportState = { x: 0, y: 0, scale: 1 };
  private pictures = new Map<number, HTMLImageElement>();
  private labels: Label[] = [];
  private colouring: Colouring | null = null;
  private chosen: number | null = null;
  private marked: number[] = [];
  private readonly ring = h("b");
  private waiting = 0;
  showPictures = true;

  constructor(
    private readonly box: HTMLElement,
    private readonly events: MapEvents,
    private dark: boolean,
  ) {
    const { width, height } = this.size;
    this.view = new EmbeddingView(box, {
      data: { x: this.points.x, y: this.points.y, category: null },
      width,
      height,
      pixelRatio: window.devicePixelRatio || 1,
      ...this.look(),
      querySelection: async (x, y, unit) => this.point(this.points.nearest(x, y, unit * REACH)),
      onViewportState: (state) => this.moved(state),
      onSelection: () => this.mark(this.marked, this.chosen), // what is marked is the page's business
      onRangeSelection: (range) => this.ranged(range),
      customTooltip: this.tooltip(),
    });
    box.append(this.overlay, this.lassoLayer);
    new ResizeObserver(() => this.resized()).observe(box);
    this.lasso();
    this.clicks();
    this.touch();
  }

  private get size(): { width: number; height: number } {
    return { width: Math.max(50, this.box.clientWidth), height: Math.max(50, this.box.clientHeight) };
  }

  private look(): Partial<EmbeddingViewProps> {
    return {
      config: { colorScheme: this.dark ? "dark" : "light", mode: "points", autoLabelEnabled: false },
      theme: { statusBar: false, brandingLink: null },
    };
  }

  /** Points of rows at places, coloured; the view is kept unless it is the first. */
  show(rows: number[], x: Float32Array, y: Float32Array, colouring: Colouring): void {
    const first = this.points.count === 0;
    const same = rows.length === this.rows.length && rows.every((row, i) => row === this.rows[i]);
    if (!same || first) {
      this.rows = Uint32Array.from(rows);
      this.place = new Map(rows.map((row, i) => [row, i]));
      this.points = new Points(Float32Array.from(rows, (r) => x[r]), Float32Array.from(rows, (r) => y[r]));
      const step = Math.max(1, rows.length / SAMPLE);
      this.sample = Array.from({ length: Math.min(rows.length, SAMPLE) }, (_, k) => Math.floor(k * step));
    }
    this.colouring = colouring;
    const category = Uint8Array.from(rows, (row) => colouring.category[row]);
    this.view.update({ data: { x: this.points.x, y: this.points.y, category }, categoryColors: colouring.colours });
    if (first) this.fit();
    this.redraw();
  }

  theme(dark: boolean): void {
    this.dark = dark;
    this.view.update(this.look());
  }

  name(labels: Label[]): void {
    this.labels = labels;
    this.redraw();
  }

  /** Rows that are marked, and the one among them that the page is about. */
  mark(rows: number[], chosen: number | null = null): void {
    this.chosen = chosen;
    this.marked = rows;
    this.redraw();
    const found = rows.map((row) => this.point(this.place.get(row) ?? -1)).filter((p): p is DataPoint => p !== null);
    this.view.update({ selection: found.slice(0, 400), tooltip: null });
  }

  reveal(row: number): void {
    const point = this.point(this.place.get(row) ?? -1);
    if (!point) return;
    const { x, y } = this.toPixels(point);
    const { width, height } = this.size;
    if (x < 20 || y < 20 || x > width - 20 || y > height - 20) this.go({ ...this.viewport, x: point.x, y: point.y });
  }

  /** All points in view, below the buttons. */
  fit(): void {
    const { xMin, xMax, yMin, yMax } = this.points.box;
    if (!(xMax >= xMin)) return;
    const { width, height } = this.size;
    const unit = Math.max((xMax - xMin) / (width - 2 * EDGE), (yMax - yMin) / (height - TOP - EDGE)) || 1;
    const below = ((TOP - EDGE) / 2) * unit;
    this.go({ x: (xMin + xMax) / 2, y: (yMin + yMax) / 2 + below, scale: 2 / unit / Math.max(width, height) });
  }

  /** Zooms about a place, else the image that the page is about where it is in view, else the middle. */
  zoom(factor: number, about?: Point): void {
    const { width, height } = this.size;
    const chosen = this.chosen === null ? null : this.where(this.chosen);
    const seen = chosen && chosen.x > 0 && chosen.y > 0 && chosen.x < width && chosen.y < height;
    const centre = about ?? (seen ? chosen : { x: width / 2, y: height / 2 });
    const before = this.toData(centre);
    const next = { ...this.viewport, scale: this.viewport.scale * factor };
    const after = this.toData(centre, next);
    this.go({ ...next, x: next.x + before.x - after.x, y: next.y + before.y - after.y });
  }

  /** Moves the view by pixels. */
  pan(dx: number, dy: number): void {
    const [from, to] = [this.toData({ x: 0, y: 0 }), this.toData({ x: dx, y: dy })];
    this.go({ ...this.viewport, x: this.viewport.x + from.x - to.x, y: this.viewport.y + from.y - to.y });
  }

  /** The row nearest to the middle of the view, for who has no pointer. */
  middle(): number | null {
    const { width, height } = this.size;
    const { x, y } = this.toData({ x: width / 2, y: height / 2 });
    for (let reach = 16; reach < 4 * Math.max(width, height); reach *= 2) {
      const i = this.points.nearest(x, y, reach * this.unit);
      if (i >= 0) return this.rows[i];
    }
    return null;
  }

  get lassoing(): boolean {
    return !this.lassoLayer.hidden;
  }

  set lassoing(on: boolean) {
    this.lassoLayer.hidden = !on;
    if (!on) this.view.update({ rangeSelection: null });
  }

  // --- between data and pixels ------------------------------------------------------------------------------------

  private get unit(): number {
    const { width, height } = this.size;
    return 2 / this.viewport.scale / Math.max(width, height);
  }

  toData({ x, y }: Point, view = this.viewport): Point {
    const { width, height } = this.size;
    const unit = 2 / view.scale / Math.max(width, height);
    return { x: view.x + (x - width / 2) * unit, y: view.y + (height / 2 - y) * unit };
  }

  toPixels({ x, y }: Point): Point {
    const { width, height } = this.size;
    return { x: width / 2 + (x - this.viewport.x) / this.unit, y: height / 2 - (y - this.viewport.y) / this.unit };
  }

  /** Where a row is drawn, in pixels of the map; null for one that is hidden. */
  where(row: number): Point | null {
    const point = this.point(this.place.get(row) ?? -1);
    return point && this.toPixels(point);
  }

  private go(state: ViewportState): void {
    this.view.update({ viewportState: state, tooltip: null });
    this.moved(state);
  }

  private moved(state: ViewportState): void {
    this.viewport = state;
    this.redraw();
  }

  private resized(): void {
    this.view.update({ ...this.size, pixelRatio: window.devicePixelRatio || 1 });
    this.redraw();
  }

  private point(i: number): DataPoint | null {
    if (i < 0) return null;
    const row = this.rows[i];
    return { x: this.points.x[i], y: this.points.y[i], category: this.colouring?.category[row], identifier: row };
  }

  private tooltip(): NonNullable<EmbeddingViewProps["customTooltip"]> {
    const make = this.events.tooltip;
    return class {
      constructor(private readonly node: HTMLDivElement, props: { tooltip: DataPoint }) {
        this.update(props);
      }
      update({ tooltip }: { tooltip: DataPoint }): void {
        this.node.replaceChildren(make(Number(tooltip.identifier)));
      }
      destroy(): void {
        this.node.replaceChildren();
      }
    };
  }

  // --- what lies over the points ----------------------------------------------------------------------------------

  private redraw(): void {
    this.waiting ||= requestAnimationFrame(() => {
      this.waiting = 0;
      this.drawOver();
    });
  }

  private drawOver(): void {
    const shown = this.inView();
    const drawn: Node[] = [];
    for (const i of shown) {
      const row = this.rows[i];
      const { x, y } = this.toPixels({ x: this.points.x[i], y: this.points.y[i] });
      const picture = this.pictures.get(row) ?? h("img", { src: this.events.thumbnail(row), alt: "", draggable: false });
      picture.style.borderColor = this.colouring ? this.colouring.colours[this.colouring.category[row]] : "";
      picture.style.transform = `translate(${x - PICTURE / 2}px, ${y - PICTURE / 2}px)`;
      this.pictures.set(row, picture);
      drawn.push(picture);
    }
    if (this.pictures.size > 2000) this.pictures = new Map([...this.pictures].slice(-500));
    for (const label of this.labels) {
      const { x, y } = this.toPixels(label);
      const text = h("span", {}, label.text);
      text.style.transform = `translate(${x}px, ${y}px) translate(-50%, -50%)`;
      drawn.push(text);
    }
    const chosen = this.chosen === null ? null : this.where(this.chosen);
    if (chosen) {
      const side = shown.some((i) => this.rows[i] === this.chosen) ? PICTURE + 8 : 22;
      Object.assign(this.ring.style, { width: `${side}px`, height: `${side}px` });
      this.ring.style.transform = `translate(${chosen.x - side / 2}px, ${chosen.y - side / 2}px)`;
      drawn.push(this.ring);
    }
    const before = new Set<Node>(this.overlay.childNodes);
    const now = new Set(drawn);
    for (const node of before) if (!now.has(node)) node.parentNode?.removeChild(node);
    for (const node of drawn) if (!before.has(node)) this.overlay.append(node);
  }

  /**
   * Points whose pictures are shown, no two of which overlap: all where few enough are in view, else some of a sample,
   * far enough from each other that dots are seen between them.
   */
  private inView(): number[] {
    if (!this.showPictures) return [];
    const { width, height } = this.size;
    const [a, b] = [this.toData({ x: 0, y: height }), this.toData({ x: width, y: 0 })];
    const box: Box = { xMin: a.x, yMin: a.y, xMax: b.x, yMax: b.y };
    let found: number[] = [];
    this.points.within(box, (i) => found.push(i) <= FEW);
    const few = found.length <= FEW;
    if (!few) found = this.sample.filter((i) => inside(box, this.points.x[i], this.points.y[i]));
    const gap = few ? PICTURE : 2 * PICTURE;
    const taken = new Map<string, Point[]>();
    return found
      .sort((p, q) => Number(this.rows[q] === this.chosen) - Number(this.rows[p] === this.chosen) || p - q)
      .filter((i) => {
        const { x, y } = this.toPixels({ x: this.points.x[i], y: this.points.y[i] });
        const [column, row] = [Math.floor(x / gap), Math.floor(y / gap)];
        for (let dx = -1; dx <= 1; dx++) {
          for (let dy = -1; dy <= 1; dy++) {
            for (const other of taken.get(`${column + dx},${row + dy}`) ?? []) {
              if (Math.abs(other.x - x) < gap && Math.abs(other.y - y) < gap) return false;
            }
          }
        }
        const key = `${column},${row}`;
        taken.set(key, [...(taken.get(key) ?? []), { x, y }]);
        return true;
      });
  }

  // --- lasso and touch --------------------------------------------------------------------------------------------

  private ranged(range: Rectangle | Point[] | null): void {
    if (!range) return;
    const { xMin, yMin, xMax, yMax } = range as Rectangle;
    const corners = [[xMin, yMin], [xMax, yMin], [xMax, yMax], [xMin, yMax]].map(([x, y]) => ({ x, y }));
    this.events.lasso(this.rowsInside(Array.isArray(range) ? range : corners));
  }

  private rowsInside(polygon: Point[]): number[] {
    return this.points.inside(polygon).map((i) => this.rows[i]);
  }

  private lasso(): void {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const line = document.createElementNS("http://www.w3.org/2000/svg", "polygon");
    svg.append(line);
    this.lassoLayer.append(svg);
    let drawn: Point[] | null = null;
    const at = (event: PointerEvent): Point => {
      const box = this.lassoLayer.getBoundingClientRect();
      return { x: event.clientX - box.left, y: event.clientY - box.top };
    };
    this.lassoLayer.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      this.lassoLayer.setPointerCapture(event.pointerId);
      drawn = [at(event)];
    });
    this.lassoLayer.addEventListener("pointermove", (event) => {
      if (!drawn) return;
      const [last, next] = [drawn[drawn.length - 1], at(event)];
      if (Math.hypot(next.x - last.x, next.y - last.y) < 3) return;
      drawn.push(next);
      line.setAttribute("points", drawn.map((p) => `${p.x},${p.y}`).join(" "));
    });
    const end = (): void => {
      if (drawn && drawn.length > 2) this.events.lasso(this.rowsInside(drawn.map((p) => this.toData(p))));
      drawn = null;
      line.removeAttribute("points");
    };
    this.lassoLayer.addEventListener("pointerup", end);
    this.lassoLayer.addEventListener("pointercancel", end);
  }

  /** A click is ours, for the view answers none before it can draw, which some machines never can. */
  private clicks(): void {
    let down: Point | null = null;
    this.box.addEventListener("pointerdown", (event) => (down = { x: event.clientX, y: event.clientY }), true);
    this.box.addEventListener(
      "pointerup",
      (event) => {
        const moved = down ? Math.hypot(event.clientX - down.x, event.clientY - down.y) : Infinity;
        if (moved > 4 || this.lassoing || event.button !== 0) return;
        const box = this.box.getBoundingClientRect();
        const { x, y } = this.toData({ x: event.clientX - box.left, y: event.clientY - box.top });
        const i = this.points.nearest(x, y, this.unit * REACH);
        if (i >= 0) this.events.pick(this.rows[i], event.shiftKey || event.ctrlKey || event.metaKey);
      },
      true,
    );
  }

  /** One finger moves the map, two zoom it; a tap is a click, which the browser makes of it. */
  private touch(): void {
    const down = new Map<number, Point>();
    const at = (event: PointerEvent): Point => {
      const box = this.box.getBoundingClientRect();
      return { x: event.clientX - box.left, y: event.clientY - box.top };
    };
    this.box.addEventListener("pointerdown", (event) => {
      if (event.pointerType === "touch" && !this.lassoing) down.set(event.pointerId, at(event));
    });
    this.box.addEventListener("pointermove", (event) => {
      const before = down.get(event.pointerId);
      if (!before) return;
      const now = at(event);
      const other = [...down].find(([id]) => id !== event.pointerId)?.[1];
      if (other) {
        const spread = (p: Point): number => Math.max(8, Math.hypot(p.x - other.x, p.y - other.y));
        this.zoom(spread(now) / spread(before), { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 });
      } else {
        this.pan(now.x - before.x, now.y - before.y);
      }
      down.set(event.pointerId, now);
    });
    for (const name of ["pointerup", "pointercancel", "pointerleave"] as const) {
      this.box.addEventListener(name, (event) => down.delete(event.pointerId));
    }
  }
}
