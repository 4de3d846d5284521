// What stands beside the map, a function a tab: each fills a box, and is called again when what it shows has changed.

import { type Card, grid } from "./cards";
import { format } from "./colours";
import type { Clusters, Duplicates, Found, Listed } from "./data";
import { csv, fill, h, plural, save } from "./dom";
import type { State } from "./state";

export interface Page {
  state: State;
  /** Says something for a few seconds. */
  say(text: string, fault?: boolean): void;
  /** Does what takes a while, says what went wrong. */
  run(work: () => Promise<unknown>): Promise<void>;
  /** Opens a tab. */
  open(tab: string): void;
  /** Colours the map by a column. */
  colour(name: string): Promise<void>;
  clustered(found: Clusters): void;
  /** Rows nearest to the image that is shown. */
  near: number[];
  /** Marks on the map what the tab is about. */
  mark(): void;
  searched: { found: Found; url: string; name: string; layer: string } | null;
}

const hint = (text: string): HTMLElement => h("p", { className: "hint" }, text);
const button = (text: string, onclick: () => unknown, more: Record<string, unknown> = {}): HTMLButtonElement =>
  h("button", { type: "button", onclick, ...more }, text);

/** What was found, without what is hidden. */
function seen(state: State, cards: Card[]): Card[] {
  const hidden = new Set(state.annotations.hidden);
  return cards.filter(({ row }) => !hidden.has(row));
}

function cosines(state: State, found: Found): Card[] {
  return seen(state, found.rows.map((row, i) => ({ row, detail: found.cosines[i].toFixed(3) })));
}

function labelForm(page: Page, rows: () => number[], what: string): HTMLElement {
  const { state } = page;
  const input = h("input", { type: "text", placeholder: "Label", ariaLabel: `Label for ${what}`, maxLength: 200, className: "label" });
  input.setAttribute("list", "label-names");
  const say = (label: string | null): Promise<void> =>
    page.run(async () => {
      const chosen = rows();
      await state.change("labels", { rows: chosen, label });
      page.say(label ? `${plural(chosen.length, "image")} labelled ${label}.` : `Label of ${plural(chosen.length, "image")} removed.`);
    });
  return h(
    "form",
    {
      className: "row",
      onsubmit: (event: Event) => {
        event.preventDefault();
        if (input.value.trim()) void say(input.value.trim());
      },
    },
    input,
    h("button", { type: "submit" }, "Label"),
    button("Remove label", () => say(null)),
  );
}

function hide(page: Page, rows: number[]): Promise<void> {
  return page.run(async () => {
    await page.state.change("hidden", { rows, hidden: true });
    page.say(`${plural(rows.length, "image")} hidden. The tab Labels brings them back.`);
  });
}

// --- one image ----------------------------------------------------------------------------------------------------

let asked = 0; // the last image whose neighbours were asked for: an answer to an earlier one comes too late

export async function image(page: Page, box: HTMLElement): Promise<void> {
  const { state } = page;
  const row = state.image;
  const mine = ++asked;
  if (row === null) {
    const start = [
      "Click a point of the map to see the image and its nearest neighbours.",
      state.meta.search && "Drop a picture on this page, or choose a file, to find what is most like it.",
      "Drag with Shift held, or press L and draw, to select images.",
    ];
    fill(box, ...start.filter((line): line is string => !!line).map(hint), state.meta.search && picker());
    return;
  }
  const asking = state.backend.neighbours(state.layer, row); // before the pictures of the page are asked for
  asking.catch(() => undefined); // said below
  const facts = h("dl");
  const fact = (name: string, value: string): void => {
    facts.append(h("dt", {}, name), h("dd", {}, value));
  };
  fact("file", state.name(row));
  for (const column of state.columns.values()) {
    const value = column.values[row];
    if (value === null || (column.names && value < 0)) continue;
    fact(column.title, column.names ? column.names[value] : format(value));
  }
  if (state.label(row)) fact("label", state.label(row));
  const near = h("div", { ariaBusy: "true" });
  fill(
    box,
    h("img", { className: "large", src: state.backend.large(row), alt: state.name(row) }),
    facts,
    labelForm(page, () => [row], "this image"),
    h("div", { className: "row" }, button("Hide", () => hide(page, [row])), button("Add to selection", () => add(state, row))),
    h("h2", {}, `Nearest by ${state.layer}`),
    near,
  );
  try {
    const found = await asking;
    if (mine !== asked) return;
    fill(
      near,
      h(
        "div",
        { className: "row" },
        button("Select these", () => {
          const rows = cosines(state, found).map((each) => each.row);
          state.select([row, ...rows], `${state.short(row)} and its neighbours`);
          page.open("selection");
        }),
        h("span", { className: "hint" }, "Numbers: cosine."),
      ),
      grid(state, cosines(state, found)),
    );
    near.ariaBusy = "false";
    page.near = found.rows;
    page.mark();
    performance.mark("isosphere:answered", { detail: row });
  } catch (error) {
    if (mine === asked) fill(near, hint((error as Error).message));
  }
}

