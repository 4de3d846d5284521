"""All weights of a file into a network, or none, and in words what was taken."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from isosphere.errors import RunError, UsageError, option, plural
from isosphere.models._dialects import efficientnet_pytorch
from isosphere.models._weights import Network, WeightsFile, a_few, required

Adapt = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
"""The weights of a network as its library makes them of those of a file: resampled to its size, under its names."""


def load(
    backbone: nn.Module, name: str, weights: WeightsFile, *, adapt: Adapt | None = None, partial: bool = False
) -> str:
    """Give a network the weights of a file, all of them or none, and say in words what was taken.

    `adapt`: None where the names and shapes of the file are to be those of the network. `partial`: what the file does
    not have stays as it is.

    Raises: UsageError, naming the tensors, if one of the network's is absent or of another shape; RunError if one is
        not finite, or all are zero.
    """
    own = required(backbone)
    found = _network(backbone, weights)
    adapted = dict(found.tensors) if adapt is None else _adapted(backbone, found, adapt)
    fitting = sum(key in adapted and adapted[key].shape == x.shape for key, x in own.items())
    if 2 * fitting < len(own):
        keys = [label + key for label, tensors in weights.nested.items() for key in tensors]
        best = weights.network(backbone)
        fitting = max(fitting, 0 if best is None else best.fitting(own))
        pairs = [(key, adapted[key].shape, x.shape) for key, x in own.items() if key in adapted]
        differing = [f"{key} {tuple(got)} for {tuple(of)}" for key, got, of in pairs if got != of]
        has = (
            f"Tensors of its names have other shapes: {a_few(differing)}."
            if 2 * len(differing) > min(len(own), len(adapted))
            else f"The file has {a_few(keys)}; {name} has {a_few(own)}."
        )
        raise UsageError(
            f"{option('init')}: '{weights.path}' holds {fitting} of the {len(own)} tensors of {name}: it belongs to "
            f"another encoder. Name that one with {option('encoder')}. {has}"
        )
    wrong = {key: said for key, x in own.items() if (said := _difference(key, adapted.get(key), x))}
    if wrong and not partial:
        raise UsageError(
            f"{option('init')}: '{weights.path}' leaves {plural(len(wrong), 'tensor')} of {name} without weights: "
            f"{a_few(wrong.values())}. Views of the size that it was trained on ({option('image_size', ...)}), or the "
            f"{option('encoder')} that it is of, have them all; {option('model.partial', True)} leaves them random."
        )
    taken = {key: adapted[key] for key in own if key not in wrong}
    if broken := [key for key, x in taken.items() if not x.to(own[key].dtype).isfinite().all()]:
        raise RunError(
            f"{option('init')}: '{weights.path}' holds values that are not finite, in {a_few(broken)}: that training "
            "had failed. Take an earlier checkpoint of it."
        )
    kernels = [x for x in taken.values() if x.ndim > 1]
    if kernels and not any(x.any() for x in kernels):
        raise RunError(f"{option('init')}: '{weights.path}' holds zeros alone: these are no trained weights.")
    counts = backbone.state_dict().keys() - own.keys()
    counted = {key: adapted[key] for key in counts if key in adapted and adapted[key].numel() == 1}
    backbone.load_state_dict({**taken, **counted}, strict=False)
    return _words(weights, found, own, taken, wrong)


def _network(backbone: nn.Module, weights: WeightsFile) -> Network:
    """The network of the file by the names of this one, or by those of another library that are known."""
    found = weights.network(backbone)
    if found is not None and 2 * found.named(required(backbone)) >= len(required(backbone)):
        return found
    for label, tensors in weights.nested.items():
        if (named := efficientnet_pytorch(tensors, backbone)) is not None:
            return Network(label, named, names="EfficientNet-PyTorch's")
    # timm reads the names of some others, such as those of a network's first authors.
    label = max(weights.nested, key=lambda label: len(weights.nested[label]))
    return Network(label, weights.nested[label], names="its authors'")


def _adapted(backbone: nn.Module, found: Network, adapt: Adapt) -> dict[str, Tensor]:
    """What `adapt` makes of a network; as it stands in the file what `adapt` is not asked for: integers, and kernels of
    another size, which are of another network.
    """
    own = required(backbone)
    kernels = {f"{name}.weight" for name, layer in backbone.named_modules() if isinstance(layer, nn.Conv2d)}
    kept = {
        key: x
        for key, x in found.tensors.items()
        if key in own
        and (
            x.is_floating_point() != own[key].is_floating_point()
            or (key in kernels and x.ndim == 4 and x.shape[2:] != own[key].shape[2:])
        )
    }
    return {**adapt({key: x for key, x in found.tensors.items() if key not in kept}), **kept}


def _difference(key: str, found: Tensor | None, own: Tensor) -> str:
    """What keeps a tensor from being taken; empty if nothing does."""
    if found is None:
        return f"{key} (absent)"
    if found.shape != own.shape:
        return f"{key} ({_shape(found)} in the file, {_shape(own)} here)"
    return (
        ""
        if found.is_floating_point() == own.is_floating_point()
        else f"{key} (of {found.dtype} in the file)"
    )


def _shape(x: Tensor) -> str:
    return "x".join(map(str, x.shape)) or "a number"


def _words(
    weights: WeightsFile,
    found: Network,
    own: Mapping[str, Tensor],
    taken: Mapping[str, Any],
    wrong: Iterable[str],
) -> str:
    """What was taken, from where, and what was not."""
    count = f"all {len(own)}" if len(taken) == len(own) else f"{len(taken)} of {len(own)}"
    said = [f"{count} tensors from {weights.path}"]
    if found.label:
        said.append(f"those of {a_few([found.label.rstrip('.')])}")
    if found.others:
        said.append(f"not of {a_few(label.rstrip('.') or 'the outermost' for label in found.others)}")
    if found.names:
        said.append(f"by {found.names} names")
    changed = {k: x for k, x in found.tensors.items() if k in taken and x.shape != own[k].shape}
    if adapted := [k for k, x in changed.items() if x.ndim == 4 and x.shape[2:] == own[k].shape[2:]]:
        said.append(f"{_one_of(adapted)} adapted to these channels")
    if resampled := [k for k in changed if k not in adapted]:
        said.append(f"{_one_of(resampled)} resampled to this size")
    if unused := [k for k in found.tensors if k not in own and not k.endswith("num_batches_tracked")]:
        said.append(f"{_one_of(unused)} left out")
    if random := list(wrong):
        said.append(f"random: {a_few(random)}")
    return ", ".join(said)


def _one_of(keys: list[str]) -> str:
    """How many there are, and the first of them."""
    return keys[0] if len(keys) == 1 else f"{len(keys)} ({keys[0]}, ...)"
