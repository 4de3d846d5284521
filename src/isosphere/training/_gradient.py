"""From the views of a batch to the gradient of its loss: in one pass, or in pieces that fit into memory."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from isosphere.devices import generator_states, set_generator_states
from isosphere.errors import UsageError, option
from isosphere.methods import Method
from isosphere.training._meters import StepTimer

if TYPE_CHECKING:
    from lightning.fabric import Fabric


class Step(nn.Module):
    """The method as Fabric likes it: tensors out, whatever the method's own class of loss is."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, views: list[Tensor], *, whole: bool = True) -> tuple[Any, ...]:
        """Total and parts of the loss; with ``whole=False`` the outputs of the networks alone."""
        if not whole:
            return self.method.outputs(views)
        loss = self.method(views)
        return loss.total, loss.parts


class Differentiator:
    r"""Adds the gradient of the loss of a batch to the parameters: ``differentiator(views) -> (total, parts)``.

    With more than one piece no graph of the whole batch is ever kept. A first pass makes the outputs
    :math:`z = f_\theta(x)` of every piece without a graph; the loss of all of them and its gradient
    :math:`g = \partial \mathcal L / \partial z` follow, on embeddings alone; a second pass makes each piece again, with
    a graph, and adds

    .. math:: \partial_\theta \langle f_\theta(x_k), g_k \rangle, \qquad
              \sum_k \partial_\theta \langle f_\theta(x_k), g_k \rangle = \partial_\theta \mathcal L(f_\theta(x)).

    So the loss is that of the whole batch, negatives and discrepancies included, not a mean over pieces; the price is
    one forward pass more. Both passes draw the same random numbers (dropout).

    *Batch norm* in training mode has the statistics of a piece, over all ranks where it is synchronised, as if the
    piece were the batch; running statistics move once for each piece, in the order of the pieces. Without batch norm,
    or with frozen statistics, the gradient is that of the whole batch up to the rounding of sums.

    Args:
        network: a :class:`Step` that Fabric has set up. pieces: equal parts of this rank's rows.

    Raises: UsageError for a method that is :attr:`~isosphere.methods.Method.indivisible`.
    *Reference.* Gao et al., Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup, 2101.06983.
    """

    def __init__(
        self, network: nn.Module, method: Method, fabric: "Fabric", timer: StepTimer, *, pieces: int = 1
    ) -> None:
        if pieces > 1 and method.indivisible is not None:
            raise UsageError(
                f"this method takes no micro-batches: {method.indivisible}. Leave train.micro_batch out and give a "
                f"smaller {option('batch_size')}, or choose another {option('method')}."
            )
        self.network, self.method, self.fabric = network, method, fabric
        self.timer, self.pieces = timer, pieces

    def __call__(self, views: list[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        if self.pieces > 1:
            return self._in_pieces(views)
        with self.timer.forward():
            total, parts = self.network(views)
        with self.timer.backward():
            self.fabric.backward(total)
        return total.detach(), parts

    def _in_pieces(self, views: list[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        pieces = list(zip(*(view.chunk(self.pieces) for view in views), strict=True))
        buffers = [(buffer, buffer.clone()) for buffer in self.method.buffers()]
        states, outputs = [], []
        with torch.no_grad(), self.timer.forward():
            for piece in pieces:
                states.append(generator_states(self.fabric.device))
                outputs.append(self.network(list(piece), whole=False))
            for buffer, before in buffers:  # the second pass moves them, and only it
                buffer.copy_(before)
        with self.timer("loss"):
            rows = [torch.cat(part, 1).requires_grad_() for part in zip(*outputs, strict=True)]
            loss = self.method.loss(*rows)
            slopes = torch.autograd.grad(loss.total, rows, allow_unused=True)
            cut = [None if slope is None else slope.chunk(self.pieces, 1) for slope in slopes]
        after = generator_states(self.fabric.device)
        for k, piece in enumerate(pieces):
            set_generator_states(states[k])
            with self.fabric.no_backward_sync(self.network, enabled=k + 1 < len(pieces)):  # type: ignore[arg-type]
                with self.timer.forward():
                    again = self.network(list(piece), whole=False)
                with self.timer.backward():
                    pairs = zip(again, cut, strict=True)
                    inner = [(z * g[k]).sum() for z, g in pairs if g is not None and z.requires_grad]
                    self.fabric.backward(torch.stack(inner).sum())
        set_generator_states(after)
        return loss.total.detach(), loss.parts


def check_micro_batch(batch: int, micro_batch: int | None, ranks: int) -> None:
    """Refuse pieces that are not equal, or that the ranks cannot share.

    Raises: UsageError that names the nearest size that will do.
    """
    if micro_batch is None or (batch % micro_batch == 0 and micro_batch % ranks == 0):
        return
    fitting = pieces_that_fit(batch, ranks)
    if not fitting:
        raise UsageError(f"a batch of {batch} cannot be shared by {ranks} ranks: give a multiple of {ranks}.")
    nearest = min(fitting, key=lambda size: (abs(size - micro_batch), size))
    shared = f" and be a multiple of the {ranks} ranks" if ranks > 1 else ""
    raise UsageError(
        f"train.micro_batch = {micro_batch} must divide the batch of {batch} into equal pieces{shared}: give "
        f"{option('train.micro_batch', nearest)}."
    )


def pieces_that_fit(batch: int, ranks: int) -> list[int]:
    """Sizes of micro-batches that a batch can be taken in, from small to large."""
    return [size for size in range(2, batch + 1) if batch % size == 0 and size % ranks == 0]


def pieces_of(batch: int | None, micro_batch: int | None) -> int:
    """In how many pieces a batch is taken; both counted over all ranks."""
    return 1 if micro_batch is None or batch is None else max(1, batch // micro_batch)
