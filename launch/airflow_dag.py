"""The nightly run as an Airflow DAG, for use instead of Cloud Scheduler if other tasks depend on it.

Settings come from environment variables (Composer has a page for them), so this file needs no edits.
A retry uses the same run id and continues the run; a fixed job name prevents two jobs at the same time.
"""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime, timedelta

from airflow.providers.google.cloud.operators.dataflow import DataflowStartFlexTemplateOperator
from airflow.sdk import DAG


def pinned(name: str) -> str:
    """Returns a setting that names something by its digest, so that every night starts the same."""
    place = os.environ.get(name, "")
    if not re.search(r"@sha256:[0-9a-f]{64}$", place):
        raise ValueError(f"{name}={place}: expected it with its digest, …@sha256:<64 hex digits>.")
    return place


PROJECT = os.environ.get("EMBED_PROJECT", "my-project")
REGION = os.environ.get("EMBED_REGION", "us-central1")
# embed or classify: image, template and bundle are those of the task.
TASK = os.environ.get("EMBED_TASK", "embed")
BUCKET = os.environ.get("EMBED_BUCKET", "my-project-embedding-jobs")
# Workers cannot write there. The bundle is named with its digest, as `python -m model_bundle push` prints it.
MODELS_BUCKET = os.environ.get("EMBED_MODELS_BUCKET", "my-project-embedding-models")
BUNDLE = pinned("EMBED_BUNDLE")
IMAGE = pinned("EMBED_IMAGE")
INPUT = os.environ.get("EMBED_INPUT", "gs://my-texts/{date-1}/*.jsonl")
WORKER_ACCOUNT = os.environ.get("EMBED_WORKER_ACCOUNT", "embedding-worker@my-project.iam.gserviceaccount.com")
# JSON: further flags of the job, and further fields of the launch environment, such as diskSizeGb, kmsKeyName
# or flexrsGoal. `python launch/submit.py --print_only` shows both for its flags.
PARAMETERS = json.loads(os.environ.get("EMBED_PARAMETERS", "{}"))
ENVIRONMENT = json.loads(os.environ.get("EMBED_ENVIRONMENT", "{}"))

with DAG(
    dag_id=f"{TASK}_nightly",
    schedule="30 2 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 1, "retry_delay": timedelta(minutes=10)},
    tags=["embeddings"],
) as dag:
    DataflowStartFlexTemplateOperator(
        task_id=TASK,
        project_id=PROJECT,
        location=REGION,
        append_job_name=False,
        deferrable=True,
        body={
            "launchParameter": {
                "jobName": f"{TASK}-nightly",
                "containerSpecGcsPath": f"gs://{MODELS_BUCKET}/templates/{TASK}.json",
                "parameters": {
                    "input": INPUT,
                    "output": f"gs://{BUCKET}/{'embeddings' if TASK == 'embed' else 'classes'}",
                    # The scheduled day rather than today, so that a backfill computes the right day.
                    "date": "{{ logical_date | ds }}",
                    "run_id": "night-{date}",
                    "previous": "latest",
                    "bundle": BUNDLE,
                    **PARAMETERS,
                },
                "environment": {
                    "sdkContainerImage": IMAGE,
                    "maxWorkers": 10,
                    "serviceAccountEmail": WORKER_ACCOUNT,
                    "tempLocation": f"gs://{BUCKET}/temp",
                    "additionalUserLabels": {"job": f"{TASK}-nightly"},
                    **ENVIRONMENT,
                },
            }
        },
    )
