"""A folder that the Hugging Face Hub takes as it is: weights and description in timm's layout, and a model card."""

import tempfile
from pathlib import Path
from typing import Any

from safetensors.torch import save

from isosphere.atomic import make_folder, require_free, write_bytes, write_json, write_text
from isosphere.deploy._checked import Exported, accept, difference, plain, words
from isosphere.deploy._embedder import Embedder
from isosphere.deploy._model_card import model_card
from isosphere.deploy._snippets import hub_snippet, sample
from isosphere.deploy._timm_card import require_timm, timm_card
from isosphere.errors import UsageError, option
from isosphere.runs import RunFolder

CONFIG, WEIGHTS, CARD, SCRIPT = "config.json", "model.safetensors", "README.md", "prepare.py"
"""The Hub's and timm's names, and our own for what reads pictures."""


def write_hub(run: Embedder, out: str | Path | None, *, overwrite: bool) -> Exported:
    """Write the folder; arguments and errors as of :func:`isosphere.deploy.export`. A model card that is there is kept:
    somebody may have written in it.
    """
    import timm

    encoder = run.encoder
    require_timm(encoder)
    if encoder.stem == "small":
        raise UsageError(
            f"this {encoder.name} was trained on small images and has a 3x3 stem, which timm builds no network with: "
            f"give {option('format', 'timm')}, whose lines put the stem in, or train at 80 px or more "
            f"({option('image_size', 96)})."
        )
    name = "hub" if run.role == "student" else f"hub-{run.role}"
    folder = run.folder.path / "export" / name if out is None else Path(out)
    for name in (CONFIG, WEIGHTS, SCRIPT):
        RunFolder.refuse_own(folder / name)
        require_free(folder / name, overwrite=overwrite or out is None)
    name = (run.folder.path if out is None else folder).resolve().name
    weights = save(plain(encoder.backbone), metadata={"format": "pt"})
    config = _config(run, name)
    with tempfile.TemporaryDirectory() as tried:
        write_bytes(Path(tried) / WEIGHTS, weights)
        write_json(Path(tried) / CONFIG, config)
        network = timm.create_model(f"local-dir:{tried}", pretrained=True, num_classes=0)
        error = difference(encoder, network.to(run.device).eval(), run)
    accept(error)
    make_folder(folder)
    write_bytes(folder / WEIGHTS, weights)
    write_json(folder / CONFIG, config)
    write_text(folder / SCRIPT, run.pixels.script())
    if not (folder / CARD).exists():
        write_text(folder / CARD, model_card(run, name))
    files = tuple(folder / name for name in (CARD, CONFIG, WEIGHTS, SCRIPT))
    return Exported(files, hub_snippet(folder, sample(run.reading.channels)), words(error, "timm"))


def _config(run: Embedder, name: str) -> dict[str, Any]:
    """``config.json`` as timm reads it: what builds the network, and what its weights were made for."""
    encoder, card = run.encoder, timm_card(run)
    own: dict[str, Any] = getattr(encoder.backbone, "pretrained_cfg", {})
    known = {key: own.get(key) for key in ("first_conv", "classifier")}  # for other channels and classes
    tag = "".join(c if c.isalnum() else "_" for c in name)
    cfg = {**card.pop("pretrained_cfg"), **known, "tag": tag, "custom_load": False}
    arguments = {**encoder.arguments.given(), "in_chans": encoder.in_chans}
    return {**card, "num_classes": 0, "model_args": arguments, "pretrained_cfg": cfg}
