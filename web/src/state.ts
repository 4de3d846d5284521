// What the page knows, in one place, and who is told when it changes.

import type { Annotations, Backend, Column, Meta } from "./data";

type Event = "image" | "selection" | "annotations" | "layer";

export class State {
  names: string[] = [];
  image: number | null = null;
  selection: number[] = [];
  why = ""; // in words, how the selection came about
  layer: string;
  annotations: Annotations = { labels: {}, hidden: [], clusters: {} };
  readonly columns = new Map<string, Column>();
  private readonly heard: Record<Event, (() => void)[]> = { image: [], selection: [], annotations: [], layer: [] };

  constructor(
    readonly backend: Backend,
    readonly meta: Meta,
  ) {
    this.layer = meta.layers[0];
  }

  on(event: Event, tell: () => void): void {
    this.heard[event].push(tell);
  }

  private tell(event: Event): void {
    for (const tell of this.heard[event]) tell();
  }

  name(row: number): string {
    return this.names[row] ?? `image ${row}`;
  }

  short(row: number): string {
    return this.name(row).split(/[\\/]/).pop() ?? "";
  }

  choose(row: number | null): void {
    this.image = row;
    this.tell("image");
  }

  select(rows: number[], why: string): void {
    this.selection = rows;
    this.why = why;
    this.tell("selection");
  }

  useLayer(layer: string): void {
    this.layer = layer;
    this.tell("layer");
  }

  async change(what: "labels" | "hidden" | "clusters", change: { rows: number[]; label?: string | null; hidden?: boolean }) {
    this.annotations = await this.backend.change(what, change);
    this.tell("annotations");
  }

  async load(): Promise<void> {
    [this.names, this.annotations] = await Promise.all([
      this.backend.get<string[]>("names"),
      this.backend.get<Annotations>("annotations"),
    ]);
    this.tell("annotations");
  }

  async column(name: string): Promise<Column> {
    const kept = this.columns.get(name) ?? (await this.backend.get<Column>(`column/${name}`));
    this.columns.set(name, kept);
    return kept;
  }

  label(row: number): string {
    return this.annotations.labels[row] ?? "";
  }

  get labelNames(): string[] {
    return [...new Set(Object.values(this.annotations.labels))].sort();
  }

  get shown(): number[] {
    const hidden = new Set(this.annotations.hidden);
    return Array.from({ length: this.meta.count }, (_, row) => row).filter((row) => !hidden.has(row));
  }
}
