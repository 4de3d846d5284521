"""The weights of a run in files that need no training code to be read."""

from typing import Any

from isosphere.runs import RunFolder

__all__ = ["write_weights"]


def write_weights(folder: RunFolder, method: Any, *, seed: int, step: int) -> None:
    """Write encoder.safetensors with encoder.json, and the rest of the method (head, teacher) as
    method.safetensors.

    `seed` is the seed from which the encoder was initialised: with it the untrained encoder can be had again.
    """
    spec = {**method.encoder.spec(), "weights": "student", "seed": seed, "step": step}
    folder.write_encoder(method.encoder.state_dict(), spec)
    folder.write_method({k: v for k, v in method.state_dict().items() if not k.startswith("encoder.")})
