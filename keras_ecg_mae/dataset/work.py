"""Where shards are written: in this process, in several of this machine, or by Apache Beam."""

import os
from collections.abc import Iterable, Sequence

from keras_ecg_mae.config import LOCAL, Cohort
from keras_ecg_mae.dataset.pool import Step, Task, work_in_pool
from keras_ecg_mae.dataset.progress import progress_bar

# A process takes a second or two to start; about so many recordings are read meanwhile.
_WORTH_A_POOL = 1000


def work_on(
    step: Step[Task],
    tasks: Iterable[Task],
    cohort: Cohort,
    runner_arguments: Sequence[str],
    *,
    total: int,
    done: int = 0,
) -> None:
    """Does a step with each task, where `cohort.runner` says.

    Args:
        step: a function of a module.
        tasks: taken as they are needed.
        cohort: how many processes of this machine, or which runner.
        runner_arguments: pipeline options of Apache Beam.
        total: recordings of all tasks, those included that were done before.
        done: recordings of these.

    Raises:
        DatasetError: a step raised it, or a process died.
    """
    if done == total:
        return
    if cohort.runner != LOCAL:
        from keras_ecg_mae.dataset.beam_pipeline import work_in_beam

        work_in_beam(step, tasks, cohort.output.rstrip("/"), cohort.runner, runner_arguments)
        return
    processes = cohort.workers or (len(os.sched_getaffinity(0)) if total - done >= _WORTH_A_POOL else 1)
    with progress_bar("prepare", total, done) as bar:
        # A few are read apart from this process, which costs more a recording than a pool and starts sooner.
        if processes == 1 and total - done < _WORTH_A_POOL:
            for task in tasks:
                step(task, bar.update)
        else:
            work_in_pool(step, tasks, processes, lambda now: bar.update(done + now - bar.n))
