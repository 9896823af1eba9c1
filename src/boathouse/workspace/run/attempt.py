"""Run one attempt of a task by its type. Every error in it becomes the result of the attempt and does not end the run."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from boathouse.workspace.bundle.catalogs import named_catalogs
from boathouse.workspace.bundle.jobs import TaskSource, job_by_id, repeated_task
from boathouse.workspace.errors import CannotStart, ClusterError
from boathouse.workspace.graph import state_machine as graph
from boathouse.workspace.graph.state_machine import Node, Result
from boathouse.workspace.history.store import TaskEnd, TaskRun
from boathouse.workspace.packages.entry_points import task_file
from boathouse.workspace.parameters import arguments as parameters
from boathouse.workspace.parameters import references
from boathouse.workspace.parameters.for_each import Item, items_of, label
from boathouse.workspace.parameters.references import Context
from boathouse.workspace.run.alert_task import run_alert
from boathouse.workspace.run.context import RunningJob
from boathouse.workspace.run.stop import StopRequest
from boathouse.workspace.task.spec import TaskSpec


def run_attempt(run: RunningJob, task: TaskRun, source: TaskSource, context: Context, stop: StopRequest) -> TaskEnd:
    "Run one attempt of a task and return how it ended."
    if source.task.notebook_task is not None:
        context = replace(context, notebook_path=str(task_file(run.job, source).with_suffix("")))
    try:
        return KINDS[source.kind](run, task, source, context, stop)
    except (CannotStart, ClusterError) as e:
        return TaskEnd(Result.FAILED, str(e), internal=True)
    except Exception as e:
        # An error of the workspace itself (a dead JVM, a full disk) fails the task that met it; the log holds the traceback.
        task.folder.mkdir(parents=True, exist_ok=True)
        with (task.folder / "log.txt").open("a") as log:
            log.write(traceback.format_exc())
        return TaskEnd(Result.FAILED, f"{type(e).__name__}: {e}", internal=True)


def _compute(run: RunningJob, task: TaskRun, source: TaskSource, context: Context, stop: StopRequest) -> TaskEnd:
    process = run.shared.cluster.launch(_spec(run, task, source, context))
    stop.after(source.task.timeout_seconds)  # the timeout begins here: it does not include the wait for the cluster
    stop.then(lambda _: process.cancel())
    ended = process.wait()
    assert ended is not None
    if stop.reason is not None and ended.state != "SUCCESS":
        message = f"It took longer than {source.task.timeout_seconds} s." if stop.reason == Result.TIMEDOUT else "Cancelled."
        return TaskEnd(stop.reason, message)
    return TaskEnd(Result(ended.state), ended.error or "", exit_value=ended.exit_value, values=ended.values)


def _spec(run: RunningJob, task: TaskRun, source: TaskSource, context: Context) -> TaskSpec:
    notebook, wheel = source.task.notebook_task, source.task.python_wheel_task
    named = {
        "job_id": run.job.id,
        "job_name": run.job.name,
        "job_run_id": run.this.run_id,
        "run_id": task.run_id,
        "task_key": task.key,
        "attempt": task.attempt,
        "target": run.this.target,
    } | ({"loop": source.loop} if source.loop else {})
    packages = run.shared.preparation.of(run.job, source)
    return TaskSpec(
        kind="notebook" if notebook else "wheel" if wheel else "script",
        folder=task.folder,
        project=run.shared.bundle.root,
        package=wheel.package_name if wheel else None,
        entry_point=wheel.entry_point if wheel else None,
        file=None if wheel else task_file(run.job, source),
        argv=() if notebook else parameters.argv(source, context),
        widgets=parameters.widgets(source, context) if notebook else {},
        env={},
        values={key: dict(upstream.values) for key, upstream in context.tasks.items()},
        context={name: str(value) for name, value in named.items()},
        catalog=run.shared.bundle.catalog,
        catalogs=named_catalogs(run.shared.bundle, run.this.parameters),
        paths=packages.paths,
        checkout=packages.checkout,
    )


def _condition(run: RunningJob, task: TaskRun, source: TaskSource, context: Context, stop: StopRequest) -> TaskEnd:
    answer = parameters.is_condition_true(source.body, context)
    return TaskEnd(Result.SUCCESS, outcome=str(answer).lower())


def _run_job(run: RunningJob, task: TaskRun, source: TaskSource, context: Context, stop: StopRequest) -> TaskEnd:
    child = job_by_id(dict(run.shared.jobs), source.body.job_id)
    assert child is not None, "the checks refuse a run_job_task without a job"
    given = child.parameters | parameters.child_parameters(source, child, context)
    run_id, result = run.start_child(child, given, stop.child(), task)
    if stop.reason is not None:
        return TaskEnd(stop.reason, "Stopped.", child=run_id)
    message = "" if result in graph.SUCCEEDED else f"Run {run_id} of job '{child.key}' ended {result.value}."
    state = result if result in graph.SUCCEEDED or result == Result.CANCELED else Result.FAILED
    return TaskEnd(state, message, child=run_id)


def _for_each(run: RunningJob, task: TaskRun, source: TaskSource, context: Context, stop: StopRequest) -> TaskEnd:
    inner = repeated_task(source)
    assert inner is not None
    whole = references.single_reference(source.body.inputs)
    items = items_of(references.to_text(references.resolve_reference(whole, context)) if whole else source.body.inputs)

    def iterate(numbered: tuple[int, Item]) -> Result:
        return _iteration(run, task, inner, replace(context, input=numbered[1]), numbered[0], stop)

    with ThreadPoolExecutor(max_workers=source.body.concurrency or 1) as pool:
        results = list(pool.map(iterate, enumerate(items)))
    if stop.reason is not None:
        return TaskEnd(stop.reason, "Stopped.")
    bad = sum(r not in graph.SUCCEEDED for r in results)
    return TaskEnd(Result.FAILED, f"{bad} of {len(items)} iterations failed.") if bad else TaskEnd(Result.SUCCESS)


def _iteration(run: RunningJob, loop: TaskRun, inner: TaskSource, context: Context, number: int, stop: StopRequest) -> Result:
    "Run all attempts for one item of a loop and return the result."
    limits = Node(inner.key, retries=inner.task.max_retries or 0, retry_on_timeout=bool(inner.task.retry_on_timeout))
    attempt = 0
    while True:
        folder = loop.folder / str(number)
        one = TaskRun(
            run.shared.history.new_id(),
            replace(loop.run, path=loop.path),
            inner.key,
            number,
            inner.kind,
            folder / f"attempt-{attempt}" if attempt else folder,
            attempt,
            loop=loop.run_id,
            item=label(context.input),
        )
        run.shared.tell("task_waiting", one)
        here = replace(context, task=inner.key, task_run_id=one.run_id, execution=attempt + 1)
        end = run.attempt(one, inner, here, stop.child())
        if stop.reason is not None or not graph.is_retried(limits, end.result, attempt):
            return end.result
        attempt += 1


Perform = Callable[[RunningJob, TaskRun, TaskSource, Context, StopRequest], TaskEnd]
KINDS: dict[str, Perform] = {
    "notebook_task": _compute,
    "spark_python_task": _compute,
    "python_wheel_task": _compute,
    "condition_task": _condition,
    "run_job_task": _run_job,
    "for_each_task": _for_each,
    "alert_task": run_alert,
}
