// isosphere explore: a map of images, what is near what, lists, and labels.

import { byNames, byNumbers, type Colouring } from "./colours";
import { type Clusters, open as openBackend } from "./data";
import { fill, find, h, plural } from "./dom";
import { type Label, MapView } from "./map";
import * as panels from "./panels";
import { State } from "./state";

const TABS: Record<string, (page: panels.Page, box: HTMLElement) => void | Promise<void>> = {
  image: panels.image,
  search: panels.search,
  selection: panels.selection,
  copies: panels.duplicates,
  outliers: (page, box) => panels.list(page, box, "outliers"),
  typical: (page, box) => panels.list(page, box, "typical"),
  diverse: (page, box) => panels.list(page, box, "diverse"),
  clusters: panels.clusters,
  labels: panels.labels,
};

async function start(): Promise<void> {
  const [backend, meta] = await openBackend();
  const state = new State(backend, meta);
  const darkness = matchMedia("(prefers-color-scheme: dark)");
  find("#title").textContent = meta.title;
  find("#title").title = meta.title;
  find("#count").textContent = plural(meta.count, "image") + (meta.skipped ? ` (${meta.skipped} unreadable)` : "");
  find("#note").textContent = meta.map.note;
  document.title = `${meta.title} · isosphere`;
  document.body.classList.toggle("static", !!meta.static);

  let colouring: Colouring | null = null;
  let colouredBy = "";
  let clusterNames: Label[] = [];
  const places = backend.get<{ x: number[]; y: number[] }>("map");
  await Promise.all([state.load(), places]);
  const [x, y] = [Float32Array.from((await places).x), Float32Array.from((await places).y)];

  const view = new MapView(
    find("#map"),
    {
      pick: (row, more) => (more ? panels.add(state, row) : pick(row)),
      lasso: (rows) => lassoed(rows),
      tooltip: (row) => tip(row),
      thumbnail: (row) => backend.thumbnail(row),
    },
    darkness.matches,
  );

  // --- what happens ---------------------------------------------------------------------------------------------

  let tab = "image";
  const page: panels.Page = {
    state,
    searched: null,
    near: [],
    mark: () => mark(),
    say(text, fault = false) {
      const box = find("#said");
      box.textContent = text;
      box.classList.toggle("fault", fault);
      box.hidden = false;
      clearTimeout(quiet);
      quiet = window.setTimeout(() => (box.hidden = true), fault ? 10_000 : 4000);
    },
    async run(work) {
      busy(1);
      try {
        await work();
      } catch (error) {
        page.say((error as Error).message, true);
      } finally {
        busy(-1);
      }
    },
    open(name) {
      tab = name;
      for (const each of document.querySelectorAll<HTMLElement>("[role=tab]")) {
        const mine = each.dataset["tab"] === name;
        each.ariaSelected = String(mine);
        each.tabIndex = mine ? 0 : -1;
        if (mine) each.scrollIntoView({ block: "nearest", inline: "nearest" });
      }
      const box = find("#panel");
      box.setAttribute("aria-labelledby", `tab-${name}`);
      box.scrollTop = 0;
      draw();
      mark();
    },
    colour: (name) => colour(name),
    clustered(found) {
      state.columns.set("cluster", { ...found, names: found.groups.map((_, k) => panels.clusterName(state, found, k, String(k + 1))) });
      clusterNames = found.groups.flatMap((_, k) => {
        const text = panels.clusterName(state, found, k, "");
        return text ? [{ text, ...middle(found, k) }] : [];
      });
      view.name(clusterNames);
      if (colouredBy === "cluster") void colour("cluster");
    },
  };
  let quiet = 0;
  let working = 0;
  const busy = (more: number): void => {
    working += more;
    document.body.classList.toggle("busy", working > 0);
  };
  const draw = (): void => void page.run(async () => TABS[tab](page, find("#panel")));

  function pick(row: number): void {
    performance.mark("isosphere:clicked", { detail: row });
    state.choose(row);
  }

  function lassoed(rows: number[]): void {
    state.select(rows, "drawn around on the map");
    page.open("selection");
  }

  function tip(row: number): HTMLElement {
    const label = state.label(row);
    const value = colouring && colouredBy !== "label" ? `${colouring.title}: ${colouring.word(row)}` : "";
    return h(
      "div",
      { className: "tip" },
      h("img", { src: backend.thumbnail(row), alt: "" }),
      h("div", {}, state.short(row)),
      value && h("div", { className: "detail" }, value),
      label && h("div", { className: "tag" }, label),
    );
  }

  /** The middle of a cluster on the map: the medians of its places. */
  function middle(found: Clusters, k: number): { x: number; y: number } {
    const rows = found.values.flatMap((value, row) => (value === k ? [row] : []));
    const median = (values: Float32Array): number => rows.map((row) => values[row]).sort((a, b) => a - b)[rows.length >> 1];
    return { x: median(x), y: median(y) };
  }

  async function colour(name: string): Promise<void> {
    colouredBy = name;
    find<HTMLSelectElement>("#colour").value = name;
    if (name === "none") colouring = byNames("images", "", new Array(meta.count).fill(0), ["images"], darkness.matches);
    else if (name === "label") {
      const names = state.labelNames;
      const values = Array.from({ length: meta.count }, (_, row) => names.indexOf(state.label(row)));
      colouring = byNames("label", "What was labelled on this page.", values, names, darkness.matches);
    } else {
      const column = await state.column(name);
      if (colouredBy !== name) return; // another was chosen meanwhile
      const { title, note, values, names } = column;
      colouring = names ? byNames(title, note, values, names, darkness.matches) : byNumbers(title, note, values, darkness.matches);
    }
    if (name === "cluster") view.name(clusterNames);
    show();
  }

  function show(): void {
    if (!colouring) return;
    view.show(state.shown, x, y, colouring);
    mark();
    const made = colouring;
    find("#legend").hidden = made.legend.length < 2; // one colour tells nothing
    find("#legend").title = made.note;
    find("#legend summary").textContent = made.title;
    fill(
      find("#legend div"),
      ...made.legend.map((entry) => {
        const swatch = h("i");
        swatch.style.background = entry.colour;
        return h(
          "button",
          {
            type: "button",
            title: `Select ${plural(entry.count, "image")}`,
            onclick: () => {
              state.select(state.shown.filter((row) => made.category[row] === entry.category), `${made.title}: ${entry.name}`);
              page.open("selection");
            },
          },
          swatch,
          entry.name,
        );
      }),
    );
  }

  function mark(): void {
    if (tab === "selection" && state.selection.length) view.mark(state.selection);
    else if (tab === "search" && page.searched) view.mark(page.searched.found.rows);
    else view.mark(state.image === null ? [] : [state.image, ...page.near], state.image);
  }

  async function searchBy(file: Blob, name: string): Promise<void> {
    if (!meta.search) return page.say("To search by a picture, open the page by isosphere explore.", true);
    const layer = state.layer;
    const found = await backend.search(file, layer);
    if (page.searched) URL.revokeObjectURL(page.searched.url);
    page.searched = { found, url: URL.createObjectURL(file), name, layer };
    page.open("search");
    if (found.rows.length) view.reveal(found.rows[0]);
  }

  function filter(text: string): void {
    const sought = text.toLowerCase();
    const rows = state.shown.filter((row) => state.name(row).toLowerCase().includes(sought));
    state.select(rows, `named …${text}…`);
    page.open("selection");
    page.say(`${plural(rows.length, "image")} with ${text} in the name.`);
  }

  state.on("image", () => {
    page.near = [];
    page.open("image");
    if (state.image !== null) view.reveal(state.image);
  });
  state.on("selection", () => {
    if (tab === "selection") draw();
    mark();
  });
  state.on("layer", () => {
    if (tab === "image") draw();
  });
  state.on("annotations", () => {
    fill(find("#label-names"), ...[...new Set([...state.labelNames, ...meta.classes])].map((value) => h("option", { value })));
    if (tab === "labels" || tab === "image" || tab === "selection") draw();
    if (colouredBy === "label") void colour("label");
    else show();
  });

  // --- controls -------------------------------------------------------------------------------------------------

  const choices = { none: "nothing", ...meta.columns, label: "label" };
  fill(find("#colour"), ...Object.entries(choices).map(([value, text]) => h("option", { value }, text)));
  find("#colour").addEventListener("change", (event) => page.run(() => colour((event.target as HTMLSelectElement).value)));
  fill(find("#layer"), ...meta.layers.map((value) => h("option", { value }, value)));
  find("#layer").addEventListener("change", (event) => state.useLayer((event.target as HTMLSelectElement).value));
  find("#filter").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = find<HTMLInputElement>("#name").value.trim();
    if (text) filter(text);
  });
  find<HTMLInputElement>("#picture").addEventListener("change", (event) => {
    const input = event.target as HTMLInputElement;
    const file = input.files?.[0];
    if (file) void page.run(() => searchBy(file, file.name));
    input.value = "";
  });
  const lasso = (on = !view.lassoing): void => {
    view.lassoing = on;
    find("#lasso").ariaPressed = String(on);
  };
  const pictures = (): void => {
    view.showPictures = !view.showPictures;
    find("#pictures").ariaPressed = String(view.showPictures);
    show();
  };
  const actions: Record<string, () => void> = {
    lasso: () => lasso(),
    pictures,
    closer: () => view.zoom(1.5),
    farther: () => view.zoom(1 / 1.5),
    whole: () => view.fit(),
    help: () => find<HTMLDialogElement>("#keys").showModal(),
  };
  for (const [name, act] of Object.entries(actions)) find(`#${name}`).addEventListener("click", act);
  const tabs = [...document.querySelectorAll<HTMLElement>("[role=tab]")];
  for (const each of tabs) {
    each.addEventListener("click", () => page.open(each.dataset["tab"]!));
    each.addEventListener("keydown", (event) => {
      const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
      if (!step) return;
      const next = tabs[(tabs.indexOf(each) + step + tabs.length) % tabs.length];
      page.open(next.dataset["tab"]!);
      next.focus();
    });
  }

  const keys: Record<string, () => void> = {
    "/": () => find("#name").focus(),
    l: () => lasso(),
    p: pictures,
    "+": actions["closer"],
    "=": actions["closer"],
    "-": actions["farther"],
    "0": actions["whole"],
    "?": actions["help"],
    h: () => {
      const rows = tab === "selection" ? state.selection : state.image === null ? [] : [state.image];
      if (rows.length) void page.run(() => state.change("hidden", { rows, hidden: true }));
    },
    n: () => step(1),
    N: () => step(-1),
    Escape: () => {
      if (view.lassoing) lasso(false);
      else if (tab === "selection") state.select([], "");
      else state.choose(null);
    },
  };
  for (const [k, each] of tabs.entries()) keys[String(k + 1)] = () => page.open(each.dataset["tab"]!);

  /** From image to image in the order of the collection. */
  function step(by: number): void {
    const rows = state.shown;
    const at = state.image === null ? (by > 0 ? -1 : 0) : rows.indexOf(state.image);
    if (rows.length) state.choose(rows[(at + by + rows.length) % rows.length]);
  }

  document.addEventListener("keydown", (event) => {
    const target = event.target as HTMLElement;
    if (event.ctrlKey || event.metaKey || event.altKey || target.closest("dialog[open]")) return;
    if (target.matches("input, select, textarea")) {
      if (event.key === "Escape") target.blur();
      return;
    }
    const act = keys[event.key];
    if (act) {
      event.preventDefault();
      act();
    }
  });
  find("#map").addEventListener("keydown", (event) => {
    const moves: Record<string, [number, number]> = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
    if (moves[event.key]) {
      event.preventDefault();
      view.pan(...moves[event.key]);
    } else if (event.key === "Enter") {
      const row = view.middle();
      if (row !== null) pick(row);
    }
  });

  let over = 0;
  const dragged = (event: DragEvent): boolean => !!event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragenter", (event) => {
    if (dragged(event)) find("#drop").hidden = ++over <= 0;
  });
  document.addEventListener("dragleave", (event) => {
    if (dragged(event)) find("#drop").hidden = --over <= 0;
  });
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    over = 0;
    find("#drop").hidden = true;
    const file = event.dataTransfer?.files[0];
    if (file) void page.run(() => searchBy(file, file.name));
  });
  darkness.addEventListener("change", () => {
    view.theme(darkness.matches);
    void colour(colouredBy);
  });

  find<HTMLDetailsElement>("#legend").open = !matchMedia("(max-width: 760px)").matches;
  page.open("image");
  await page.run(() => colour("class" in meta.columns ? "class" : Object.keys(state.annotations.labels).length ? "label" : "none"));
  document.body.classList.add("ready");
  (window as { isospherePage?: unknown }).isospherePage = { state, view, pick };
}

start().catch((error: Error) => {
  const box = find("#said");
  box.textContent = error.message;
  box.classList.add("fault");
  box.hidden = false;
});
