"""A finished run, read back."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from isosphere.data import Views
from isosphere.errors import RunError
from isosphere.methods import Method
from isosphere.models import Encoder
from isosphere.runs import RunFolder
from isosphere.training.config import Config, parse_config
from isosphere.training.setup import build, build_views

__all__ = ["Run", "load_method", "load_run", "untrained"]


@dataclass(frozen=True)
class Run:
    """A run's configuration, its method in evaluation mode with the trained weights, and its folder."""

    config: Config
    method: Method
    folder: RunFolder

    @property
    def encoder(self) -> Encoder:
        """The backbone alone."""
        return cast(Encoder, self.method.encoder)

    @property
    def views(self) -> Views:
        """The views it was trained on."""
        return build_views(self.config, self.encoder)


def load_run(path: str | Path, *, epoch: int | None = None) -> Run:
    """Read a run folder: configuration, encoder, head and whatever else the method has.

    `epoch`: with the weights that were kept after this epoch (``train.keep_every``); None: the last ones.

    Raises: UsageError if `path` is no run, or one that has kept no weights of this epoch; RunError if its files
        are damaged or do not belong together.
    """
    folder = RunFolder.open(path)
    config = parse_config(folder.read_config())
    state, spec = folder.read_encoder()
    # Pretrained weights or a file of them are not needed again: the run has its own.
    _, method = build(config.replace(model={"init": "random"}))
    rest = folder.read_method()
    if epoch is not None:
        kept = folder.read_kept(epoch)
        state = {name[8:]: x for name, x in kept.items() if name.startswith("encoder.")}
        rest = {name: x for name, x in kept.items() if not name.startswith("encoder.")}
    try:
        method.encoder.load_state_dict(state)
        left = method.load_state_dict(rest, strict=False)
    except RuntimeError as error:
        first = " ".join(line.strip() for line in str(error).splitlines()[:2])
        raise RunError(f"the weights of {path} do not fit its config.yaml: {first}") from None
    absent = [k for k in left.missing_keys if not k.startswith("encoder.") and not k.endswith("_extra_state")]
    if absent or left.unexpected_keys:
        odd = (absent + list(left.unexpected_keys))[0]
        raise RunError(f"the weights of {path} do not fit its config.yaml: {odd} is missing or unknown.")
    run = Run(config, method.eval(), folder)
    run.encoder.mean, run.encoder.std = tuple(spec["mean"]), tuple(spec["std"])
    return run


def load_method(folder: RunFolder, *, epoch: int | None = None) -> tuple[Config, Method]:
    """The configuration of a run and its method with the trained weights, in evaluation mode."""
    found = load_run(folder.path, epoch=epoch)
    return found.config, found.method


def untrained(config: Config | Run) -> Method:
    """The method of a configuration as its seed initialises it, in evaluation mode."""
    return build(config.config if isinstance(config, Run) else config)[1].eval()
