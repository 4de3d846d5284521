"""Pictures and folders of pictures that the tests of the data write themselves."""

import multiprocessing
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isosphere.data import open_source
from isosphere.errors import UsageError


def picture(seed: int = 0, width: int = 12, height: int = 12) -> Image.Image:
    """A smooth coloured picture without symmetry, another one for each seed."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR)


def refusal(spec, **options) -> str:
    """What is said of a source that cannot be opened: one sentence or more, on one line."""
    with pytest.raises(UsageError) as refused:
        open_source(spec, **options)
    message = str(refused.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


@pytest.fixture
def new_processes() -> Callable[[], int]:
    """Counts the child processes that the test has started and that are still there."""
    before = multiprocessing.active_children()
    return lambda: len([p for p in multiprocessing.active_children() if p not in before])


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[[Iterable[str]], Path]:
    """Write small pictures under the given names into a fresh folder; other names become text files."""

    def make(names: Iterable[str], under: str = "pictures") -> Path:
        folder = tmp_path / under
        folder.mkdir(exist_ok=True)
        for seed, name in enumerate(names):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"):
                picture(seed).save(path)
            else:
                path.write_text("not a picture")
        return folder

    return make