export function add(state: State, row: number): void {
  if (!state.selection.includes(row)) state.select([...state.selection, row], "picked one by one");
}

export function picker(): HTMLElement {
  return h("label", { className: "button", htmlFor: "picture" }, "Search by a picture …");
}

// --- what a picture is like ---------------------------------------------------------------------------------------

export function search(page: Page, box: HTMLElement): void {
  const { state, searched } = page;
  if (!searched) {
    fill(box, hint("Drop a picture anywhere on this page."), state.meta.search && picker());
    return;
  }
  const { found, url, name, layer } = searched;
  fill(
    box,
    h("img", { className: "large", src: url, alt: name }),
    h("h2", {}, `Most like ${name}, by ${layer}`),
    h(
      "div",
      { className: "row" },
      picker(),
      button("Select these", () => {
        state.select(found.rows, `most like ${name}`);
        page.open("selection");
      }),
    ),
    grid(state, cosines(state, found)),
  );
}

// --- several images -----------------------------------------------------------------------------------------------

export function selection(page: Page, box: HTMLElement): void {
  const { state } = page;
  const rows = state.selection;
  if (!rows.length) {
    fill(
      box,
      hint("Nothing is selected."),
      hint("Drag over the map with Shift held, or press L and draw around points. A list of the other tabs can be selected too."),
    );
    return;
  }
  fill(
    box,
    h("h2", {}, `${plural(rows.length, "image")}: ${state.why}`),
    labelForm(page, () => state.selection, "the selected images"),
    h(
      "div",
      { className: "row" },
      button("Hide", () => hide(page, rows)),
      button("Save CSV", () => page.run(() => exportCsv(state, rows))),
      button("Save file list", () => page.run(() => saveFiles(page, rows, "selection.txt"))),
      button("Clear", () => state.select([], "")),
    ),
    grid(state, rows.map((row) => ({ row }))),
  );
}

async function exportCsv(state: State, rows: number[]): Promise<void> {
  const columns = [...state.columns.values()];
  const value = (row: number, k: number): string | number | null => {
    const { values, names } = columns[k];
    const found = values[row];
    return names ? (found !== null && found >= 0 ? names[found] : null) : found;
  };
  const head = ["path", "label", ...columns.map((column) => column.title)];
  const lines = rows.map((row) => [state.name(row), state.label(row), ...columns.map((_, k) => value(row, k))]);
  save("selection.csv", csv([head, ...lines]), "text/csv");
}

async function saveFiles(page: Page, rows: number[], name: string): Promise<void> {
  const every = await page.state.backend.get<string[]>("files");
  const files = rows.map((row) => every[row]);
  // A list of lines cannot hold these names: an end of line, or a byte that is no text and was written out.
  const table = files.some((file) => /[\r\n]|\\udc[89a-f][0-9a-f]/.test(file));
  const target = table ? name.replace(/txt$/, "csv") : name;
  if (table) save(target, csv([["path"], ...files.map((file) => [file])]), "text/csv");
  else save(target, files.map((file) => file + "\n").join(""));
  page.say(`${plural(files.length, "file")} listed in ${target}. Nothing was deleted.`);
}

