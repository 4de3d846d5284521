"""Weights of other people's files: found by what is in them, whatever they are nested in, and never unpickled."""

import warnings
import zipfile
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from isosphere.errors import RunError, UsageError, option
from isosphere.models._record import Stem

_MAPPINGS = 10_000
"""Mappings of a file that are looked into; the state of an optimiser alone has thousands."""
_NAMED = 6
"""Tensors and keys that a message lists."""
_WRAPPERS = {"_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module"}
"""What torch puts into the names of wrapped modules."""
_SETTINGS = (
    *(
        "argparse.Namespace",
        "collections.defaultdict",
        "types.SimpleNamespace",
        "pathlib.",
        "datetime.",
        "numpy.",
    ),
    *("omegaconf.", "lightning", "pytorch_lightning.", "typing.", "easydict.", "yacs.", "ml_collections."),
    *(
        f"{module}.{kind}"
        for module in ("builtins", "__builtin__")
        for kind in ("object", "dict", "list", "int")
    ),
)
"""Kinds of settings and figures that checkpoints hold beside tensors. They are read as nothing: none of their code
is imported or run.
"""
_OURS = "encoder.backbone."
"""The student of one of our own checkpoints, as in ``encoder.safetensors``."""
_HANDED_ON = ("target_encoder", "ema", "model_ema", "ema_model", "state_dict_ema")
"""Averages that are handed on as the result; beside them the teachers."""
_FOLLOWING = ("student", "momentum", "encoder_k", "key_encoder", "target_network")
"""Networks beside the one that is handed on."""


@dataclass(frozen=True)
class Network:
    """One network of a file: its tensors by the names that they have in the network to be loaded, and what lies beside
    them.
    """

    label: str
    """Where in the file, such as ``teacher.backbone.``."""
    tensors: Mapping[str, Tensor]
    others: tuple[str, ...] = ()
    """Where networks are that would fit as well."""
    names: str = ""
    """Whose names they had, if not timm's."""

    def fitting(self, own: Mapping[str, Tensor]) -> int:
        """How many have the network's shape."""
        return sum(name in self.tensors and self.tensors[name].shape == x.shape for name, x in own.items())

    def named(self, own: Mapping[str, Tensor]) -> int:
        """How many have a name of the network's."""
        return len(own.keys() & self.tensors.keys())


@dataclass(frozen=True)
class WeightsFile:
    """The tensors of a file, in mappings by name as they are nested in it; on the CPU, read as they are used.

    Kinds: safetensors, and whatever ``torch.save`` wrote: weights, or checkpoints of Lightning, solo-learn, lightly,
    DINO, MoCo, I-JEPA and isosphere.
    """

    path: Path
    nested: Mapping[str, Mapping[str, Tensor]]

    @classmethod
    def read(cls, path: str | Path) -> "WeightsFile":
        """Raises: UsageError if there is no such file; RunError if it is damaged, or holds no tensors by name."""
        path = Path(path)
        if not path.is_file():
            raise UsageError(f"{option('init')}: no file '{path}'.")
        content = _content(path)
        nested = dict(_mappings(content))
        if not nested:
            inside = content if isinstance(content, dict) else ()
            words = a_few(key if isinstance(key, str) else type(key).__name__ for key in inside)
            keys = f" with {words}" if words else ""
            raise RunError(
                f"{option('init')}: '{path}' holds a {type(content).__name__}{keys}, expected tensors by name, as "
                "torch.save(model.state_dict(), ...) writes them."
            )
        return cls(path, nested)

    def stem(self, backbone: nn.Module) -> Stem | None:
        """The stem of the residual network in the file, None where it tells of none."""
        found = self.network(backbone)
        return None if found is None else stem_of(found.tensors)

    def network(self, backbone: nn.Module) -> Network | None:
        """The network of the file that fits this one best, None if none of its names is known here.

        Among equals the averaged one where a method hands that on (the teacher of DINO, the target encoder of
        I-JEPA), else the one that gradients have trained.
        """
        own = required(backbone)
        found = [
            Network(label + prefix, tensors)
            for label, mapping in self.nested.items()
            for prefix, tensors in _by_prefix(mapping, backbone).items()
        ]
        found.sort(key=lambda one: (-one.fitting(own), _rank(one.label), len(one.label)))
        if not found:
            return None
        equals = tuple(one.label for one in found[1:] if one.fitting(own) == found[0].fitting(own))
        return replace(found[0], others=equals)


def stem_of(weights: Mapping[str, Tensor]) -> Stem | None:
    """The stem of a residual network by its weights, None where they tell of none."""
    kernel = weights.get("conv1.weight")
    if kernel is None or kernel.ndim != 4:
        return None
    return "small" if kernel.shape[-1] == 3 else "full"


# --- reading --------------------------------------------------------------------------------------------------


