"""Every Sunday a model: learned from the lake, held against the gate, and made the champion when it is better.

Gate and promotion are steps of the one job, under one lock, so that no other run comes between. A model that the gate
refuses is kept and fails the run without another try; the champion stays. `epoch` learns from the lake as of an earlier
epoch, for as long as its files are kept.
"""

from datetime import timedelta

from airflow.sdk import DAG, Param
from assay_job import AssayJob, shared

with DAG(
    **shared("assay_train", timeout=timedelta(hours=6), late=timedelta(hours=8)),
    schedule="0 4 * * 0",
    params={
        "set": Param("fraud", type="string", description="the training set: a file of training/ among the SQL files"),
        "epoch": Param(None, type=["null", "integer"], minimum=1, description="the epoch to learn from; empty: the last"),
    },
    doc_md=__doc__,
):
    train = AssayJob(
        task_id="train",
        arguments=["train", "--set", "{{ params.set }}", "--epoch", "{{ params.epoch or '' }}"],
        report="model card: {folder}/card.html (passed: {passed}, champion: {champion}, refusals: {refusals})",
    )
    # Reads every version whole: exit code 3 when one is damaged.
    models = AssayJob(task_id="models", arguments=["models"])
    train >> models
