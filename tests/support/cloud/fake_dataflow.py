"""Dataflow's interface as far as a launcher uses it: jobs are kept, and end as a test says."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.support.cloud.fake_storage import Answer, Request, failure

_JOBS = re.compile(r".*/v1b3/projects/([^/]+)/locations/([^/]+)/(.+)")


class FakeDataflow:
    """Jobs by id.

    ``final_state`` is what a job is in when it is asked for after it was made; launches under the names of
    ``running`` are rejected.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.created: list[dict[str, Any]] = []
        self.launched: list[dict[str, Any]] = []
        self.running: set[str] = set()
        self.final_state = "JOB_STATE_DONE"

    def answer(self, request: Request) -> Answer:
        """Answers one request."""
        match = _JOBS.match(request.path)
        if match is None:
            return failure(404, f"no such place: {request.path}")
        _, location, rest = match.groups()
        body = json.loads(request.body) if request.body else {}
        if request.method == "POST" and rest == "jobs":
            return self._create(body, location)
        if request.method == "POST" and rest == "flexTemplates:launch":
            name = body["launchParameter"]["jobName"]
            if name in self.running:
                return failure(409, f"There is already an active job named {name}.")
            self.launched.append(body)
            return _json({"job": {"id": "launched", "name": body["launchParameter"]["jobName"]}})
        job_id, _, what = rest.removeprefix("jobs/").partition("/")
        if job_id not in self.jobs:
            return failure(404, f"no such job: {job_id}")
        if what == "messages":
            return _json({"jobMessages": self._messages()})
        if what == "metrics":
            return _json({"metricTime": "2026-01-01T00:00:00Z", "metrics": []})
        self.jobs[job_id]["currentState"] = self.final_state
        return _json(_short(self.jobs[job_id]))

    def _create(self, body: dict[str, Any], location: str) -> Answer:
        self.created.append(body)
        for job in self.jobs.values():  # the service answers with the job of that name that is going on
            if job["name"] == body["name"] and job["currentState"] == "JOB_STATE_RUNNING":
                return _json(_short(job))
        job = {
            **body,
            "id": f"2026-01-01_00_00_00-{len(self.jobs)}",
            "currentState": "JOB_STATE_RUNNING",
            "createTime": "2026-01-01T00:00:00Z",
            "location": location,
        }
        self.jobs[job["id"]] = job
        return _json(_short(job))

    def _messages(self) -> list[dict[str, str]]:
        level = "ERROR" if self.final_state == "JOB_STATE_FAILED" else "BASIC"
        text = "a worker said so"
        return [
            {
                "id": "1",
                "time": "2026-01-01T00:00:01Z",
                "messageText": text,
                "messageImportance": f"JOB_MESSAGE_{level}",
            }
        ]


def _short(job: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in job.items() if name != "environment"}


def _json(content: Any) -> Answer:
    return Answer(200, json.dumps(content).encode())
