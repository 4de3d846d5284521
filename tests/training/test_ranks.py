"""Who has started us, and what is an error of another process."""

import os

import pytest
import torch.distributed as dist
from lightning.fabric.plugins.environments import SLURMEnvironment

from isosphere.errors import UsageError
from isosphere.training import is_first, is_launched, launch, launched
from isosphere.training._distributed import lost

SLURM = {
    "SLURM_NTASKS": "8",
    "SLURM_NTASKS_PER_NODE": "4",
    "SLURM_NNODES": "2",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_STEP_ID": "0",
    "SLURM_JOB_ID": "1234567",
    "SLURM_JOB_NAME": "pretrain",
    "SLURM_NODELIST": "gpu[07-08]",
}
TORCHRUN = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "3"}


@pytest.fixture
def given(monkeypatch):
    def give(variables):
        for name in [
            n for n in os.environ if n.startswith("SLURM_") or n in (*TORCHRUN, "MASTER_ADDR", "MASTER_PORT")
        ]:
            monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        for name in ("MASTER_ADDR", "MASTER_PORT"):  # Lightning writes them: undone after the test
            monkeypatch.setenv(name, "")
            monkeypatch.delenv(name)

    return give


def test_alone(given):
    given({})
    assert (launched(), is_first(), is_launched()) == ((1, 1), True, False)


def test_by_torchrun(given):
    given(TORCHRUN)
    assert (launched(), is_first(), is_launched()) == ((3, 2), False, True)
    given({**TORCHRUN, "RANK": "0"})
    assert is_first()


def test_by_slurm_as_lightning_sees_it(given):
    given(SLURM)
    assert (launched(), is_first(), is_launched()) == ((4, 2), False, True)
    assert SLURMEnvironment.detect()
    lightning = SLURMEnvironment()
    lightning.validate_settings(num_devices=4, num_nodes=2)
    assert (lightning.global_rank(), lightning.world_size(), lightning.local_rank()) == (5, 8, 1)
    assert lightning.main_address == "gpu07"
    given({**SLURM, "SLURM_PROCID": "0"})
    assert is_first()
    given({**SLURM, **TORCHRUN})  # torchrun within a job of SLURM
    assert launched() == (3, 2)


def test_a_shell_or_a_single_task_of_slurm_is_one_process(given):
    given({**SLURM, "SLURM_JOB_NAME": "bash"})
    assert (launched(), is_first(), is_launched()) == ((1, 1), True, False)
    given({"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_JOB_NAME": "x"})
    assert (launched(), is_first()) == ((1, 1), True)


def test_what_slurm_leaves_open_is_refused(given):
    given({k: v for k, v in SLURM.items() if k != "SLURM_NTASKS_PER_NODE"})
    with pytest.raises(UsageError, match="--ntasks-per-node"):
        launched()
    given({k: v for k, v in SLURM.items() if k != "SLURM_STEP_ID"})
    with pytest.raises(UsageError, match="srun isosphere train"):
        launched()


def test_signs_of_a_lost_process():
    assert lost(RuntimeError("[../gloo/transport/tcp/pair.cc:598] Connection closed by peer [127.0.0.1]:1"))
    assert lost(dist.DistBackendError("NCCL error"))
    assert not lost(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not lost(ValueError("Connection closed by peer"))


def test_a_launched_command_that_is_wrong_ends_with_its_code_and_speaks_once(given, capfd):
    given({})
    said: list[str] = []
    assert launch(["train", "digits", "--epochs", "few"], devices=2, say=said.append) == 2
    err = capfd.readouterr().err
    assert err.count("Invalid value for '--epochs'") == 1
