"""The tasks of an evaluation, one module each. To add one: a module, a line here, a test, a line in the docs."""

from collections.abc import Sequence

from isosphere.errors import UsageError, nearest, option
from isosphere.workflows._context import EvaluationContext
from isosphere.workflows.tasks._base import Task, points
from isosphere.workflows.tasks.checkpoints import CHECKPOINTS
from isosphere.workflows.tasks.geometry import GEOMETRY
from isosphere.workflows.tasks.knn import KNN
from isosphere.workflows.tasks.linear import LINEAR
from isosphere.workflows.tasks.ood import OOD
from isosphere.workflows.tasks.retrieval import EASY, RETRIEVAL
from isosphere.workflows.tasks.ridge import RIDGE
from isosphere.workflows.tasks.unlabelled import UNLABELLED

__all__ = ["EASY", "TASKS", "Task", "choose_tasks", "left_out_tasks", "named_tasks", "points"]

TASKS: dict[str, Task] = {
    task.name: task for task in (KNN, LINEAR, RIDGE, RETRIEVAL, OOD, GEOMETRY, UNLABELLED, CHECKPOINTS)
}
"""Tasks by name, in the order of a page."""


def named_tasks(names: str | Sequence[str] | None) -> list[Task] | None:
    """Tasks by their names, ``"knn,linear"`` or a list of them; None for None.

    Raises: UsageError for an unknown name, or no name at all.
    """
    if names is None:
        return None
    listed = names.split(",") if isinstance(names, str) else list(names)
    listed = [name.strip() for name in listed if name.strip()]
    for name in listed:
        if name not in TASKS:
            raise UsageError(f"There is no task '{name}'.{nearest(name, TASKS)} Known: {','.join(TASKS)}.")
    if not listed:
        raise UsageError(f"{option('tasks')} is empty: give some of {','.join(TASKS)}, or leave it out.")
    return [TASKS[name] for name in dict.fromkeys(listed)]


def choose_tasks(context: EvaluationContext, named: list[Task] | None) -> list[Task]:
    """The tasks to run: those that were named, else the quick ones; and what goes with them.

    What is given for one task alone adds it: an OOD set, a solver of the linear probe, layers to judge. Checkpoints
    that were kept are ranked beside ``unlabelled``.

    Raises: UsageError where one of them cannot be done.
    """
    tasks = _quick(context, enough=True) if named is None else list(named)
    if context.ood and OOD not in tasks:
        tasks.append(OOD)
    if context.probe != "lbfgs" and LINEAR not in tasks:
        tasks.append(LINEAR)
    if context.blocks and not any(task in tasks for task in (KNN, LINEAR, RIDGE)):
        tasks.append(KNN)
    if UNLABELLED in tasks and CHECKPOINTS not in tasks and context.run.folder.kept_epochs():
        tasks.append(CHECKPOINTS)
    for task in tasks:
        task.require(context)
    return tasks


def left_out_tasks(context: EvaluationContext) -> list[str]:
    """A sentence for each quick task for which there are too few test images."""
    few = [task.too_few(context) for task in _quick(context, enough=False)]
    return [f"{text[0].upper()}{text[1:]}: it is left out." for text in few]


def _quick(context: EvaluationContext, *, enough: bool) -> list[Task]:
    """The quick tasks for which there are images enough, or those for which there are not."""
    return [task for task in TASKS.values() if task.quick(context) and enough == (not task.too_few(context))]
