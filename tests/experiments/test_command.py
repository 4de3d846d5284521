"""What the commands of experiments and benchmarks have in common."""

from importlib.metadata import version

from experiments.command import version_of


def test_what_is_not_installed_is_named_as_absent():
    assert version_of("numpy") == f"numpy {version('numpy')}"
    assert version_of("no-such-rival") == "no-such-rival absent"
