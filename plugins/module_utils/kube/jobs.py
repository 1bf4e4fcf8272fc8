# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs that have to succeed before anything else of a list is applied, such as the migration of a database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .pods import Trouble, pod_troubles
from .transport import first_line
from .wait import Waiter, succeed

if TYPE_CHECKING:
    from .objects import Objects

Json = dict[str, Any]

KIND = "Job"
# Seconds before a Job's deadline in which it is given up: its pods go with it then, and what they have logged.
LEAD = 5


def condition(job: Json, kind: str) -> Json | None:
    """The condition of a Job, where it is true."""
    found = (job.get("status") or {}).get("conditions") or []
    return next((item for item in found if item["type"] == kind and item["status"] == "True"), None)


def has_ended(job: Json) -> bool:
    """Whether a Job runs no more."""
    return bool(condition(job, "Complete") or condition(job, "Failed"))


def has_failed(live: Json) -> bool:
    """Whether an object is a Job that has failed, so that it has to be made again."""
    return bool(live["kind"] == KIND and condition(live, "Failed"))


class JobWaiter(Waiter):
    """Waits until a Job has succeeded, and says why it does not."""

    VERSION = "batch/v1"

    def revision_label(self) -> tuple[str, str]:
        return "", ""  # its selector is one of its own

    def is_seen(self) -> bool:
        return True  # its controller does not tell, and a Job that is there has one generation

    def has_ended(self) -> bool:
        return has_ended(self.workload)

    def is_over(self) -> bool:
        return condition(self.workload, "Complete") is not None

    def hopeless(self) -> str:
        if failed := condition(self.workload, "Failed"):
            return f"{failed.get('reason')}: {first_line(failed.get('message') or '')}"
        return super().hopeless()

    def given_up(self, reason: str) -> str:
        return f"The {self.label} has failed ({reason}), so nothing that follows it is applied."

    def overdue(self, timeout: int) -> str:
        return f"The {self.label} has not ended after {timeout} s, so nothing that follows it is applied."

    def troubles_of(self, pod: Json) -> list[Trouble]:
        """Also of a pod that goes on: its log says what it is at."""
        running = [status for status in (pod.get("status") or {}).get("containerStatuses") or [] if status.get("ready")]
        going = [Trouble(pod["metadata"]["name"], one["name"], "Running", f"container {one['name']} runs") for one in running]
        return pod_troubles(pod) or going

    def explain(self, reason: str) -> Json:
        return {key: value for key, value in super().explain(reason).items() if key != "replicas"}


class EarlierWaiter(JobWaiter):
    """Waits until a Job of another version has ended, however it did; one whose pod has not begun need not be waited for."""

    def is_over(self) -> bool:
        # Whoever may not list pods is told by the Job.
        told = (self.workload.get("status") or {}).get("ready")
        return self.has_ended() or not (told or any(pod["status"].get("phase") == "Running" for pod in self.pods()))

    def hopeless(self) -> str:
        return ""

    def overdue(self, timeout: int) -> str:
        return f"The {self.label} is another version's and still runs after {timeout} s, so none is started beside it."


def wait_for_earlier(objects: Objects, unwanted: list[Json], timeout: int) -> list[Json]:
    """Return when no Job among unwanted objects runs any more, with those that had not ended before; see wait_for_job."""
    found = objects.each(objects.get, [item for item in unwanted if item["kind"] == KIND])
    going = [job for job in found if job and not has_ended(job)]
    objects.each(lambda job: _wait(EarlierWaiter, objects, job, timeout), going)
    return going


def wait_for_job(objects: Objects, job: Json, timeout: int) -> None:
    """Return when a Job has succeeded.

    :param job: the live object; its own deadline takes the place of the *timeout*, in seconds.
    :raises NotReady: when it has failed, or not ended in time.
    """
    _wait(JobWaiter, objects, job, timeout)


def _wait(kind: type[JobWaiter], objects: Objects, job: Json, timeout: int) -> None:
    waiter = kind(objects, KIND, job["metadata"]["namespace"], job["metadata"]["name"])
    waiter.workload = job
    deadline = job["spec"].get("activeDeadlineSeconds")
    succeed(waiter, max(1, deadline - LEAD) if deadline else timeout)
