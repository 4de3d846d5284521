"""Pages of small pictures with vectors that are given: for tests, and to be served by a process of its own."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from isosphere.data import Source, as_source
from isosphere.deploy import Embeddings, Index
from isosphere.explore import Annotations, Collection, Found, Page, Pictures, Resources, plane_of, serve
from isosphere.workflows import Duplicates
from isosphere.workflows._duplicates import Comparison, grouped

EVIL = "<img src=x onerror=document.title='broken'>"
"""A name that would be a script if it were read as HTML."""


def vectors(count: int, dim: int = 16, groups: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Unit rows around a few directions, float32 (n, d), and the direction of each."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % groups
    centres = generator.normal(size=(groups, dim)) * 2
    rows = (centres[labels] + generator.normal(size=(count, dim))).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), labels


def pictures(count: int, side: int = 24) -> np.ndarray:
    """Pictures that differ: uint8 (n, side, side, 3)."""
    numbers = np.arange(count)
    colours = np.stack([numbers * 37 % 256, numbers * 101 % 256, numbers // 3 % 256], 1).astype(np.uint8)
    made = np.repeat(np.repeat(colours[:, None, None], side, 1), side, 2)
    made[:, : side // 2, : side // 2] = 255 - made[:, : side // 2, : side // 2]
    return made


def collection(
    count: int = 60, dim: int = 16, *, names: list[str] | None = None, labelled: bool = True, side: int = 24
) -> Collection:
    """Two layers: ``first`` as :func:`vectors` has it, ``second`` its first half of the numbers."""
    rows, labels = vectors(count, dim)
    images = pictures(count, side)
    source: Source = as_source(images, labels=labels if labelled else None, name="squares")
    source.paths = names or [f"a/{i:03d}.png" for i in range(count)]

    def index(layer: str, values: np.ndarray) -> Index:
        made = Embeddings(values, source.labels, source.paths, source.class_names)
        found = Index.of(made, layer)  # pyright: ignore[reportArgumentType]
        return replace(found, positions=np.arange(count))

    layers = {"first": index("first", rows), "second": index("second", rows[:, : dim // 2])}

    def search(picture: Path, index: Index, k: int) -> Found:
        with Image.open(picture) as image:
            shown = np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.NEAREST))
        row = int(np.abs(images.astype(int) - shown).sum((1, 2, 3)).argmin())
        found = index.search(index.unit[row], k)[0]
        return Found([m.row for m in found], [m.similarity for m in found])

    def duplicates() -> Duplicates:
        compared = Comparison(layers["first"], source, None, 0.99, None, None)
        return grouped(compared, source, None)

    indexes = {name: lambda i=i: i for name, i in layers.items()}
    return Collection(source, indexes, title="squares", search=search, duplicates=duplicates)


def page(made: Collection, folder: Path) -> Page:
    annotations = Annotations(made, folder)
    resources = Resources(
        made,
        plane_of(made.unit(), "pca"),
        labels=str(annotations.labels_file),
        labelled=lambda: annotations.read()["labels"],
        unwritten=annotations.unwritten,
    )
    return Page(resources, Pictures(made.source), annotations)


def main(folder: str, count: str = "60", dim: str = "16") -> None:
    """Serve a page, and print its address first."""
    made = collection(int(count), int(dim), side=24 if int(count) < 10_000 else 8)
    if int(count) == 60:
        made.source.paths[0] = EVIL
    serve(page(made, Path(folder)), ready=lambda address: print(address, flush=True))


if __name__ == "__main__":
    main(*sys.argv[1:])
