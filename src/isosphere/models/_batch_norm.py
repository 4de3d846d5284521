"""Batch norm whose batch is that of all ranks."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from isosphere.reductions import Group, all_reduce, full_precision, rows_are_equal, wide, world_size


class RankBatchNorm(_BatchNorm):
    r"""Batch norm over the rows of all ranks, on any backend; equal to one process on the concatenated batch.

    .. math:: y = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}}\, \gamma + \beta, \qquad
              \mu = \frac1n \sum_r \sum_{i \le n_r} x_{ri}, \quad
              \sigma^2 = \frac1n \sum_r \sum_{i \le n_r} (x_{ri} - \mu)^2

    per channel, n counting rows and positions of all ranks; counts may differ and a rank may have none. Parameters,
    buffers and their names are those of ``nn.BatchNorm1d`` and ``2d``, so that weights go from one to the other; the
    running variance is the unbiased one, and all ranks hold the same. ``momentum=None`` is the cumulative mean.
    On one rank, and in evaluation mode with running statistics, it is torch's own.

    Shape:
        ``(n, c, *)`` to the same.
    Raises:
        ValueError: one value per channel over all ranks in training mode.
    Numerics:
        Statistics in float32 or wider, autocast off, the variance from the deviations (two sums over ranks); the result
        in the type of the input. Differentiable any number of times; gradients of x, weight and bias follow from
        :func:`~isosphere.reductions.all_reduce`, as those of torch's ``SyncBatchNorm``, which refuses CPUs.

    Example:
        >>> x = torch.randn(6, 4)
        >>> bool(torch.equal(RankBatchNorm(4)(x), nn.BatchNorm1d(4)(x)))  # on one rank
        True
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        group: Group = None,
    ):
        super().__init__(num_features, eps, momentum, affine, track_running_stats)
        self.group: Group = group
        self.drop, self.act = nn.Identity(), nn.Identity()  # what timm's BatchNormAct2d adds

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2 or input.shape[1] != self.num_features:
            raise ValueError(f"got shape {tuple(input.shape)}, expected (n, {self.num_features}, *)")

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        of_the_batch = self.training or self.running_mean is None
        shared = of_the_batch and world_size(self.group) > 1
        return self.act(self.drop(self._over_ranks(input) if shared else super().forward(input)))

    def _over_ranks(self, input: Tensor) -> Tensor:
        with full_precision(input.device):
            x = wide(input)
            others, here = [0, *range(2, x.ndim)], x.numel() // self.num_features
            if rows_are_equal():  # then no number of the device has to be read
                n = here * world_size(self.group)
                total = all_reduce(x.sum(others), self.group)
            else:
                summed = all_reduce(torch.cat([x.sum(others), x.new_full((1,), here)]), self.group)
                total, n = summed[:-1], summed[-1].detach()
            if n < 2:
                raise ValueError(
                    f"got {int(n)} value per channel over all ranks, expected at least 2 in training mode"
                )
            mean = (total / n).view(-1, *[1] * (x.ndim - 2))
            centred = x - mean
            variance = all_reduce(centred.square().sum(others), self.group) / n
            if self.training and self.running_mean is not None:
                self._track(mean.detach().flatten(), variance.detach() * (n / (n - 1)))
            scale = torch.rsqrt(variance + self.eps)
            scale = scale if self.weight is None else scale * self.weight.to(x.dtype)
            output = centred * scale.view_as(mean)
            if self.bias is not None:
                output = output + self.bias.to(x.dtype).view_as(mean)
        return output.to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(variance.to(self.running_var.dtype), share)

    @classmethod
    def like(cls, norm: _BatchNorm, group: Group = None) -> "RankBatchNorm":
        """The same layer over ranks, holding the very parameters and buffers of ``norm``.

        Raises:
            TypeError: a layer that does more than batch norm (timm's ``BatchNormAct2d`` is known).
        """
        from timm.layers.norm_act import BatchNormAct2d

        if type(norm).forward is not _BatchNorm.forward and not isinstance(norm, BatchNormAct2d):
            raise TypeError(
                f"got {type(norm).__name__}, whose forward is its own, expected nn.BatchNorm1d, 2d or 3d: put "
                "RankBatchNorm there yourself"
            )
        made = cls(
            norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats, group=group
        )
        made.weight, made.bias = norm.weight, norm.bias
        made.running_mean, made.running_var = norm.running_mean, norm.running_var
        made.num_batches_tracked = norm.num_batches_tracked
        if isinstance(norm, BatchNormAct2d):
            made.drop, made.act = norm.drop, norm.act
        return made.train(norm.training)


def synchronise(module: nn.Module, group: Group = None) -> nn.Module:
    """Replace every batch norm in a module by one over the ranks of ``group``, and return the module.

    On CUDA by torch's ``SyncBatchNorm`` (its own kernels, NCCL), elsewhere by :class:`RankBatchNorm`; parameters,
    buffers and their names stay. The module itself is returned changed, except where it is a batch norm. Convert
    after the module is on its device and before an optimiser or DistributedDataParallel sees it.

    Raises:
        TypeError: a batch norm of a kind of its own.
        ValueError: ``group=False`` (there is nothing to share).
    """
    if group is False:
        raise ValueError("got group=False, expected a group or None: on one rank there is nothing to share")
    if any(tensor.device.type == "cuda" for tensor in [*module.parameters(), *module.buffers()]):
        from timm.layers.norm_act import convert_sync_batchnorm

        return convert_sync_batchnorm(module, group)
    made: dict[int, nn.Module] = {}  # a layer that is used in two places stays one layer

    def replaced(part: nn.Module) -> nn.Module:
        if isinstance(part, _BatchNorm) and not isinstance(part, nn.SyncBatchNorm | RankBatchNorm):
            return made.setdefault(id(part), RankBatchNorm.like(part, group))
        for name, child in list(part._modules.items()):  # named_children leaves out the second of two places
            if child is not None:
                setattr(part, name, replaced(child))
        return part

    return replaced(module)
