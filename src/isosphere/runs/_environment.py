"""What a result depended on besides its configuration: versions and hardware, nothing personal."""

import os
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from isosphere.errors import plural

_PACKAGES = (
    "isosphere",
    "torch",
    "torchvision",
    "timm",
    "lightning",
    "numpy",
    "pillow",
    "pydantic",
    "safetensors",
    "typer",
    "rich",
    "matplotlib",
    "tensorboard",
)


def environment() -> dict[str, Any]:
    """Versions of Python, the system and the packages that matter, and the processors.

    Neither environment variables nor the names of host, user or folders are recorded: a run folder is made to
    be handed on.
    """
    import torch

    from isosphere.threads import all_threads

    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
        "cpu": {"name": _cpu_name(), "cores": os.cpu_count() or 1, "threads": all_threads()},
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "cuda": torch.version.cuda,
    }


def changed_since(before: Mapping[str, Any]) -> list[str]:
    """What is other than in an earlier `environment` and moves the bits of a training, in words."""
    now = environment()
    was, cpu = (before.get(part) for part in ("packages", "cpu"))
    was, cpu = (part if isinstance(part, dict) else {} for part in (was, cpu))
    found = [
        f"{name} {now['packages'].get(name)} (was {was[name]})"
        for name in ("torch", "torchvision", "timm", "numpy")
        if name in was and was[name] != now["packages"].get(name)
    ]
    threads = cpu.get("threads")
    if threads not in (None, now["cpu"]["threads"]):
        found.append(f"{plural(now['cpu']['threads'], 'thread')} (was {threads})")
    if "gpus" in before and before["gpus"] != now["gpus"]:
        found.append(f"{_gpus(now['gpus'])} (was {_gpus(before['gpus'])})")
    return found


def _gpus(names: Any) -> str:
    return ", ".join(map(str, names)) if isinstance(names, list) and names else "no GPU"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu_name() -> str:
    if sys.platform == "linux":
        try:
            with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123  (a pseudo-file, read line by line)
                for line in lines:
                    if line.lower().startswith("model name"):
                        return line.split(":", 1)[1].strip()
        except OSError:
            pass
    return platform.processor() or platform.machine()
