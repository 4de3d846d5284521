"""An evaluation on several processes of which one fails."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

KEPT = Path(__file__).parent.parent / "kept_run"
SCRIPT = """
import multiprocessing, os, signal, sys
import numpy as np
from PIL import Image
import isosphere
from isosphere.data import Source

class Pictures(Source):
    '''A worker of the second process is killed while it decodes the test images.'''
    def __init__(self, name, count):
        super().__init__(name, [str(i) for i in range(count)])
    def image(self, i, *, at_least=None):
        in_worker = multiprocessing.current_process().name != "MainProcess"
        if in_worker and self.name == "test" and i >= 600 and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        return Image.fromarray(np.full((16, 16, 3), i % 256, np.uint8))
    def digest(self, i):
        return f"{self.name}{i}".encode()

isosphere.evaluate(sys.argv[1], Pictures("train", 100), test=Pictures("test", 1800), tasks="geometry",
                   cache=False, workers=2, progress=False)
"""


@pytest.mark.slow
def test_a_killed_worker_of_another_process_ends_the_evaluation(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    run = shutil.copytree(KEPT, tmp_path / "run")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launch, tmp_path / "script.py", run], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode != 0
    assert "a worker process that decodes images was ended from outside (SIGKILL)" in done.stderr