// --- near-duplicates ----------------------------------------------------------------------------------------------

const dropped = new Set<number>();
let judged: Duplicates | null = null;
let rule = "first";

const RULES: Record<string, string> = {
  first: "the first listed",
  largest: "the one with the most pixels",
  sharpest: "the sharpest",
};

export async function duplicates(page: Page, box: HTMLElement): Promise<void> {
  const { state } = page;
  const fixed = !!state.meta.static;
  const threshold = h("input", {
    type: "number", min: "0", max: "1", step: "any", value: judged ? format4(judged.threshold) : "",
    placeholder: "auto", ariaLabel: "Cosine from which images are copies; empty: measured", disabled: fixed,
  });
  const keep = h(
    "select",
    { ariaLabel: "Which image of a group to keep", disabled: fixed },
    ...Object.entries(RULES).map(([value, text]) => h("option", { value, selected: value === rule }, text)),
  );
  const found = h("div");
  const again = (): void => {
    const same = judged !== null && threshold.value === format4(judged.threshold); // as it was shown, to four digits
    void page.run(() => look(threshold.value === "" ? null : same ? judged!.threshold : Number(threshold.value)));
  };
  keep.addEventListener("change", again);
  fill(
    box,
    h(
      "form",
      {
        className: "row",
        onsubmit: (event: Event) => {
          event.preventDefault();
          again();
        },
      },
      h("label", {}, "Cosine from ", threshold),
      h("button", { type: "submit", disabled: fixed }, "Find copies"),
      h("label", {}, "Keep ", keep),
    ),
    hint("Images with at least this cosine are one group. Leave the cosine empty: it is measured on copies made of your images. Nothing is deleted: save the list."),
    found,
  );
  const show = (groups: Duplicates): void => {
    const counted = h("p", { role: "status" });
    const count = (): void => fill(counted, `${plural(groups.count, "group")}; ${plural(dropped.size, "image")} to drop.`);
    count();
    fill(
      found,
      counted,
      groups.count > 0 &&
        h(
          "div",
          { className: "row" },
          button("Save list to drop", () => page.run(() => saveFiles(page, [...dropped].sort((a, b) => a - b), "drop.txt"))),
          button("Save list to keep", () =>
            page.run(() => saveFiles(page, state.shown.filter((row) => !dropped.has(row)), "keep.txt")),
          ),
        ),
      groups.caution !== null && hint(groups.caution),
      Object.keys(groups.basis).length > 0 &&
        h("dl", {}, ...Object.entries(groups.basis).flatMap(([name, text]) => [h("dt", {}, name), h("dd", {}, text)])),
      groups.count > groups.groups.length && hint(`The ${groups.groups.length} largest groups are shown.`),
      ...groups.groups.slice(0, 100).map((group) => duplicateGroup(page, group, count)),
    );
  };
  const look = async (value: number | null): Promise<void> => {
    fill(
      found,
      hint(
        value === null && judged === null && !fixed
          ? "Copies of up to 400 of your images are made and compared, to measure the cosine. This takes up to a few minutes, once …"
          : "Comparing all pairs of images …",
      ),
    );
    try {
      const asked = { keep: keep.value, ...(value === null ? {} : { threshold: value }) };
      judged = await state.backend.get<Duplicates>("duplicates", fixed ? {} : asked);
    } catch (error) {
      fill(found);
      throw error;
    }
    rule = keep.value;
    threshold.value = format4(judged.threshold);
    dropped.clear();
    for (const row of judged.dropped) dropped.add(row);
    show(judged);
  };
  if (judged) show(judged);
  else await look(null);
}

const format4 = (cosine: number): string => String(Number(cosine.toFixed(4)));

