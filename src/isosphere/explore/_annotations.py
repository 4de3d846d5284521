"""What people say of images: labels, images to hide, names of clusters. It follows the content of an image, not its
path, and lies beside the run; each change is on the disk before it is answered.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from isosphere.atomic import locked, make_folder, write_json
from isosphere.data import (
    LabelRow,
    LabelTable,
    hex_digest,
    label_places,
    match_labels,
    read_label_file,
)
from isosphere.errors import IsosphereError, RunError, UsageError, plural
from isosphere.explore._collection import Collection
from isosphere.reading import UnreadableError, read_json
from isosphere.tabular import encode_name

LABELS, NOTES = "labels.csv", "explore.json"
_PATIENCE = 10.0  # seconds that a second page on the same run waits


class Annotations:
    """Labels (``labels.csv``: digest, label, path) and notes (``explore.json``: hidden images, names of clusters) of
    a collection, in `folder`.

    What is there of images that the collection has not is kept. A second page may write to the same files: each change
    is made to what they hold now.
    """

    def __init__(self, collection: Collection, folder: Path) -> None:
        self.collection, self.folder = collection, folder
        self.labels_file, self.notes_file = folder / LABELS, folder / NOTES
        self.failed = 0
        """Changes that could not be written."""

    @property
    def unwritten(self) -> str:
        """Why nothing can be written, in a sentence; empty where it can."""
        there = next((p for p in (self.folder, *self.folder.absolute().parents) if p.exists()), self.folder)
        return (
            ""
            if os.access(there, os.W_OK | os.X_OK)
            else f"{there} cannot be written to: labels cannot be kept."
        )

    @property
    def ended(self) -> str:
        """What to say when the page is closed."""
        if self.failed:
            return f"Stopped. {plural(self.failed, 'change')} could not be written, as the page said."
        return f"Stopped. {self.unwritten or 'Every label was written when it was given.'}"

    def read(self) -> dict[str, Any]:
        """``labels``: class by row; ``hidden``: rows; ``clusters``: name by the row that stands for a cluster."""
        rows, notes = self._rows(), self._notes()
        if not rows and not any(notes.values()):
            return {"labels": {}, "hidden": [], "clusters": {}}
        keys = self._keys()
        found = match_labels(self.collection.source, rows, known=self.collection.digests)
        labelled = ((row, int(k)) for row, k in enumerate(found.labels) if k >= 0)
        return {
            "labels": {row: encode_name(found.class_names[k]) for row, k in labelled},
            "hidden": [row for row, key in enumerate(keys) if key in notes["hidden"]],
            "clusters": {
                row: encode_name(notes["clusters"][key])
                for row, key in enumerate(keys)
                if key in notes["clusters"]
            },
        }

    def label(self, rows: Sequence[int], name: str | None) -> None:
        """Say what images show, in place of all that was said of them before; None takes it back. All else that stands
        in the file stays.
        """
        known, source = self.collection.digests, self.collection.source
        keys, places_of = self._keys(), label_places(source, known)
        chosen = {keys[i]: LabelRow(name or "", source.paths[i], hex_digest(known[i])) for i in rows}

        def key_of(row: LabelRow) -> str | None:
            return next((keys[i] for i in places_of(row) if keys[i] in chosen), None)

        def change() -> None:
            there = LabelTable.read(self.labels_file) if self.labels_file.exists() else LabelTable.empty()
            there.put(chosen, key_of)
            there.write(self.labels_file)

        self._change(self.labels_file, change)

    def hide(self, rows: Iterable[int], *, hidden: bool) -> None:
        """Leave images out of the page, or take that back."""
        keys = self._keys()

        def change() -> None:
            notes = self._notes()
            chosen = {keys[row] for row in rows}
            notes["hidden"] = sorted(
                set(notes["hidden"]) | chosen if hidden else set(notes["hidden"]) - chosen
            )
            write_json(self.notes_file, notes)

        self._change(self.notes_file, change)

    def name_cluster(self, row: int, name: str | None) -> None:
        """Call a cluster, for which an image stands, something."""
        keys = self._keys()

        def change() -> None:
            notes = self._notes()
            notes["clusters"].pop(keys[row], None)
            if name:
                notes["clusters"][keys[row]] = name
            write_json(self.notes_file, notes)

        self._change(self.notes_file, change)

    def _change(self, file: Path, change: Callable[[], None]) -> None:
        lock = file.with_name(f".{file.name}.lock")
        try:
            if self.unwritten:
                raise UsageError(self.unwritten)
            make_folder(self.folder)
            with locked(lock, f"{file} is being written", "try again", within=file, patience=_PATIENCE):
                change()
        except IsosphereError:
            self.failed += 1
            raise

    def _keys(self) -> list[str]:
        """What each image is known by: its content, or where that cannot be had its name."""
        known, paths = self.collection.digests, self.collection.source.paths
        return [hex_digest(digest) or encode_name(path) for digest, path in zip(known, paths, strict=True)]

    def _rows(self) -> list[LabelRow]:
        """The rows of the file of labels. Raises: UsageError if it is none."""
        return read_label_file(self.labels_file) if self.labels_file.exists() else []

    def _notes(self) -> dict[str, Any]:
        if not self.notes_file.exists():
            return {"hidden": [], "clusters": {}}
        try:
            found = read_json(self.notes_file)
        except UnreadableError as error:
            raise RunError(f"{self.notes_file} cannot be read: {error}. Move it away.") from None
        sound = isinstance(found, dict) and isinstance(found.get("hidden"), list)
        if not sound or not isinstance(found.get("clusters"), dict):
            raise RunError(f"{self.notes_file} holds something else than the notes of a page. Move it away.")
        return found
