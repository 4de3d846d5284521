"""Compiles the passes of a GPU for an H200 (sm_90), which needs none: by Triton down to machine code."""

from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from isosphere.kernels import HeatKernel, VonMisesFisherKernel
from isosphere.reductions import _tiles

TENSORS = {"c", "totals", "of_rows", "of_columns", "value", "slope"}


def compiled(kernel: Any, *constants: Any) -> bytes:
    """Machine code of a kernel; its constants are the arguments in capitals, in their order."""
    names = [name for name in kernel.arg_names if name.isupper()]
    values = dict(zip(names, constants, strict=True))
    kinds = {
        name: "constexpr" if name in values else "*fp32" if name in TENSORS else "i32"
        for name in kernel.arg_names
    }
    source = ASTSource(fn=kernel, signature=kinds, constexprs=values)
    options = {"num_warps": _tiles.WARPS}
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["cubin"]


def main() -> None:
    form, side = _tiles._form, _tiles.SIDE
    for value, slope in (HeatKernel(256).centred_series(), HeatKernel(12, time=0.03).centred_series()):
        for exclude, slopes in ((False, True), (True, False)):
            assert compiled(_tiles._mean_tile, exclude, slopes, *form(value), *form(slope), side)
            print("mean compiled")
    for series in (VonMisesFisherKernel(256).log_series(), HeatKernel(12, time=0.02).log_series()):
        assert series is not None
        value, slope = series
        assert compiled(_tiles._log_sum_tile, True, *form(value), side)
        assert compiled(_tiles._weight_tile, True, *form(value), *form(slope), side)
        print("log sums compiled")


if __name__ == "__main__":
    main()