function duplicateGroup(page: Page, group: { rows: number[]; cosines: number[] }, changed: () => void): HTMLElement {
  const { state } = page;
  const cards = grid(state, group.rows.map((row, i) => ({ row, detail: group.cosines[i].toFixed(3) })));
  for (const each of [...cards.querySelectorAll<HTMLElement>(".card")]) {
    const row = Number(each.dataset["row"]);
    const keep = h("input", { type: "checkbox", checked: !dropped.has(row), ariaLabel: `Keep ${state.name(row)}` });
    const cell = h("div", { className: "kept" });
    const look = (): void => {
      cell.classList.toggle("dropped", dropped.has(row));
    };
    keep.addEventListener("change", () => {
      if (keep.checked) dropped.delete(row);
      else dropped.add(row);
      look();
      changed();
    });
    each.replaceWith(cell);
    fill(cell, each, h("label", {}, keep, " keep"));
    look();
  }
  return h("section", { className: "group" }, h("h3", {}, `${plural(group.rows.length, "image")}; numbers: cosine to the nearest`), cards);
}

// --- lists --------------------------------------------------------------------------------------------------------

interface ListKind {
  name: "outliers" | "typical" | "diverse";
  text: string;
  k: number | null;
  most: number;
}

const LISTS: Record<ListKind["name"], ListKind> = {
  outliers: { name: "outliers", text: "Images that are far from all others: rare ones, damaged ones, ones of another kind.", k: null, most: 0 },
  typical: { name: "typical", text: "The most typical image of each of k clusters, those of large clusters first.", k: 24, most: 500 },
  diverse: { name: "diverse", text: "k images that differ as much as possible: each is the farthest from those before it. Label these first.", k: 50, most: 500 },
};

export async function list(page: Page, box: HTMLElement, name: ListKind["name"]): Promise<void> {
  const { state } = page;
  const kind = LISTS[name];
  const found = h("div");
  const fixed = !!state.meta.static && name === "typical";
  const k = h("input", { type: "number", min: "1", max: String(Math.min(kind.most, state.meta.count)), value: String(Math.min(kind.k ?? 1, state.meta.count)), ariaLabel: "How many", disabled: fixed });
  const apart = h("input", { type: "checkbox" });
  const some = Object.keys(state.annotations.labels).length > 0 && name === "diverse" && !state.meta.static;
  const look = async (): Promise<void> => {
    fill(found, hint("Computing …"));
    try {
      const asked = { k: Number(k.value), ...(apart.checked ? { apart: 1 } : {}) };
      const listed = await state.backend.get<Listed>(name, kind.k && !fixed ? asked : {});
      const detail = (value: number | null): string | undefined => (value === null ? undefined : format(value));
      const cards = seen(state, listed.rows.map((row, i) => ({ row, detail: detail(listed.values[i]) })));
      fill(
        found,
        h(
          "div",
          { className: "row" },
          button("Select these", () => {
            state.select(cards.map(({ row }) => row), name === "diverse" ? "a diverse subset" : name === "typical" ? "typical images" : "outliers");
            page.open("selection");
          }),
          h("span", { className: "hint" }, `Numbers: ${listed.what}.`),
        ),
        grid(state, cards),
      );
    } catch (error) {
      fill(found);
      throw error;
    }
  };
  fill(
    box,
    hint(kind.text),
    kind.k !== null &&
      h(
        "form",
        {
          className: "row",
          onsubmit: (event: Event) => {
            event.preventDefault();
            void page.run(look);
          },
        },
        h("label", {}, "k ", k),
        some && h("label", {}, apart, " away from labelled images"),
        h("button", { type: "submit", disabled: fixed }, "Choose"),
      ),
    found,
  );
  await look();
}

// --- clusters -----------------------------------------------------------------------------------------------------

let clustered: Clusters | null = null;

