"""How much memory there is, as a container or a job of a cluster is told."""

import os

import pytest

from isosphere import devices


@pytest.mark.parametrize(
    ("group", "limits", "expected"),
    [
        ("0::/", {"memory.max": "4096"}, [4096]),
        ("0::/job/step", {"job/memory.max": "2048", "job/step/memory.max": "max"}, [2048]),
        ("3:cpu:/a\n4:memory:/a", {"memory/a/memory.limit_in_bytes": "1024", "a/memory.max": "7"}, [1024]),
        ("0::/", {}, []),
    ],
)
def test_limits_of_control_groups(group, limits, expected, tmp_path):
    (tmp_path / "cgroup").write_text(f"{group}\n")
    for name, text in limits.items():
        file = tmp_path / "mount" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    assert list(devices._memory_limits(tmp_path / "cgroup", tmp_path / "mount")) == expected
    assert list(devices._memory_limits(tmp_path / "absent", tmp_path / "mount")) == []


def test_memory_is_the_least_of_all(monkeypatch):
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    monkeypatch.setattr(devices, "_memory_limits", lambda: iter([9 << 60]))
    assert devices.host_memory() == installed
    monkeypatch.setattr(devices, "_memory_limits", lambda: iter([5000, 9 << 60]))
    assert devices.host_memory() == 5000
