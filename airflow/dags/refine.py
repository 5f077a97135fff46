"""Every ten minutes what came into Kafka: bronze, then silver, gold and scores.

The stand-in for `assay run`. A lake has one writer: pause this DAG where that service runs.
"""

from datetime import timedelta

from airflow.sdk import DAG
from assay_job import LAKE_POOL, AssayJob, shared

with DAG(
    **shared("assay_refine", timeout=timedelta(hours=1), late=timedelta(minutes=30)),
    schedule="*/10 * * * *",
    doc_md=__doc__,
):
    ingest = AssayJob(task_id="ingest", arguments=["ingest", "--until-end"], pool=LAKE_POOL)
    refine = AssayJob(task_id="refine", arguments=["refine"], pool=LAKE_POOL)
    ingest >> refine
