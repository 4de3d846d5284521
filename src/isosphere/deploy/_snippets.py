"""Lines of Python that use an exported file, and that run as they are when pasted."""

from pathlib import Path
from typing import Any

from isosphere.data import Channels
from isosphere.models import Encoder


def timm_snippet(
    path: Path,
    script: Path,
    sample: str,
    encoder: Encoder,
    options: dict[str, Any],
    stem_channels: int | None,
) -> str:
    """From an exported file of weights to features by timm alone; `script` reads pictures, `sample` is one."""
    arguments = ", ".join(f"{name}={value!r}" for name, value in options.items())
    stem = (
        "# Trained on small images: a 3x3 stem without pooling.\n"
        f"model.conv1 = torch.nn.Conv2d({encoder.in_chans}, {stem_channels}, 3, 1, 1, bias=False)\n"
        "model.maxpool = torch.nn.Identity()\n"
        if stem_channels
        else ""
    )
    return (
        "import runpy\n\nimport timm\nimport torch\nfrom PIL import Image\n"
        "from safetensors.torch import load_file\n\n"
        f"model = timm.create_model({encoder.name!r}, {arguments})\n{stem}"
        f"model.load_state_dict(load_file({_quoted(path)}))\nmodel.eval()\n"
        f"{_picture(script, sample)}"
        "with torch.no_grad():\n    features = model(torch.from_numpy(prepare(image))[None])\nprint(features.shape)\n"
    )


def safetensors_snippet(path: Path, script: Path, sample: str) -> str:
    """From an exported file and its description to features by isosphere."""
    return (
        "import json\nimport runpy\nfrom pathlib import Path\n\nimport torch\nfrom PIL import Image\n"
        "from safetensors.torch import load_file\n\nfrom isosphere.models import Encoder\n\n"
        f"weights = Path({_quoted(path)})\n"
        'encoder = Encoder.from_spec(json.loads(weights.with_suffix(".json").read_text()))\n'
        "encoder.load_state_dict(load_file(weights))\nencoder.eval()\n"
        f"{_picture(script, sample)}"
        "with torch.no_grad():\n    features = encoder(torch.from_numpy(prepare(image))[None])\n"
        "print(features.shape)\n"
    )


def hub_snippet(folder: Path, sample: str) -> str:
    """From a folder in the Hub's layout to features by timm alone."""
    return (
        "import runpy\n\nimport timm\nimport torch\nfrom PIL import Image\n\n"
        "# On the Hub (hf upload YOUR_NAME/MODEL FOLDER) it is hf-hub:YOUR_NAME/MODEL.\n"
        f"model = timm.create_model({f'local-dir:{folder.resolve()}'!r}, pretrained=True, num_classes=0)\n"
        "model.eval()\n"
        f"{_picture(folder / 'prepare.py', sample)}"
        "with torch.no_grad():\n    features = model(torch.from_numpy(prepare(image))[None])\nprint(features.shape)\n"
    )


def onnx_snippet(path: Path, script: Path, sample: str) -> str:
    """From an exported network to features by ONNX Runtime and numpy."""
    return (
        "import runpy\n\nimport onnxruntime\nfrom PIL import Image\n\n"
        f"session = onnxruntime.InferenceSession({_quoted(path)})\n"
        f"{_picture(script, sample)}"
        '(features,) = session.run(None, {"images": prepare(image)[None]})\nprint(features.shape)\n'
    )


def sample(channels: Channels | None) -> str:
    """Lines that make a picture of the kind that a run reads."""
    if channels is None or (channels.colour and not channels.bands):
        return 'image = Image.effect_noise((64, 64), 64)  # yours: image = "picture.jpg"\n'
    bands = channels.of or max(channels.bands)
    made = f"image = np.random.default_rng(0).integers(0, 256, (64, 64, {bands}), np.uint8)"
    return f'import numpy as np\n{made}  # yours: an array, or image = "picture.tif"\n'


def _picture(script: Path, sample: str) -> str:
    return (
        f'prepare = runpy.run_path({_quoted(script)})["prepare"]  # reads any picture as the run does\n'
        f"{sample}"
    )


def _quoted(path: Path) -> str:
    return repr(str(path.resolve()))
