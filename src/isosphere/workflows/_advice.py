"""What to type about a run that is not good enough yet, complete, so that it can be pasted."""

from typing import Any

from isosphere.errors import command, option
from isosphere.runs import read_metrics
from isosphere.training import lengthened, more_spread
from isosphere.workflows._networks import DEFAULT
from isosphere.workflows._splits import are_those, is_name
from isosphere.workflows._trained import DATA, Trained


def images_of(run: Trained, data: Any = None) -> str:
    """The images of the training as a command names them: where they are, or `data` if these are the ones; empty where
    the run cannot be gone on with.
    """
    found = run.trained_on
    return str(data) if found == DATA and is_name(data) and are_those(run, data) else found


def longer(run: Trained, data: Any = None) -> str:
    """The command that goes on with a run for longer, as the training itself advises; empty without images."""
    if not (images := images_of(run, data)):
        return ""
    train, count = run.config.train, run.folder.read_images().get("count", 0)
    more = lengthened(train, steps=steps_of(run), epoch=count // (train.batch_size or 1))
    return command("train", images, out=run.folder.path, resume=True, **more)


def steps_of(run: Trained) -> int:
    """Steps of the training that ended in these weights; 0 where they are not known."""
    rows = read_metrics(run.folder.metrics) if run.is_last and not run.frozen else []
    return int(rows[-1].get("step") or 0) if rows else 0


def better(run: Trained, data: Any = None) -> str:
    """The command that adapts a network to these images that is as it was given; empty for any other."""
    if not run.standing or run.adaptation is not None:
        return ""
    return adapt_instead(run.encoder.name, run.config.model.init, _typed(data))


def adapt_instead(encoder: str | None, init: str, data: str) -> str:
    """The command that adapts a network with these weights to the images."""
    return command(
        "adapt",
        data,
        encoder=None if encoder == DEFAULT else encoder,
        init=None if init == "pretrained" else init,
        out="runs/adapted",
    )


def spread_out(run: Trained, data: Any = None) -> str:
    """What to do about embeddings that are nearly one point."""
    if run.frozen:
        return (
            f"Train an encoder on these images instead: {command('train', _typed(data), out='runs/trained')}"
        )
    typed, setting = longer(run, data), run.method.spread_setting
    anew = f"a larger {more_spread(*setting)}" if setting else f"another {option('method')}"
    return f"Train longer{f' ({typed})' if typed else ''}, or anew with {anew}"


def _typed(data: Any) -> str:
    """Images as a command names them."""
    return str(data) if is_name(data) else DATA
