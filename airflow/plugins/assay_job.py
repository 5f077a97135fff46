"""One assay job as one Airflow task: runs the binary, takes its exit code at its word, keeps its summary.

Exit codes: 0 done; 1 worth trying again; 2 bad usage or settings; 3 data refused. The last two end the same way
however often they are tried, so they are not.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import tempfile
import urllib.request
from collections import deque
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.sdk import BaseOperator, DeadlineAlert, DeadlineReference, SyncCallback, Variable
from airflow.sdk.exceptions import AirflowException, AirflowFailException

log = logging.getLogger(__name__)

DONE, RETRY, USAGE, REFUSED = 0, 1, 2, 3
NO_RETRY = {USAGE: "bad usage or settings", REFUSED: "the data was refused"}
# A job that is told to stop finishes the epoch under way within a minute; the next start completes what it could not.
STOP_PATIENCE_S = 70
ERROR_LINES = 20
# Of one slot: `airflow pools set assay_lake 1 "one job at a time"`. On a local folder the lake's lock would do; on an object
# store there is none, and a proof of a lake that is written meanwhile finds what is no fault.
LAKE_POOL = "assay_lake"
# `airflow dags test` of Airflow 3.3.2 fails at the end of a good run of a DAG that has one (apache/airflow 73428).
DEADLINES = os.environ.get("ASSAY_AIRFLOW_DEADLINES", "on") != "off"


class AssayJob(BaseOperator):
    """`assay ARGUMENTS… --json`, with the summary as XCom `return_value` (`summary` when the data was refused).

    An argument that a template leaves empty is left out, together with the option before it. `report` is logged at the
    end, filled from the summary. `without` names what of the summary is too large for XCom.
    """

    template_fields: Sequence[str] = ("arguments",)

    def __init__(self, *, arguments: Sequence[str], report: str = "", without: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.arguments = list(arguments)
        self.report = report
        self.without = tuple(without)
        self._process: subprocess.Popen | None = None

    def execute(self, context: Any) -> Any:
        command = self.command()
        log.info("$ %s", " ".join(command))
        status, summary, said = self.run_binary(command)
        if isinstance(summary, dict):
            summary = {key: value for key, value in summary.items() if key not in self.without}
            if self.report:
                log.info("%s", self.report.format_map(summary))
        if status == DONE:
            return summary
        if summary is not None:
            context["ti"].xcom_push(key="summary", value=summary)
        told = said[-1] if said else "it said nothing"
        if status in NO_RETRY:
            raise AirflowFailException(f"exit code {status}, {NO_RETRY[status]}: {told}")
        ended = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit code {status}"
        raise AirflowException(f"{ended}, worth trying again: {told}")

    def command(self) -> list[str]:
        command = [setting("bin") or "assay"]
        for option in ("config", "lake"):
            if setting(option):
                command += [f"--{option}", setting(option)]
        for argument in self.arguments:
            if argument:
                command.append(argument)
            elif command[-1].startswith("--"):
                command.pop()
        return [*command, "--json"]

    def run_binary(self, command: list[str]) -> tuple[int, Any, deque[str]]:
        said: deque[str] = deque(maxlen=ERROR_LINES)
        # A file, because a summary may be larger than a pipe and nobody reads it before the end.
        with tempfile.TemporaryFile("w+", encoding="utf-8") as printed:
            try:
                self._process = subprocess.Popen(
                    command, stdout=printed, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, errors="replace"
                )
            except OSError as error:
                raise AirflowFailException(f"{command[0]} does not start: {error}; set the variable assay_bin") from error
            for line in self._process.stderr:
                said.append(line.rstrip())
                log.info("%s", said[-1])
            status = self._process.wait()
            printed.seek(0)
            return status, parsed(printed.read()), said

    def on_kill(self) -> None:
        """Called by Airflow when the task is to end, and after `execution_timeout`."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=STOP_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def setting(name: str) -> str:
    """The Airflow variable `assay_<name>`: from the UI, or AIRFLOW_VAR_ASSAY_<NAME> in the environment."""
    return Variable.get(f"assay_{name}", default="")


def parsed(printed: str) -> Any:
    """The summary is the last line; a job that ends early prints none."""
    lines = printed.strip().splitlines()
    try:
        return json.loads(lines[-1]) if lines else None
    except ValueError:
        return None


def task_failed(context: Any) -> None:
    """For tasks that failed for good: not for a try that is followed by another."""
    ti = context["ti"]
    alert(f"assay: {ti.dag_id}.{ti.task_id} failed in {ti.run_id} (try {ti.try_number}): {context.get('exception')}")


def run_late(dag: str, minutes: int) -> None:
    alert(f"assay: a run of {dag} is not done {minutes} minutes after it was queued")


def alert(text: str) -> None:
    """To the log, and as {"text": …} to the variable `assay_alert_url`, which Slack, Mattermost and Teams understand."""
    log.error("%s", text)
    url = setting("alert_url")
    if not url:
        return
    request = urllib.request.Request(url, json.dumps({"text": text}).encode(), {"Content-Type": "application/json"})
    try:
        urllib.request.urlopen(request, timeout=10).close()
    except OSError as error:
        # Whoever is not reached must not fail the callback: the log has it.
        log.error("%s was not reached: %s", url, error)


def shared(dag_id: str, *, timeout: timedelta, late: timedelta) -> dict[str, Any]:
    """What all DAGs share. A run that was missed is not made up for: the next one does what it would have done."""
    minutes = int(late.total_seconds() // 60)
    deadline = DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=late,
        callback=SyncCallback("assay_job.run_late", kwargs={"dag": dag_id, "minutes": minutes}),
    )
    return {
        "dag_id": dag_id,
        "start_date": datetime(2026, 1, 1, tzinfo=timezone.utc),
        "catchup": False,
        "max_active_runs": 1,
        "tags": ["assay"],
        "deadline": deadline if DEADLINES else None,
        "default_args": {
            "retries": 3,
            "retry_delay": timedelta(minutes=1),
            "retry_exponential_backoff": 2,
            "execution_timeout": timeout,
            "on_failure_callback": task_failed,
        },
    }
