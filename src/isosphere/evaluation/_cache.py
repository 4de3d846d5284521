"""Features kept on disk under what they were computed from: the same question is answered without computing."""

import hashlib
import json
import os
import random
import re
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor, nn

from isosphere import __version__
from isosphere.atomic import write_bytes
from isosphere.errors import RunError
from isosphere.evaluation._digest_index import DigestIndex
from isosphere.reading import require_regular
from isosphere.runs import pack_tensors, read_tensors, tensor_identity

LIMIT_BYTES = 2 << 30
"""Of all files together; the longest unused go first."""

_VERSIONS = {
    "isosphere": __version__,
    "torch": str(torch.__version__),
    "pillow": PIL.__version__,
}
_DIGESTS = "digests of images"
_OWN = re.compile(r"[^-]+-[0-9a-f]{16}-(all|[0-9a-f]{32})(-gathered)?\.safetensors")
_CHECKED = 4
"""Rows of a file that are computed again, to see whether it holds what this encoder computes."""
_TOLERANCE = 1e-2
"""Of such a row, relative to its norm: batches of another size round differently, on a GPU by a thousandth."""
_MERGED = 4096
"""Rows up to which files of gathered rows are merged."""
_NOTHING = np.empty((0, 2), np.int64)


class FeatureCache:
    """Tensors in a folder, each file named by the digest of the key that they were computed from.

    Args:
        folder: made when first written to; safetensors files, never unpickled.
        limit_bytes: the files together never exceed it: those unused for longest are removed, and what is
            larger alone is not kept.

    A file that is damaged, cut short, of another key or not finite is computed again, and so is one of which a few
    rows, drawn anew each time, are not what is computed now; a folder that cannot be written to costs time, not the
    result. Values are kept in their own dtype, so that figures are the same to the bit with and without. `hits` and
    `misses` count, and `wrong` the files that held something else than what belongs there.
    """

    def __init__(self, folder: str | Path, *, limit_bytes: int = LIMIT_BYTES) -> None:
        if limit_bytes < 0:
            raise ValueError(f"limit_bytes: got {limit_bytes}, expected 0 (keep nothing) or more")
        self.folder, self.limit_bytes = Path(folder), limit_bytes
        self.hits = self.misses = self.wrong = 0
        self._indexes: dict[str, DigestIndex] = {}

    def find(
        self,
        key: Mapping[str, Any],
        *,
        digests: Tensor | None = None,
        check: Callable[[Tensor], Mapping[str, Tensor]] | None = None,
    ) -> dict[str, Tensor] | None:
        """The tensors that were kept under this key; None if there are none.

        Args:
            key: everything that the tensors depend on, as JSON; ``weights`` (a digest) begins the file's
                name. Versions of isosphere and torch are added.
            digests: int64 (n, 2), of the images in their order; they take part in the key.
            check: computes the rows of a few images anew, by their positions, of which it may leave some out.
        """
        path, text = self._place(key, digests)
        found = self._read(path, text)
        if found is not None and check is not None:
            rows = {name: x for name, x in found.items() if name not in (_DIGESTS, "positions")}
            everyone = torch.arange(0 if digests is None else len(digests))
            positions = found.get("positions", everyone)
            # Ascending and of the images; else somebody else wrote it.
            known = torch.equal(everyone[torch.isin(everyone, positions)], positions)
            if not known:
                self._discard(path)
            if not known or not self._as_computed(path, rows, positions, check):
                found = None
        if found is None:
            self.misses += 1
            return None
        self.hits += 1
        self._touch(path)
        return {name: x for name, x in found.items() if name != _DIGESTS}

    def keep(
        self, key: Mapping[str, Any], made: Mapping[str, Tensor], *, digests: Tensor | None = None
    ) -> None:
        """Keep tensors under a key, as :meth:`find` asks for them.

        With `digests`, row i of each tensor belongs to image i, or to image ``made["positions"][i]`` where some of
        the images have none, and can be had by :meth:`gather`.
        """
        path, text = self._place(key, digests)
        if digests is None:
            self._keep(path, made, text)
            return
        own = digests[made["positions"]] if "positions" in made else digests
        self._keep(path, {**made, _DIGESTS: own}, text)

    def gather(
        self,
        key: Mapping[str, Any],
        digests: Tensor,
        compute: Callable[[Tensor], dict[str, Tensor]],
        *,
        check: Callable[[Tensor], Mapping[str, Tensor]] | None = None,
    ) -> dict[str, Tensor]:
        """The rows of single images, from whichever sets of images they were computed in.

        Args:
            key, check: as for :meth:`find`.
            digests: int64 (n, 2), of the images.
            compute: called with the positions of those that are in no file; gives their rows, which are kept, and where
                it cannot give all, ``positions``: which of those it was asked for they belong to.

        Returns: the rows, and ``positions`` (of the images that they belong to, in order).

        The rows of one image from two batches agree to the rounding of float32, not to the bit. What must not
        depend on which commands were typed before, as figures, takes :meth:`find` instead.
        """
        missing = torch.ones(len(digests), dtype=torch.bool)
        parts: list[tuple[Tensor, dict[str, Tensor]]] = []
        for path, here, rows in self._kept(key, digests):
            if (found := self._read(path)) is None:
                continue
            some = {name: x[rows] for name, x in found.items() if name not in (_DIGESTS, "positions")}
            if check is not None and not self._as_computed(path, some, here, check):
                continue
            self._touch(path)
            parts.append((here, some))
            missing[here] = False
        rest = missing.nonzero()[:, 0]
        self.hits, self.misses = self.hits + (len(rest) == 0), self.misses + (len(rest) > 0)
        if len(rest) or not parts:
            made = dict(compute(rest))
            rest = rest[made.pop("positions", torch.arange(len(rest)))]
            if len(rest):
                self._keep_gathered(key, made, digests[rest])
            parts.append((rest, made))
        parts = [part for part in parts if len(part[0])] or parts[:1]
        places = torch.cat([rows for rows, _ in parts])
        order = places.argsort()
        found = {name: torch.cat([part[name] for _, part in parts])[order] for name in parts[0][1]}
        return {**found, "positions": places[order]}

    def missing(self, key: Mapping[str, Any], digests: Tensor) -> Tensor:
        """Positions of the images of which no file says that it has the rows, int64."""
        absent = torch.ones(len(digests), dtype=torch.bool)
        for _, here, _ in self._kept(key, digests):
            absent[here] = False
        return absent.nonzero()[:, 0]

    def _kept(self, key: Mapping[str, Any], digests: Tensor) -> list[tuple[Path, Tensor, Tensor]]:
        """The files in which images are, which of these, and the rows; those of just this set from its own file."""
        whole, _ = self._place(key, digests)
        asked, index = digests.numpy(), self._index(key)
        own = DigestIndex()
        own.add(whole, _read_digests(whole))
        mine = own.find(asked)
        here = next((here for here, _ in mine.values()), np.empty(0, np.int64))
        rest = np.setdiff1d(np.arange(len(asked)), here)
        others = {path: (rest[at], rows) for path, (at, rows) in index.find(asked[rest]).items()}
        found = [*mine.items(), *others.items()]
        return [(path, torch.from_numpy(at), torch.from_numpy(rows)) for path, (at, rows) in found]

    def _index(self, key: Mapping[str, Any]) -> DigestIndex:
        """Of all files that hold the same kind of features; they are looked into once."""
        family = self._family(key)
        if family not in self._indexes:
            index = self._indexes[family] = DigestIndex()
            for path in self._files(f"{family}-*"):
                index.add(path, _read_digests(path))
        return self._indexes[family]

    def _keep_gathered(self, key: Mapping[str, Any], made: Mapping[str, Tensor], digests: Tensor) -> None:
        """Keep rows with those of files that hold no more: of many small files few remain, each row is written again a
        few times.
        """
        tables = {**made, _DIGESTS: digests}
        joined: list[tuple[Path, int]] = []
        for path in sorted(self._files(f"{self._family(key)}-*-gathered"), key=_size):
            count = len(tables[_DIGESTS])
            if count + len(_read_digests(path)) > min(2 * count, _MERGED):
                break
            if (found := self._read(path)) is not None and set(found) == set(tables):
                joined.append((path, count))
                tables = {name: torch.cat([x.cpu(), found[name]]) for name, x in tables.items()}
        path, text = self._place(key, tables[_DIGESTS], gathered=True)
        index = self._index(key)
        if self._keep(path, tables, text):
            index.add(path, digests.numpy())
            for old, offset in joined:
                index.move(old, path, offset)
                old.unlink(missing_ok=True)

    def forget_others(self, weights: Collection[str]) -> None:
        """Remove what was computed with other weights than these."""
        for path in self._files():
            if path.name.split("-", 1)[0] not in weights:
                path.unlink(missing_ok=True)

    def _family(self, key: Mapping[str, Any]) -> str:
        """How the names of files begin that hold the same kind of features, of whichever images."""
        text = json.dumps({**key, **_VERSIONS}, sort_keys=True)
        return f"{key['weights']}-{_short(text)}"

    def _place(
        self, key: Mapping[str, Any], digests: Tensor | None, *, gathered: bool = False
    ) -> tuple[Path, str]:
        """Name of a file, and the text of what it holds. What is gathered, in batches of whatever was missing, has
        names that no set is found by.
        """
        images = "" if digests is None else tensor_identity(digests)
        name = f"{self._family(key)}-{images or 'all'}{'-gathered' if gathered else ''}"
        text = json.dumps({**key, "digests": images}, sort_keys=True)
        return self.folder / f"{name}.safetensors", f"{name} {text}"

    def _read(self, path: Path, text: str | None = None) -> dict[str, Tensor] | None:
        """The tensors of a file; None where there is none that can be used, or `text` says that it holds others."""
        if not path.exists():
            return None
        try:
            found, about = read_tensors(path)
        except Exception:  # cut short, no such format, other content: it can always be made again
            self._discard(path)
            return None
        if text is not None and about.get("key") != text:
            return None
        whole = _DIGESTS not in found or all(len(x) == len(found[_DIGESTS]) for x in found.values())
        if not (whole and _finite(found)):
            self._discard(path)
            return None
        return found

    def _as_computed(
        self,
        path: Path,
        rows: Mapping[str, Tensor],
        positions: Tensor,
        check: Callable[[Tensor], Mapping[str, Tensor]],
    ) -> bool:
        """Whether a few rows, of which nobody can know beforehand which, are what is computed now.

        `positions` are those of the rows' images.
        """
        drawn = random.SystemRandom().sample(range(len(positions)), min(_CHECKED, len(positions)))
        some = torch.tensor(sorted(drawn), dtype=torch.int64)
        now = check(positions[some]) if len(some) else {}
        whole = all(len(x) == len(positions) for x in rows.values()) and (now or not len(some))
        if whole and all(name in rows and _close(rows[name][some], x) for name, x in now.items()):
            return True
        self._discard(path)
        return False

    def _discard(self, path: Path) -> None:
        """Remove a file of the cache that holds what it should not."""
        self.wrong += 1
        for index in self._indexes.values():
            index.drop(path)
        with suppress(OSError):
            path.unlink(missing_ok=True)

    @staticmethod
    def _touch(path: Path) -> None:
        with suppress(OSError):
            os.utime(path)

    def _keep(self, path: Path, made: Mapping[str, Tensor], text: str) -> bool:
        """Whether the tensors could be kept; what is not finite is not worth it."""
        size = sum(x.numel() * x.element_size() for x in made.values())
        if size > self.limit_bytes or not _finite(made):
            return False
        with suppress(OSError, RunError):
            content = pack_tensors(made, {"key": text})
            self.folder.mkdir(parents=True, exist_ok=True)
            self._make_room(len(content))
            if len(content) <= self.limit_bytes:
                write_bytes(path, content)
                return True
        return False

    def _make_room(self, needed: int) -> None:
        sizes = [(stat.st_mtime_ns, stat.st_size, path) for path in self._files() if (stat := path.stat())]
        total = needed + sum(size for _, size, _ in sizes)
        for _, size, path in sorted(sizes):
            if total <= self.limit_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size

    def _files(self, pattern: str = "*") -> list[Path]:
        """The cache's own files: what else somebody keeps in the folder is neither read nor removed."""
        found = self.folder.glob(f"{pattern}.safetensors")
        return sorted(
            path for path in found if _OWN.fullmatch(path.name) and path.is_file() and not path.is_symlink()
        )


