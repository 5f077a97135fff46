"""Every six hours the warehouse: tables of PostgreSQL brought to the newest epoch of the lake.

Only epochs that are new are read, each exactly once. A check that does not hold, or a table that is not what its file says,
fails the run without another try, and the warehouse stays at the epoch where it was; a lost connection is tried again. Runs
beside anything. `full` fills all tables anew, in one transaction.
"""

from datetime import timedelta

from airflow.sdk import DAG, Param
from assay_job import AssayJob, shared

with DAG(
    **shared("assay_warehouse", timeout=timedelta(hours=4), late=timedelta(hours=5)),
    schedule="0 */6 * * *",
    params={
        "full": Param(False, type="boolean", description="fill all tables anew"),
        "until": Param(None, type=["null", "integer"], minimum=1, description="the last epoch to load; empty: the newest"),
    },
    doc_md=__doc__,
):
    AssayJob(
        task_id="warehouse",
        arguments=["warehouse", "{{ '--full' if params.full else '' }}", "--until", "{{ params.until or '' }}"],
        report="{processing_type}: up to epoch {epoch}, {rows} rows in {seconds} s",
    )
