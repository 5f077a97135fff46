"""Every day the proof, from the tables alone, that every message stands in one place and gold follows from silver.

A check that does not hold fails the run without another try. Nothing may write to the lake meanwhile: pause this DAG
where `assay run` does, and verify while the service is stopped.
"""

from datetime import timedelta

from airflow.sdk import DAG
from assay_job import LAKE_POOL, AssayJob, shared

with DAG(
    **shared("assay_verify", timeout=timedelta(hours=4), late=timedelta(hours=6)),
    schedule="30 3 * * *",
    doc_md=__doc__,
):
    AssayJob(task_id="verify", arguments=["verify"], pool=LAKE_POOL)