def centre_key(weights: str, pixels: Mapping[str, Any], *, device: torch.device) -> dict[str, Any]:
    """The key of features of the deterministic centre view, without the images. `pixels`: how these become what the
    network is given, such as :attr:`isosphere.data.Pixels.key`.
    """
    return {"weights": weights, "kind": "centre", "device": str(device.type), **pixels}


def weights_identity(module: nn.Module, *about: object) -> str:
    """Digest of all tensors of a module's state, by name, and of what else is said of it (as text)."""
    digest = hashlib.blake2b("\n".join([type(module).__qualname__, *map(str, about)]).encode(), digest_size=8)
    for name, value in module.state_dict().items():
        if isinstance(value, Tensor):
            digest.update(f"{name} {tensor_identity(value)}\n".encode())
    return digest.hexdigest()


def _short(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _read_digests(path: Path) -> NDArray[np.int64]:
    try:
        require_regular(path)
        with safe_open(path, framework="pt") as file:
            key = str((file.metadata() or {}).get("key"))
            return file.get_tensor(_DIGESTS).numpy() if key.startswith(f"{path.stem} ") else _NOTHING
    except Exception:  # absent, cut short, of no single images
        return _NOTHING


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # another process has removed it
        return 0


def _finite(tensors: Mapping[str, Tensor]) -> bool:
    numbers = (part for x in tensors.values() if x.is_floating_point() for part in x.split(65536))
    return all(bool(torch.isfinite(part).all()) for part in numbers)


def _close(kept: Tensor, now: Tensor) -> bool:
    """Whether rows agree but for rounding."""
    if kept.shape != now.shape:
        return False
    kept, now = (x.cpu().double().reshape(len(x), -1) for x in (kept, now))
    scale = torch.maximum(now.norm(dim=1), now.square().sum(1).mean().sqrt())
    return bool(((kept - now).norm(dim=1) <= _TOLERANCE * scale).all())