def _content(path: Path) -> Any:
    """What a file holds: tensors, and plain values that they are nested in."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
        if start[8:] == b"{":
            from safetensors import safe_open

            with safe_open(path, "pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (it is no mapping)
        if mapped := start.startswith(b"PK"):
            _require_stored(path)
        with (
            warnings.catch_warnings(action="ignore"),  # torch's remarks on files that are none of its own
            torch.serialization.safe_globals([(_stand_in(name), name) for name in _foreign(path, mapped)]),
        ):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except (RunError, torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # torch raises nearly anything on a damaged file, and advises to trust it
        raise RunError(
            f"{option('init')}: '{path}' could not be read as weights: it is damaged or cut short, or no .safetensors "
            "or .pth file of tensors alone."
        ) from error


def _require_stored(path: Path) -> None:
    """Torch compresses nothing: what is would be unpacked into memory, whatever its size."""
    with zipfile.ZipFile(path) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("compressed")


def _foreign(path: Path, zipped: bool) -> list[str]:
    """What a checkpoint names beside tensors and plain values. Raises: RunError if that is more than settings."""
    if not zipped:  # older files cannot be looked through beforehand
        return ["argparse.Namespace", "__builtin__.object"]
    names = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    if code := [name for name in names if not name.startswith(_SETTINGS)]:
        raise RunError(
            f"{option('init')}: '{path}' could not be read as weights: it holds pickled objects ({a_few(code)}), which "
            "can run code. Save the tensors alone where it was made: torch.save(model.state_dict(), ...)."
        )
    return names


class _Nothing:
    """Stands for an object that is not read."""

    def __init__(self, *_: object) -> None: ...

    def __new__(cls, *_: object) -> "_Nothing":
        return super().__new__(cls)

    def __setstate__(self, _: object) -> None: ...


def _empty(*_: object) -> dict[Any, Any]:
    return {}


def _stand_in(name: str) -> Any:
    """What an object of this type is read as; mappings keep what is in them."""
    kind = name.rpartition(".")[2]
    return _empty if kind == "defaultdict" else dict if kind == "AttributeDict" else _Nothing


def _mappings(content: Any) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Tensors by name, in the mappings of a file from the outermost to the innermost, each once."""
    waiting, seen = deque([("", content)]), set()
    while waiting and len(seen) < _MAPPINGS:
        label, value = waiting.popleft()
        if not isinstance(value, dict) or id(value) in seen:
            continue
        seen.add(id(value))
        named = {key: x for key, x in value.items() if isinstance(key, str)}
        tensors = {key: x for key, x in named.items() if isinstance(x, Tensor) and _is_plain(x)}
        if tensors:
            yield label, tensors
        waiting.extend((f"{label}{key}.", x) for key, x in named.items() if isinstance(x, dict))


def _is_plain(x: Tensor) -> bool:
    """Whether it holds numbers in rows, neither sparse nor quantised nor without data."""
    return x.layout == torch.strided and not x.is_quantized and not x.is_complex() and x.device.type == "cpu"


# --- choosing -------------------------------------------------------------------------------------------------


def required(backbone: nn.Module) -> dict[str, Tensor]:
    """What has to come from the file: all but the counts of batches, which old files lack and nothing reads."""
    return {key: x for key, x in backbone.state_dict().items() if not key.endswith("num_batches_tracked")}


def _by_prefix(tensors: Mapping[str, Tensor], backbone: nn.Module) -> dict[str, dict[str, Tensor]]:
    """Tensors behind each prefix that has names of the network behind it.

    The children of a network may also be numbered, as in the ``nn.Sequential`` that people cut a ResNet into.
    """
    own = backbone.state_dict().keys()
    numbered = {
        f"{i}.{key.partition('.')[2]}": key
        for i, (child, _) in enumerate(backbone.named_children())
        for key in own
        if key.startswith(f"{child}.")
    }
    longest = max((key.count(".") for key in own), default=0) + 1
    plain = {
        ".".join(part for part in key.split(".") if part not in _WRAPPERS): x for key, x in tensors.items()
    }
    found: dict[str, dict[str, Tensor]] = {}
    for key, x in plain.items():
        parts = key.split(".")
        for i in range(max(0, len(parts) - longest), len(parts)):
            name, prefix = ".".join(parts[i:]), ".".join([*parts[:i], ""])
            if name in own or name in numbered:
                found.setdefault(prefix, {}).setdefault(
                    numbered.get(name, name) if name not in own else name, x
                )
    for prefix, named in found.items():
        for key, x in plain.items():
            name = key.removeprefix(prefix)
            if key.startswith(prefix) and name not in numbered:
                named.setdefault(name, x)
    return found


def _rank(label: str) -> int:
    """The less, the sooner a network of this label is taken."""
    words = label.lower().split(".")
    if label.removeprefix("method.") == _OURS:
        return 0
    if any(word.startswith("teacher") or word in _HANDED_ON for word in words):
        return 1
    return 3 if any(part in word for word in words for part in _FOLLOWING) else 2


def a_few(words: Iterable[str]) -> str:
    """The first few of them, shortened, and how many more there are."""
    listed = [word if len(word) <= 80 else f"{word[:77]}..." for word in words]
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return ", ".join(listed[:_NAMED]) + more
