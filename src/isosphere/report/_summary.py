"""All that an evaluation found, in tables: those of the tasks, of checkpoints, and of runs ranked without labels."""

from collections.abc import Mapping, Sequence

from isosphere.evaluation import TaskResult
from isosphere.report._checkpoints import checkpoint_tables
from isosphere.report._ranking import ranking_table
from isosphere.report._tables import Layout, Table, lay_out


def evaluation_tables(
    runs: Mapping[str, Mapping[str, TaskResult]], layouts: Mapping[str, Sequence[Layout]] | None = None
) -> list[Table]:
    """The tables of one run or of several side by side, from the results of their tasks by name.

    `layouts` by task, in the order of the tables; a task that has none comes after them, as it is kept. Checkpoints
    have tables of their own; several runs are ranked by the task ``unlabelled`` instead of shown by it.
    """
    known = dict(layouts or {})
    tasks = [*known, *(task for results in runs.values() for task in results)]
    made: list[Table] = []
    for task in dict.fromkeys(tasks):
        if task == "checkpoints":
            made += checkpoint_tables({run: found[task] for run, found in runs.items() if task in found})
        elif task == "unlabelled" and len(runs) > 1:
            ranking = ranking_table(runs)
            made += [ranking] if ranking else []
        else:
            made += lay_out(
                known.get(task, ()), {r: f.get(task, TaskResult(task, (), {})) for r, f in runs.items()}
            )
    return made
