// Where the page's values come from: the server that it was opened from, or the files beside it.

export interface Meta {
  version: string;
  title: string;
  count: number;
  layers: string[];
  columns: Record<string, string>;
  classes: string[];
  map: { kind: string; note: string };
  skipped: number;
  search: boolean;
  labels?: string;
  unwritten?: string;
  static?: boolean;
  block?: number;
}

export interface Found {
  rows: number[];
  cosines: number[];
}

export interface Column {
  title: string;
  note: string;
  values: (number | null)[];
  names?: string[];
}

export interface Listed {
  rows: number[];
  values: (number | null)[];
  what: string;
}

export interface Duplicates {
  threshold: number;
  layer: string;
  count: number;
  groups: { rows: number[]; cosines: number[] }[];
  dropped: number[];
  basis: Record<string, string>;
  caution: string | null;
}

export interface Clusters extends Column {
  k: number;
  names: string[];
  groups: { size: number; rows: number[] }[];
}

export interface Annotations {
  labels: Record<string, string>;
  hidden: number[];
  clusters: Record<string, string>;
}

export type Query = Record<string, string | number>;

export interface Backend {
  get<T>(name: string, query?: Query): Promise<T>;
  neighbours(layer: string, row: number): Promise<Found>;
  search(picture: Blob, layer: string): Promise<Found>;
  change(what: "labels" | "hidden" | "clusters", change: Change): Promise<Annotations>;
  thumbnail(row: number): string;
  large(row: number): string;
}

export interface Change {
  rows: number[];
  label?: string | null;
  hidden?: boolean;
}

async function answer<T>(response: Promise<Response>): Promise<T> {
  let found: Response;
  try {
    found = await response;
  } catch {
    throw new Error("The server does not answer. Start isosphere explore again.");
  }
  const said = await found.json().catch(() => ({}));
  if (!found.ok) throw new Error(said.error ?? `The server answered ${found.status}.`);
  return said as T;
}

class Server implements Backend {
  get<T>(name: string, query: Query = {}): Promise<T> {
    const asked = new URLSearchParams(Object.entries(query).map(([k, v]) => [k, String(v)])).toString();
    return answer<T>(fetch(`data/${name}.json${asked ? `?${asked}` : ""}`));
  }

  neighbours(layer: string, row: number): Promise<Found> {
    return this.get<Found>(`neighbours/${layer}/${row}`);
  }

  search(picture: Blob, layer: string): Promise<Found> {
    const asked = new URLSearchParams({ layer }).toString();
    return answer<Found>(fetch(`search?${asked}`, { method: "POST", body: picture }));
  }

  change(what: string, change: Change): Promise<Annotations> {
    return answer<Annotations>(
      fetch(`annotations/${what}`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(change),
      }),
    );
  }

  thumbnail = (row: number): string => `thumbs/${row}.webp`;
  large = (row: number): string => `images/${row}.webp`;
}

declare global {
  interface Window {
    isosphere?: Record<string, unknown>;
  }
}

/** A folder of files: scripts, since a page that was opened from a folder may not read other files. */
class Files implements Backend {
  private annotations: Annotations = { labels: {}, hidden: [], clusters: {} };

  constructor(private readonly block: number) {}

  async get<T>(name: string, query: Query = {}): Promise<T> {
    const given = (window.isosphere ??= {});
    if (!(name in given)) await this.load(name);
    const found = given[name];
    if (name === "annotations") this.annotations = found as Annotations;
    if (name === "diverse" && "k" in query) {
      const { rows, values, what } = found as Listed; // each is the farthest from those before it, whatever k is
      return { rows: rows.slice(0, Number(query.k)), values: values.slice(0, Number(query.k)), what } as T;
    }
    return found as T;
  }

  private load(name: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = `data/${name.replaceAll("/", "-")}.js`;
      script.onload = () => resolve();
      script.onerror = () => reject(new Error(`${script.src} is missing.`));
      document.head.append(script);
    });
  }

  async neighbours(layer: string, row: number): Promise<Found> {
    const block = await this.get<Found[]>(`neighbours/${layer}/${Math.floor(row / this.block)}`);
    return block[row % this.block];
  }

  search(): Promise<Found> {
    return Promise.reject(new Error("To search by a picture, open the page by isosphere explore."));
  }

  async change(what: string, { rows, label, hidden }: Change): Promise<Annotations> {
    const notes = this.annotations;
    if (what === "hidden") {
      const kept = notes.hidden.filter((row) => !rows.includes(row));
      notes.hidden = hidden ? [...kept, ...rows].sort((a, b) => a - b) : kept;
    } else {
      const names = what === "labels" ? notes.labels : notes.clusters;
      for (const row of rows) {
        if (label) names[row] = label;
        else delete names[row];
      }
    }
    return structuredClone(notes);
  }

  thumbnail = (row: number): string => `thumbs/${row}.webp`;
  large = this.thumbnail;
}

export async function open(): Promise<[Backend, Meta]> {
  const given = window.isosphere?.["meta"] as Meta | undefined;
  if (given) return [new Files(given.block ?? 256), given];
  const server = new Server();
  return [server, await server.get<Meta>("meta")];
}
