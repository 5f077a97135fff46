"""Every day how far the newest days are from what the champion learned from.

A feature or a score that is far off fails the run without another try, and with it alerts. What was measured is in
`ml.drift` and `ml.performance`, and what is far off in XCom. Runs beside anything. `from` and `to` measure other days;
what stands there for them is replaced.
"""

from datetime import timedelta

from airflow.sdk import DAG, Param
from assay_job import AssayJob, shared

DATE = {"type": ["null", "string"], "format": "date"}
# For the textfile collector of Prometheus' node_exporter; the job leaves the option out when it is empty.
METRICS = "{{ var.value.get('assay_drift_metrics', '') }}"

with DAG(
    **shared("assay_drift", timeout=timedelta(hours=2), late=timedelta(hours=3)),
    schedule="0 5 * * *",
    params={
        "from": Param(None, **DATE, description="the first day; empty: the newest days, as drift.days says"),
        "to": Param(None, **DATE, description="the last day, included"),
    },
    doc_md=__doc__,
):
    AssayJob(
        task_id="drift",
        arguments=["drift", "--from", "{{ params.from or '' }}", "--to", "{{ params.to or '' }}", "--metrics-file", METRICS],
        report="{model}@{version}, {from} to {to}: far off are {act}",
        # A row for each feature, day and hour.
        without=["drift"],
    )
