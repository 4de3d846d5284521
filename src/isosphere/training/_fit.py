"""The training loop, to be read straight down."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from isosphere.data import Loader, Views
from isosphere.errors import RunError
from isosphere.methods import Method
from isosphere.runs import RunFolder
from isosphere.threads import number_of_threads
from isosphere.training._callbacks import Callback, Callbacks
from isosphere.training._config import Config
from isosphere.training._deterministic import deterministic
from isosphere.training._generators import all_generators_kept, only_training
from isosphere.training._interrupt import Interrupt, failure_in_words
from isosphere.training._monitor import Observer
from isosphere.training._reporting import Reporter, SilentReporter
from isosphere.training._state import Probe, Summary, TrainState

if TYPE_CHECKING:
    from lightning.fabric import Fabric


def fit(
    config: Config,
    folder: RunFolder,
    method: Method,
    loader: Loader,
    views: Views,
    fabric: "Fabric",
    *,
    observer: Observer | None = None,
    probe: Probe | None = None,
    ui: Reporter | None = None,
    facts: Mapping[str, Any] | None = None,
    targets: Tensor | None = None,
    callbacks: Callback | Sequence[Callback] = (),
) -> Summary:
    """Train `method` on the views of the loader's batches until the plan is done, and leave the run in `folder`.

    A checkpoint in the folder is continued: a run that was interrupted or killed ends with the same bits as
    one that was not (with a limit in minutes the schedule follows the clock, and no two runs are the same).
    `facts`, such as the number of images, must then be what they were. `probe(method)` is called after each
    `train.knn_epochs` epochs and at the end, in evaluation mode; its figures join the epoch's row, as those of the
    `observer` do after each epoch (without one the monitor looks at images of the last batch). `targets`
    ``(images, d)`` are what a teacher says of each image (:class:`isosphere.methods.Distillation`). `callbacks` watch,
    and may stop the training (:class:`Callback`). None of them can change training: generators and modes are put back.

    The process is left as it was found: its random generators, which training seeds by `train.seed`, its signal
    handlers, whether torch records gradients and takes deterministic algorithms, its number of threads.

    Raises: RunError when the loss or a weight is not finite (the last good checkpoint is kept), or when a
    file cannot be written or read; when another thread of this process trains.
    """
    watching = Callbacks(callbacks, fabric.device)
    try:
        with (
            only_training(),
            all_generators_kept(),
            deterministic(config.train.deterministic),
            torch.enable_grad(),
            number_of_threads(),
            Interrupt() as interrupt,
        ):
            torch.manual_seed(config.train.seed)
            given = config, folder, method, loader, views, fabric, targets
            run = TrainState(*given, facts or {}, observer, probe, ui or SilentReporter(), watching)
            with closing(run):
                run.begin()
                run.decide(interrupt.requested)
                while not run.stop:
                    for batch in run.batches():
                        run.step(batch)
                        run.decide(interrupt.requested)
                        if run.at.batch == len(loader):
                            run.end_epoch()
                        elif run.row_due:
                            run.report(run.signal())
                        if run.stop:
                            break
                        if run.checkpoint_due:
                            run.save()
                run.finish()
            return run.summary()
    except Exception as error:
        said = failure_in_words(error, folder.checkpoint, config, fabric)
        if said is None or error is watching.error:
            raise
        raise RunError(said) from None
