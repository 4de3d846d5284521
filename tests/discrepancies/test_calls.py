"""How many functions a reader meets between a discrepancy and its arithmetic."""

import sys
from pathlib import Path

import pytest
import torch

import isosphere
from isosphere.discrepancies import KL, KSD, MMD
from isosphere.kernels import HeatKernel, VonMisesFisherKernel
from isosphere.sphere import normalize

SOURCE = str(Path(isosphere.__file__).parent)


def functions_called(call):
    """Functions of isosphere that are entered, each once, however often it runs."""
    found = set()

    def watch(frame, event, _):
        if event == "call" and frame.f_code.co_filename.startswith(SOURCE):
            found.add((frame.f_code.co_filename, frame.f_code.co_qualname))

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        call()
    finally:
        sys.setprofile(before)
    return found


@pytest.mark.parametrize(
    ("build", "warm", "first"),
    [
        (lambda: MMD(HeatKernel(97)), 12, 35),
        (lambda: KSD(HeatKernel(101)), 12, 35),
        (lambda: KL(VonMisesFisherKernel(103)), 22, 35),
    ],
    ids=["MMD", "KSD", "KL"],
)
def test_a_call_is_short_to_read(build, warm, first):
    """The dimensions are used nowhere else in the tests, so that the first call has to fit its polynomial."""
    discrepancy, z = build(), normalize(torch.randn(40, 128))
    z = normalize(z[:, : discrepancy.dim]).requires_grad_()
    assert len(functions_called(lambda: discrepancy(z))) <= first
    assert len(functions_called(lambda: discrepancy(z))) <= warm
