// A grid of pictures: a click, or Enter, opens an image; the arrow keys walk through them.

import { h, plural } from "./dom";
import type { State } from "./state";

const STEP = 120; // pictures that are shown at a time

export interface Card {
  row: number;
  detail?: string;
}

export function card(state: State, { row, detail }: Card): HTMLElement {
  const name = state.name(row);
  const label = state.label(row);
  return h(
    "button",
    {
      type: "button",
      className: "card",
      title: name,
      "data-row": row,
      ariaLabel: [name, detail, label].filter(Boolean).join(", "),
      onclick: () => state.choose(row),
    },
    h("img", { src: state.backend.thumbnail(row), alt: "", loading: "lazy", draggable: false }),
    h("span", { className: "name" }, state.short(row)),
    detail && h("span", { className: "detail" }, detail),
    label && h("span", { className: "tag" }, label),
  );
}

export function grid(state: State, cards: Card[]): HTMLElement {
  const box = h("div", { className: "grid", onkeydown: walk });
  const more = h("button", { type: "button", className: "more", onclick: () => add() });
  let shown = 0;
  const add = (): void => {
    const next = cards.slice(shown, shown + STEP);
    shown += next.length;
    more.remove();
    box.append(...next.map((each) => card(state, each)));
    if (shown < cards.length) {
      more.textContent = `Show more of ${plural(cards.length, "image")}`;
      box.append(more);
    }
  };
  add();
  return box;
}

/** Arrow keys from picture to picture, up and down by what lies there. */
function walk(event: KeyboardEvent): void {
  const here = (event.target as HTMLElement).closest<HTMLElement>(".card");
  if (!here || !event.key.startsWith("Arrow")) return;
  const all = [...(event.currentTarget as HTMLElement).querySelectorAll<HTMLElement>(".card")];
  const at = all.indexOf(here);
  let next = at + (event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0);
  if (event.key === "ArrowUp" || event.key === "ArrowDown") {
    const columns = all.findIndex((other) => other.offsetTop > all[0].offsetTop);
    next = at + (event.key === "ArrowDown" ? 1 : -1) * (columns < 1 ? all.length : columns);
  }
  if (all[next]) {
    event.preventDefault();
    all[next].focus();
  }
}
