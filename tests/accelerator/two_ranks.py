"""Every discrepancy and method on two ranks, then a training; ``two_ranks.py FOLDER`` on processes of torchrun.

They meet in a group that refuses tensors of the CPU, as NCCL does.
"""

import sys
import warnings
from pathlib import Path

import torch
import torch.distributed as dist

from isosphere.discrepancies import DISCREPANCIES, build_discrepancy
from isosphere.methods import DISTILLATION, METHODS, build_method
from isosphere.models import build_encoder, synchronise
from isosphere.reductions import equal_rows
from isosphere.runs import RunFolder
from isosphere.sphere import normalize
from isosphere.training import Differentiator, Step, StepTimer, _setup, fit, load_config, prepare
from isosphere.training._hardware import OF_RANKS
from tests.accelerator import simulated
from tests.accelerator.simulated.lightning import fabric

warnings.simplefilter("error")
warnings.filterwarnings("ignore", message="barrier")  # Lightning names the device on CUDA alone
D, SEED = "simulated", 0


made = fabric(devices=2, **OF_RANKS)  # begins the group
rank = made.global_rank

try:
    dist.all_reduce(torch.ones(1))
    raise SystemExit("a tensor of the CPU was let through")
except RuntimeError:
    pass

torch.manual_seed(SEED)
z = normalize(torch.randn(2, 40, 16))
for name in DISCREPANCIES:
    own = z[:, :25] if rank == 0 else z[:, 25:]
    value = build_discrepancy(name, 16).to(D)(own.to(D)).cpu()
    torch.testing.assert_close(value, build_discrepancy(name, 16).alone()(z), rtol=1e-4, atol=1e-6)

generator = torch.Generator().manual_seed(SEED)
views = [torch.randn(16, 3, 16, 16, generator=generator) for _ in range(2)]
targets = normalize(torch.randn(16, 16, generator=generator))[..., None, None]
in_pieces = "kl-vmf", "byol", DISTILLATION
for name in METHODS:
    whole = [*views, targets] if name == DISTILLATION else views
    own = [view[8 * rank : 8 * rank + 8].to(D) for view in whole]
    torch.manual_seed(SEED)
    dim = {} if "vje" in name else {"dim": 16}
    encoder = build_encoder("small-conv", image_size=16)
    method = build_method(name, encoder, global_views=2, hidden=32, **dim).to(D)
    method = method.prepare(n=16, views=2, batch=own).train()
    synchronise(method)
    network, timer = made.setup_module(Step(method)), StepTimer(made.device)
    for pieces in (1, 2) if name in in_pieces else (1,):
        differentiate = Differentiator(network, method, made, timer, pieces=pieces)
        for step in range(3):  # DistributedDataParallel orders its buckets anew in the second
            with simulated.record() as seen, equal_rows():
                loss, _ = differentiate(own)
                method.after_step(step / 3)
        assert not seen.waits, (name, pieces, seen.waits[0])
        both = [torch.empty_like(loss) for _ in range(2)]
        dist.all_gather(both, loss)
        assert torch.equal(*both), (name, pieces)


class Steps:
    """What fit reports to: it marks how often had been waited at the end of each step."""

    def __init__(self, seen: simulated.Record) -> None:
        self.seen = seen
        self.marks: list[int] = []

    def say(self, *args: object, **more: object) -> None: ...

    def row(self, *args: object) -> None: ...

    def close(self) -> None: ...

    def step(self, *args: object) -> None:
        self.marks.append(len(self.seen.waits))


_setup.make_fabric = lambda *a, **k: made
for limit in ("train.epochs=2", "train.minutes=0.02"):
    settings = [
        "data.source=textures:wood?count=200&test=10&size=24",
        *("data.image_size=16", "model.hidden=32", "model.dim=16", limit, "train.batch_size=8"),
        *("train.log_steps=1000", "method.name=byol", "train.micro_batch=4", "optim.clip=1"),
        "train.checkpoint_minutes=1000",  # however slow the machine is: a checkpoint is waited for
    ]
    parts = prepare(load_config(None, settings))
    folder = RunFolder(Path(sys.argv[1]) / limit)
    if rank == 0:
        folder = RunFolder.create(folder.path)
        folder.write_config(parts.config.as_mapping())
    with simulated.record() as seen:
        ui = Steps(seen)
        given = parts.config, folder, parts.method, parts.loader, parts.views, parts.fabric
        summary = fit(*given, observer=parts.observer, facts=parts.identity, ui=ui)
    if limit == "train.epochs=2":
        # From the second step of the second epoch on: what is logged and agreed after each 20 steps is waited for.
        steady = [after - before for before, after in zip(ui.marks[25:48], ui.marks[26:49], strict=True)]
        assert summary.steps == 50
        assert sum(steady) <= 2, (steady, str(seen))
    counts = torch.tensor(
        [float(summary.steps), summary.seconds if limit != "train.epochs=2" else 0.0], device=D
    )
    all_counts = [torch.empty_like(counts) for _ in range(2)]
    dist.all_gather(all_counts, counts)
    assert torch.equal(*all_counts), all_counts

# Rank 0 keeps the store, and may not leave before the others are done.
store = dist.distributed_c10d._get_default_store()
if rank == 0:
    store.wait(["the other is done"])
else:
    store.set("the other is done", "")
