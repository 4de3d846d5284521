"""Lines of Python that use an exported file, and that run as they are when pasted."""

from pathlib import Path
from typing import Any

from isosphere.models import Encoder


def timm_snippet(
    path: Path, encoder: Encoder, size: int, options: dict[str, Any], stem_channels: int | None
) -> str:
    """From an exported file of weights to features by timm alone."""
    arguments = ", ".join(f"{name}={value!r}" for name, value in options.items())
    stem = (
        "# Trained on small images: a 3x3 stem without pooling.\n"
        f"model.conv1 = torch.nn.Conv2d({encoder.in_chans}, {stem_channels}, 3, 1, 1, bias=False)\n"
        "model.maxpool = torch.nn.Identity()\n"
        if stem_channels
        else ""
    )
    return (
        "import timm\nimport torch\nfrom PIL import Image\nfrom safetensors.torch import load_file\n"
        "from torchvision import transforms\n\n"
        f"model = timm.create_model({encoder.name!r}, {arguments})\n{stem}"
        f"model.load_state_dict(load_file({_quoted(path)}))\nmodel.eval()\n"
        f"{_prepare(size, encoder)}\n{_picture(size)}"
        "with torch.no_grad():\n    features = model(prepare(image)[None])\nprint(features.shape)\n"
    )


def safetensors_snippet(path: Path, size: int, encoder: Encoder) -> str:
    """From an exported file and its description to features by isosphere."""
    return (
        "import json\nfrom pathlib import Path\n\nimport torch\nfrom PIL import Image\n"
        "from safetensors.torch import load_file\nfrom torchvision import transforms\n\n"
        "from isosphere.models import Encoder\n\n"
        f"weights = Path({_quoted(path)})\n"
        'encoder = Encoder.from_spec(json.loads(weights.with_suffix(".json").read_text()))\n'
        "encoder.load_state_dict(load_file(weights))\nencoder.eval()\n"
        f"{_prepare(size, encoder)}\n{_picture(size)}"
        "with torch.no_grad():\n    features = encoder(prepare(image)[None])\nprint(features.shape)\n"
    )


def onnx_snippet(path: Path, size: int) -> str:
    """From an exported network to features by ONNX Runtime and numpy."""
    return (
        "import numpy as np\nimport onnxruntime\nfrom PIL import Image, ImageOps\n\n"
        f"session = onnxruntime.InferenceSession({_quoted(path)})\n"
        f"{_picture(size)}"
        f"square = ImageOps.fit(image.convert('RGB'), ({size}, {size}), Image.Resampling.BICUBIC)\n"
        "pixels = np.asarray(square, np.float32).transpose(2, 0, 1)[None] / 255\n"
        '(features,) = session.run(None, {"images": pixels})\nprint(features.shape)\n'
    )


def _prepare(size: int, encoder: Encoder) -> str:
    return (
        "prepare = transforms.Compose([\n"
        f"    transforms.Resize({size}, interpolation=transforms.InterpolationMode.BICUBIC),\n"
        f"    transforms.CenterCrop({size}),\n"
        "    transforms.ToTensor(),\n"
        f"    transforms.Normalize({_short(encoder.mean)}, {_short(encoder.std)}),\n"
        "])\n"
    )


def _picture(size: int) -> str:
    return f'image = Image.effect_noise(({size}, {size}), 64).convert("RGB")  # yours: Image.open("picture.jpg")\n'


def _short(values: tuple[float, ...]) -> str:
    return "[" + ", ".join(f"{v:.6g}" for v in values) + "]"


def _quoted(path: Path) -> str:
    return repr(str(path.resolve()))
