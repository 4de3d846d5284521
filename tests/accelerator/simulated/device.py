"""Builds the backend on first use, and tells torch of the device."""

import contextlib
import re
import sys
import types
from pathlib import Path

import torch
from torch.utils.cpp_extension import load

__all__ = ["DEVICE", "backend", "memory_peak", "reset_peak"]

DEVICE = torch.device("privateuseone:0")  # shown as simulated:0 once it has its name


FREE = 16 * 2**30
"""Bytes of memory that the device says are free."""


def _compiled() -> types.ModuleType:
    """The C++ part, compiled once for this version of torch and kept in torch's cache of extensions."""
    name = "simulated_" + re.sub(r"\W", "_", torch.__version__)
    source = Path(__file__).with_name("backend.cpp")
    return load(name=name, sources=[str(source)], extra_cflags=["-O1"])


def _lenient_operators() -> set[str]:
    """Operators that on CUDA take numbers of the CPU (0-d tensors) beside tensors of the device.

    They are those that torch's own table of operators exempts from the check of devices.
    """
    import torchgen

    table = Path(torchgen.__file__).parent / "packaged" / "ATen" / "native" / "native_functions.yaml"
    names, name = set(), ""
    for line in table.read_text(encoding="utf-8").splitlines():
        if found := re.match(r"- func: (\w+)", line):
            name = found[1]
        elif "device_check: NoCheck" in line:
            names.add(f"aten::{name}")
    # Their lists of steps are read by the kernel, on the device.
    return {name for name in names if not name.startswith("aten::_fused_")}


def _module() -> types.ModuleType:
    """``torch.simulated``: what ``torch.cuda`` is for CUDA, as far as torch and Lightning ask for it."""
    module = types.ModuleType("torch.simulated")

    def generator(device: object = None) -> torch.Generator:
        return backend.default_generator()

    def manual_seed(seed: int) -> None:
        generator().manual_seed(int(seed))

    def set_rng_state(state: torch.Tensor, device: object = None) -> None:
        generator().set_state(state)

    module.device = contextlib.nullcontext  # there is one
    module.is_available = lambda: True
    module.is_initialized = lambda: True
    module._is_in_bad_fork = lambda: False
    module._lazy_init = lambda: None
    module.device_count = lambda: 1
    module.current_device = lambda: 0
    module.set_device = lambda device: None
    module.synchronize = lambda device=None: backend.synchronize()
    module.manual_seed = module.manual_seed_all = manual_seed
    module.get_rng_state = lambda device=None: generator().get_state()
    module.set_rng_state = set_rng_state
    module.get_rng_state_all = lambda: [generator().get_state()]
    module.set_rng_state_all = lambda states: set_rng_state(states[0])
    module.get_amp_supported_dtype = lambda: [torch.bfloat16, torch.float16]
    module.is_bf16_supported = lambda including_emulation=True: True
    module.empty_cache = lambda: None
    module.mem_get_info = lambda device=None: (FREE, FREE)
    module.memory_reserved = module.memory_allocated = lambda device=None: 0
    module.get_device_name = lambda device=None: "simulated"
    return module


def memory_peak() -> int:
    """Bytes of the device's tensors at their most, since the start or :func:`reset_peak`."""
    return backend.memory_peak()


def reset_peak() -> None:
    backend.reset_peak()


torch.utils.rename_privateuse1_backend("simulated")
# In the thread that asks for it: the lines that led to a backward pass are seen, and no thread outlives the program.
torch.autograd.set_multithreading_enabled(False)
backend = _compiled()
backend.set_lenient(_lenient_operators())
torch._register_device_module("simulated", _module())
torch.utils.generate_methods_for_privateuse1_backend(for_tensor=True, for_module=True, for_storage=True)
sys.modules.setdefault("torch.simulated", torch.simulated)  # type: ignore[attr-defined]
