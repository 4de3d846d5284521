"""``isosphere doctor``: whether this machine can do the work, and what would help it."""

import importlib.util
import tempfile
import time
from pathlib import Path

from isosphere.cli.console import facts, output_console, paragraph, table
from isosphere.errors import RunError

__all__ = ["doctor"]

EXTRAS = {
    "matplotlib": ("pictures of neighbours and curves", "matplotlib jinja2"),
    "tensorboard": ("TensorBoard events", "tensorboard"),
    "onnxruntime": ("export to ONNX", "onnx onnxscript onnxruntime"),
    "h5py": ("images in HDF5 files", "h5py"),
    "pyarrow": ("embeddings and images in Parquet", "pyarrow"),
    "tifffile": ("TIFF files of several bands", "tifffile"),
    "s3fs": ("images in a bucket or on a web server", "fsspec aiohttp s3fs"),
    "faiss": ("faster search of large collections", "faiss-cpu"),
    "ray": ("embedding on many machines", "'ray[data]' pyarrow"),
    "umap": ("maps of embeddings by UMAP", "umap-learn"),
    "starlette": ("the page of explore, and serve", "starlette uvicorn"),
    "sklearn": ("the built-in digits", "scikit-learn"),
}


def doctor() -> None:
    """Check Python, packages, processors and disk, and train one step.

    Prints what was found and what to install; fails if a step of training fails.
    """
    import torch

    from isosphere.data import cache_folder
    from isosphere.runs import environment
    from isosphere.training import choose_precision, explain_precision

    found = environment()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = choose_precision("auto", device)
    measures = "; train measures it, and takes float32 where that is as fast" if precision == "bf16" else ""
    packages = found["packages"]
    cores = f"{found['cpu']['cores']} cores, {found['cpu']['threads']} used by torch"
    report = {
        "isosphere": f"{packages.get('isosphere', 'a checkout')}, Python {found['python']}",
        "system": found["system"],
        "packages": ", ".join(
            f"{name} {packages[name]}" for name in ("torch", "timm", "lightning", "numpy") if name in packages
        ),
        "processor": f"{found['cpu']['name']}, {cores}",
        "GPU": ", ".join(found["gpus"]) or "none that torch can use",
        "precision": explain_precision(precision, device) + measures,
        "memory": _memory(),
        "cache": _writable(cache_folder()),
        "here": _writable(Path.cwd()),
    }
    console = output_console()
    report["training"] = _one_step(device)
    facts(console, report)
    rows = []
    for module, (what, packages) in EXTRAS.items():
        remedy = f"no: pip install {packages}"
        rows.append([module, what, "yes" if importlib.util.find_spec(module) else remedy])
    console.print()
    table(console, "Optional packages", ["package", "for", "installed"], rows)
    paragraph(console, "Training works here. Try: isosphere train textures:wood --out runs/wood --minutes 2")


def _memory() -> str:
    from isosphere.devices import host_memory

    size = host_memory()
    return "unknown" if size is None else f"{size / 2**30:.0f} GiB"


def _writable(folder: Path) -> str:
    existing = next(p for p in [folder, *folder.parents] if p.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            return f"{folder}, writable"
    except OSError as error:
        return f"{folder}: {error.strerror}; set ISOSPHERE_CACHE or work in another folder"


def _one_step(device: object) -> str:
    """Train the default method for two steps on noise, and time the second."""
    import torch

    from isosphere.training import Config, build, build_views, make_fabric

    config = Config().replace(
        data={"image_size": 32}, model={"encoder": "small-conv"}, views={"recipe": "crops"}
    )
    try:
        fabric = make_fabric("auto", "auto")
        _, method = build(config)
        method.to(fabric.device)
        method.prepare(n=128, views=2)
        optimizer = torch.optim.AdamW(method.parameters(), lr=1e-3)
        views = build_views(config, method.encoder)  # type: ignore[arg-type]
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (128, 3, 32, 32), generator=generator, dtype=torch.uint8).to(
            fabric.device
        )
        start = 0.0
        for step in range(2):
            start = time.perf_counter()
            made = views(images, index=torch.arange(128, device=fabric.device), epoch=step, seed=0)
            with fabric.autocast():
                total = method(made).total
            total.backward()
            optimizer.step()
            optimizer.zero_grad()
            if not torch.isfinite(total).item():
                raise RunError(
                    "one step of training gave a loss that is not finite: the installation of torch is "
                    "broken."
                )
        return f"a step of 128 images of 32 px takes {1e3 * (time.perf_counter() - start):.0f} ms"
    except RuntimeError as error:
        first = str(error).strip().splitlines()[0]
        raise RunError(
            f"one step of training failed on {device}: {first}. Try --set train.device=cpu."
        ) from error
