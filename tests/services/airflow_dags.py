"""The DAGs of airflow/dags as a real Airflow sees them.

airflow_dags.py structure         what each is: schedule, tries, timeouts, one run at a time
airflow_dags.py exits FOLDER      what a task makes of each exit code, with a binary of ours; FOLDER is for its traces
"""

from __future__ import annotations

import json
import os
import stat
import sys
import threading
import time
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from airflow.dag_processing.dagbag import DagBag

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
# DAG: schedule, deadline, then of each task in order: arguments, timeout, whether it needs the lake for itself.
EXPECTED = {
    "assay_drift": ("0 5 * * *", 3 * HOUR, {
        "drift": (["drift", "--from", "{{ params.from or '' }}", "--to", "{{ params.to or '' }}", "--metrics-file",
                   "{{ var.value.get('assay_drift_metrics', '') }}"], 2 * HOUR, False),
    }),
    "assay_refine": ("*/10 * * * *", 30 * MINUTE, {
        "ingest": (["ingest", "--until-end"], HOUR, True),
        "refine": (["refine"], HOUR, True),
    }),
    "assay_train": ("0 4 * * 0", 8 * HOUR, {
        "train": (["train", "--set", "{{ params.set }}", "--epoch", "{{ params.epoch or '' }}"], 6 * HOUR, False),
        "models": (["models"], 6 * HOUR, False),
    }),
    "assay_warehouse": ("0 */6 * * *", 5 * HOUR, {
        "warehouse": (["warehouse", "{{ '--full' if params.full else '' }}", "--until", "{{ params.until or '' }}"], 4 * HOUR, False),
    }),
    "assay_verify": ("30 3 * * *", 6 * HOUR, {"verify": (["verify"], 4 * HOUR, True)}),
}

STUB = """#!/bin/sh
echo "$$ $*" >>"$STUB_FOLDER/calls"
case "$(cat "$STUB_FOLDER/plan")" in
  sleep) sleep 60 & trap 'kill $!; echo stopped >>"$STUB_FOLDER/calls"; exit 1' TERM; wait ;;
  once) echo 0 >"$STUB_FOLDER/plan"; echo "assay: the store is away" >&2; exit 1 ;;
  0) echo '{"folder": "m", "passed": true, "champion": true, "refusals": []}' ;;
  *) echo '{"folder": "m", "passed": false, "champion": false, "refusals": ["f1"]}'; echo "assay: told so" >&2; exit "$(cat "$STUB_FOLDER/plan")" ;;
esac
"""


def load() -> DagBag:
    bag = DagBag(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
    assert not bag.import_errors, bag.import_errors
    return bag


def structure() -> None:
    dags = load().dags
    assert sorted(dags) == sorted(EXPECTED), f"DAGs found: {sorted(dags)}"
    for name, (schedule, late, tasks) in EXPECTED.items():
        dag = dags[name]
        assert dag.schedule == schedule, (name, dag.schedule)
        assert dag.max_active_runs == 1 and dag.catchup is False, name
        assert [deadline.interval for deadline in dag.deadline] == [late], (name, dag.deadline)
        assert [task.task_id for task in dag.topological_sort()] == list(tasks), name
        for before, after in zip(list(tasks), list(tasks)[1:]):
            assert dag.get_task(before).downstream_task_ids == {after}, (name, before)
        for task_id, (arguments, timeout, alone) in tasks.items():
            task = dag.get_task(task_id)
            got = (task.arguments, task.execution_timeout, task.pool == "assay_lake")
            assert got == (arguments, timeout, alone), (name, task_id, got)
            assert task.retries == 3 and task.retry_exponential_backoff == 2 and task.retry_delay == MINUTE, (name, task_id)
            assert task.on_failure_callback, (name, task_id)
        print(f"ok    {name}: {schedule}, {', '.join(tasks)}")


class Alerts(HTTPServer):
    """Where alerts are sent."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        super().__init__(("127.0.0.1", 0), Alert)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        os.environ["AIRFLOW_VAR_ASSAY_ALERT_URL"] = f"http://127.0.0.1:{self.server_port}/"


class Alert(BaseHTTPRequestHandler):
    def do_POST(self) -> None:  # noqa: N802
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.texts.append(json.loads(body)["text"])
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def exits(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    stub = folder / "assay"
    stub.write_text(STUB)
    stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
    os.environ.update(STUB_FOLDER=str(folder), PATH=f"{folder}:{os.environ['PATH']}")
    os.environ.pop("AIRFLOW_VAR_ASSAY_BIN", None)
    alerts = Alerts()
    # Plan of the binary: how often it is called, the state of the run, what is alerted.
    for plan, calls, state, alert in [
        ("0", 1, "success", None),
        ("once", 2, "success", None),
        ("1", 3, "failed", "exit code 1, worth trying again: assay: told so"),
        ("2", 1, "failed", "exit code 2, bad usage or settings: assay: told so"),
        ("3", 1, "failed", "exit code 3, the data was refused: assay: told so"),
        ("9", 3, "failed", "exit code 9, worth trying again: assay: told so"),
    ]:
        alerts.texts.clear()
        run, made = run_with(folder, plan)
        assert len(made) == calls, (plan, made)
        assert run.state == state, (plan, run.state)
        assert [alert in text for text in alerts.texts] == ([True] if alert else []), (plan, alerts.texts)
        key = "return_value" if plan in ("0", "once") else "summary"
        summary = run.get_task_instance("train").xcom_pull(task_ids="train", key=key)
        assert summary["passed"] is (key == "return_value"), (plan, summary)
        print(f"ok    exit code {plan}: {calls} calls, {state}")
    run, made = run_with(folder, "sleep", timeout=timedelta(seconds=2), retries=0)
    assert run.state == "failed" and made[1:] == ["stopped"], (run.state, made)
    assert not Path(f"/proc/{made[0].split()[0]}").exists(), "the job lives on"
    print("ok    timeout: the job is told to stop, and is gone")


def run_with(folder: Path, plan: str, timeout: timedelta | None = None, retries: int = 2):
    (folder / "plan").write_text(plan)
    (folder / "calls").write_text("")
    dag = load().dags["assay_train"]
    # What comes after would be called too.
    dag = dag.partial_subset("train", include_downstream=False)
    task = dag.get_task("train")
    task.retries, task.retry_delay, task.max_retry_delay = retries, timedelta(seconds=1), timedelta(seconds=2)
    task.execution_timeout = timeout or task.execution_timeout
    run = dag.test()
    return run, (folder / "calls").read_text().splitlines()


if __name__ == "__main__":
    began = time.monotonic()
    if sys.argv[1] == "structure":
        structure()
    else:
        exits(Path(sys.argv[2]))
    print(f"      {time.monotonic() - began:.0f} s")
