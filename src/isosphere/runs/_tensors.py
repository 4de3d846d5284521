"""Files of tensors that know their own content: damage is noticed when they are read."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from isosphere.errors import RunError
from isosphere.reading import require_regular

if TYPE_CHECKING:
    from torch import Tensor

_DIGEST = "digest"


def pack_tensors(tensors: "Mapping[str, Tensor]", about: Mapping[str, str] | None = None) -> bytes:
    """Tensors in the safetensors format, with what is said of them and a digest of their content."""
    from safetensors.torch import save

    # Weights in channels-last order or sharing a storage are refused by the format: store plain copies.
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    packed = save(plain, metadata={"format": "pt", **(about or {}), _DIGEST: tensors_identity(plain)})
    # The library orders what is said by chance: sorted, the same tensors are the same bytes.
    start = 8 + int.from_bytes(packed[:8], "little")
    header = json.dumps(json.loads(packed[8:start]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + packed[start:]


def read_tensors(path: Path) -> "tuple[dict[str, Tensor], dict[str, str]]":
    """The tensors of a file, on the CPU, and what is said of them; also of a file without a digest, as older ones are.

    Raises: RunError if it cannot be read, or its content is not what was written.
    """
    from safetensors import SafetensorError, safe_open

    try:
        require_regular(path)
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            about = dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path} cannot be read: {error}") from error
    if about.pop(_DIGEST, "") not in ("", tensors_identity(tensors)):
        raise RunError(
            f"{path} is damaged: its content is no longer what was written. Put a copy in its place."
        )
    return tensors, about


def tensor_identity(x: "Tensor") -> str:
    """Digest of a tensor's dtype, shape and content, wherever it lies."""
    import torch

    digest = hashlib.blake2b(f"{x.dtype} {tuple(x.shape)}".encode(), digest_size=16)
    flat = x.detach().contiguous().reshape(-1).view(torch.uint8) if x.numel() else x.new_empty(0)
    for part in flat.split(1 << 24):
        digest.update(part.cpu().numpy().data)
    return digest.hexdigest()


def tensors_identity(tensors: "Mapping[str, Tensor]") -> str:
    whole = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        whole.update(f"{name} {tensor_identity(tensors[name])}\n".encode())
    return whole.hexdigest()
