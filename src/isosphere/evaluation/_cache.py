"""Features kept on disk under what they were computed from: the same question is answered without computing."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from isosphere import __version__
from isosphere.atomic import write_bytes
from isosphere.errors import RunError

LIMIT_BYTES = 2 << 30
"""Of all files together; the longest unused go first."""

_VERSIONS = {"isosphere": __version__, "torch": str(torch.__version__), "pillow": PIL.__version__}
_DIGESTS = "digests of images"
_OWN = re.compile(r"[^-]+-[0-9a-f]{16}-(all|[0-9a-f]{32})(-gathered)?\.safetensors")
_NOTHING = np.empty((0, 2), np.int64)


class FeatureCache:
    """Tensors in a folder, each file named by the digest of the key that they were computed from.

    Args:
        folder: made when first written to; safetensors files, never unpickled.
        limit_bytes: the files together never exceed it: those unused for longest are removed, and what is
            larger alone is not kept.

    A file that is damaged, cut short or of another key is computed again; a folder that cannot be written to
    costs time, not the result. Values are kept in their own dtype, so that figures are the same to the bit
    with and without. `hits` and `misses` count.
    """

    def __init__(self, folder: str | Path, *, limit_bytes: int = LIMIT_BYTES) -> None:
        if limit_bytes < 0:
            raise ValueError(f"limit_bytes: got {limit_bytes}, expected 0 (keep nothing) or more")
        self.folder, self.limit_bytes = Path(folder), limit_bytes
        self.hits = self.misses = 0
        self._sorted: dict[Path, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}

    def find(self, key: Mapping[str, Any], *, digests: Tensor | None = None) -> dict[str, Tensor] | None:
        """The tensors that were kept under this key; None if there are none.

        Args:
            key: everything that the tensors depend on, as JSON; ``weights`` (a digest) begins the file's
                name. Versions of isosphere and torch are added.
            digests: int64 (n, 2), of the images in their order; they take part in the key.
        """
        path, text = self._place(key, digests)
        found = _read(path, text)
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
        self, key: Mapping[str, Any], digests: Tensor, compute: Callable[[Tensor], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """The rows of single images, from whichever sets of images they were computed in.

        Args:
            key: as for :meth:`find`.
            digests: int64 (n, 2), of the images.
            compute: called with the positions of those that are in no file; gives their rows, which are kept, and where
                it cannot give all, ``positions``: which of those it was asked for they belong to.

        Returns: the rows, and ``positions`` (of the images that they belong to, in order).

        The rows of one image from two batches agree to the rounding of float32, not to the bit. What must not
        depend on which commands were typed before, as figures, takes :meth:`find` instead.
        """
        missing = torch.ones(len(digests), dtype=torch.bool)
        parts: list[tuple[Tensor, dict[str, Tensor]]] = []
        asked = digests.numpy()
        whole, _ = self._place(key, digests)
        for path in sorted(self._files(f"{self._family(key)}-*"), key=lambda p: p != whole):
            if not missing.any():
                break
            place = torch.from_numpy(self._find(path, asked))
            here = (missing & (place >= 0)).nonzero()[:, 0]
            if len(here) == 0 or (found := _read(path, None)) is None:
                continue
            self._touch(path)
            rows = {n: x[place[here]] for n, x in found.items() if n not in (_DIGESTS, "positions")}
            parts.append((here, rows))
            missing[here] = False
        rest = missing.nonzero()[:, 0]
        self.hits, self.misses = self.hits + (len(rest) == 0), self.misses + (len(rest) > 0)
        if len(rest) or not parts:
            made = dict(compute(rest))
            rest = rest[made.pop("positions", torch.arange(len(rest)))]
            if len(rest):
                path, text = self._place(key, digests[rest], gathered=True)
                self._keep(path, {**made, _DIGESTS: digests[rest]}, text)
            parts.append((rest, made))
        parts = [part for part in parts if len(part[0])] or parts[:1]
        places = torch.cat([rows for rows, _ in parts])
        order = places.argsort()
        found = {name: torch.cat([part[name] for _, part in parts])[order] for name in parts[0][1]}
        return {**found, "positions": places[order]}

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

    def _find(self, path: Path, asked: NDArray[np.int64]) -> NDArray[np.int64]:
        """Row of each image in a file, -1 where it is not in it."""
        if path not in self._sorted:
            known = _read_digests(path)
            order = np.lexsort((known[:, 1], known[:, 0]))
            self._sorted[path] = known[order], order
        known, order = self._sorted[path]
        if len(known) == 0:
            return np.full(len(asked), -1)
        # 64 of the 128 bits find the row, the others confirm it.
        at = np.minimum(np.searchsorted(known[:, 0], asked[:, 0]), len(known) - 1)
        return np.where((known[at] == asked).all(1), order[at], -1)

    @staticmethod
    def _touch(path: Path) -> None:
        with suppress(OSError):
            os.utime(path)

    def _keep(self, path: Path, made: Mapping[str, Tensor], text: str) -> None:
        size = sum(x.numel() * x.element_size() for x in made.values())
        if size > self.limit_bytes:
            return
        with suppress(OSError, RunError):
            content = save({name: x.cpu().contiguous().clone() for name, x in made.items()}, {"key": text})
            self.folder.mkdir(parents=True, exist_ok=True)
            self._make_room(len(content))
            if len(content) <= self.limit_bytes:
                write_bytes(path, content)

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
        return sorted(path for path in found if _OWN.fullmatch(path.name) and not path.is_symlink())


def centre_key(
    weights: str, *, size: int, mean: Sequence[float], std: Sequence[float], device: torch.device, canvas: int
) -> dict[str, Any]:
    """The key of features of the deterministic centre view, without the images."""
    return {
        "weights": weights,
        "kind": "centre",
        "size": size,
        "mean": tuple(mean),
        "std": tuple(std),
        "device": str(device.type),
        "canvas": canvas,
    }


def weights_identity(module: nn.Module, *about: object) -> str:
    """Digest of all tensors of a module's state, by name, and of what else is said of it (as text)."""
    digest = hashlib.blake2b("\n".join([type(module).__qualname__, *map(str, about)]).encode(), digest_size=8)
    for name, value in module.state_dict().items():
        if isinstance(value, Tensor):
            digest.update(f"{name} {tensor_identity(value)}\n".encode())
    return digest.hexdigest()


def tensor_identity(x: Tensor) -> str:
    """Digest of a tensor's dtype, shape and content, wherever it lies."""
    digest = hashlib.blake2b(f"{x.dtype} {tuple(x.shape)}".encode(), digest_size=16)
    flat = x.detach().contiguous().reshape(-1).view(torch.uint8) if x.numel() else x.new_empty(0)
    for part in flat.split(1 << 24):
        digest.update(part.cpu().numpy().data)
    return digest.hexdigest()


def _short(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _read_digests(path: Path) -> NDArray[np.int64]:
    try:
        with safe_open(path, framework="pt") as file:
            key = str((file.metadata() or {}).get("key"))
            return file.get_tensor(_DIGESTS).numpy() if key.startswith(f"{path.stem} ") else _NOTHING
    except Exception:  # absent, cut short, of no single images
        return _NOTHING


def _read(path: Path, text: str | None) -> dict[str, Tensor] | None:
    """The tensors of a file; None where there is none that can be used, or `text` says that it holds others."""
    try:
        with safe_open(path, framework="pt") as file:
            if text is not None and (file.metadata() or {}).get("key") != text:
                return None
            return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except Exception:  # absent, cut short, no such format: it can always be made again
        return None
