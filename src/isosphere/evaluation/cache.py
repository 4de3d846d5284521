"""Features kept on disk under what they were computed from: the same question is answered without computing."""

import hashlib
import json
import os
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from isosphere import __version__
from isosphere.errors import RunError
from isosphere.runs import write_bytes

__all__ = ["LIMIT_BYTES", "FeatureCache", "tensor_identity", "weights_identity"]

LIMIT_BYTES = 2 << 30
"""Of all files together; the longest unused go first."""


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

    def get(self, key: Mapping[str, Any], compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """The tensors of this key: read if they are there, else computed and kept.

        Args:
            key: everything that the tensors depend on, as JSON; ``weights`` (a digest) begins the file's
                name. Versions of isosphere and torch are added.
            compute: called without arguments where nothing can be read.
        """
        text = json.dumps({**key, "isosphere": __version__, "torch": str(torch.__version__)}, sort_keys=True)
        digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        path = self.folder / f"{key['weights']}-{digest}.safetensors"
        found = _read(path, text)
        if found is not None:
            self.hits += 1
            with suppress(OSError):
                os.utime(path)
            return found
        self.misses += 1
        made = compute()
        self._keep(path, made, text)
        return made

    def forget_others(self, weights: Collection[str]) -> None:
        """Remove what was computed with other weights than these."""
        for path in self._files():
            if path.name.split("-", 1)[0] not in weights:
                path.unlink(missing_ok=True)

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

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("*.safetensors"))


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


def _read(path: Path, text: str) -> dict[str, Tensor] | None:
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("key") != text:
                return None
            return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except Exception:  # absent, cut short, no such format: it can always be made again
        return None