export async function clusters(page: Page, box: HTMLElement): Promise<void> {
  const { state } = page;
  const k = h("input", { type: "number", min: "1", max: String(Math.min(200, state.meta.count)), ariaLabel: "Number of clusters", value: clustered ? String(clustered.k) : "", disabled: !!state.meta.static });
  const found = h("div");
  const look = async (): Promise<void> => {
    fill(found, hint("Computing …"));
    try {
      clustered = await state.backend.get<Clusters>("clusters", k.value && !state.meta.static ? { k: Number(k.value) } : {});
    } catch (error) {
      fill(found);
      throw error;
    }
    k.value = String(clustered.k);
    page.clustered(clustered);
    show(clustered);
  };
  const show = (now: Clusters): void => {
    fill(
      found,
      ...now.groups.map((group, number) => {
        const input = h("input", { type: "text", value: clusterName(state, now, number, ""), placeholder: `cluster ${number + 1}`, ariaLabel: `Name of cluster ${number + 1}`, maxLength: 200 });
        input.addEventListener("change", () =>
          page.run(async () => {
            const stale = group.rows.slice(1).filter((row) => state.annotations.clusters[row]);
            for (const row of stale) await state.change("clusters", { rows: [row], label: null });
            await state.change("clusters", { rows: [group.rows[0]], label: input.value.trim() || null });
            page.clustered(now);
          }),
        );
        return h(
          "section",
          { className: "group" },
          h(
            "div",
            { className: "row" },
            input,
            h("span", {}, plural(group.size, "image")),
            button("Select", () => {
              const rows = now.values.flatMap((value, row) => (value === number ? [row] : []));
              state.select(rows, clusterName(state, now, number, `cluster ${number + 1}`));
              page.open("selection");
            }),
          ),
          grid(state, group.rows.map((row) => ({ row }))),
        );
      }),
    );
  };
  fill(
    box,
    hint("Clusters by k-means. Type a name for each: it is kept with the run."),
    h(
      "form",
      {
        className: "row",
        onsubmit: (event: Event) => {
          event.preventDefault();
          void page.run(look);
        },
      },
      h("label", {}, "Clusters ", k),
      h("button", { type: "submit", disabled: !!state.meta.static }, "Cluster"),
      button("Colour the map", () => page.run(() => page.colour("cluster"))),
    ),
    found,
  );
  if (clustered) show(clustered);
  else await look();
}

/** The name that was typed for a cluster: it is kept with the image in its middle, which may now be near the middle. */
export function clusterName(state: State, found: Clusters, number: number, otherwise: string): string {
  const row = found.groups[number].rows.find((each) => state.annotations.clusters[each]);
  return row === undefined ? otherwise : state.annotations.clusters[row];
}

// --- labels -------------------------------------------------------------------------------------------------------

export function labels(page: Page, box: HTMLElement): void {
  const { state } = page;
  const { labels: given, hidden } = state.annotations;
  const counts = new Map<string, number[]>();
  for (const [row, name] of Object.entries(given)) counts.set(name, [...(counts.get(name) ?? []), Number(row)]);
  const { unwritten } = state.meta;
  const kept = state.meta.static ? "They are kept on this page until it is closed: save them." : `They are written to ${state.meta.labels}.`;
  const where = unwritten || kept;
  fill(
    box,
    hint(counts.size ? `${plural(Object.keys(given).length, "image")} labelled. ${where}` : unwritten || "No image is labelled yet. Select some and type a label."),
    ...[...counts].sort().map(([name, rows]) =>
      h(
        "div",
        { className: "row" },
        h("span", { className: "tag" }, name),
        h("span", { className: "grow" }, plural(rows.length, "image")),
        button("Select", () => {
          state.select(rows, `labelled ${name}`);
          page.open("selection");
        }),
      ),
    ),
    counts.size > 0 &&
      h(
        "div",
        { className: "row" },
        button("Save CSV", () =>
          save("labels.csv", csv([["path", "label"], ...Object.entries(given).map(([row, name]) => [state.name(Number(row)), name])]), "text/csv"),
        ),
        button("Colour the map", () => page.run(() => page.colour("label"))),
      ),
    h("h2", {}, "Hidden"),
    hint(hidden.length ? `${plural(hidden.length, "image")} hidden from the map.` : "No image is hidden."),
    hidden.length > 0 &&
      h(
        "div",
        { className: "row" },
        button("Show them again", () => page.run(() => state.change("hidden", { rows: hidden, hidden: false }))),
        button("Save file list", () => page.run(() => saveFiles(page, hidden, "hidden.txt"))),
      ),
    hidden.length > 0 && grid(state, hidden.map((row) => ({ row }))),
  );
}
