"""The errors of a job, one tree. Each carries the exit code the command ends with.

::

    JobError                    exit 1
    ├── UsageError              exit 2: flags that contradict each other, an unknown column, no such file
    │   ├── NoInputError        no file at all
    │   └── FinishedError       the run was finished before
    ├── TooManyDeadError        exit 3: more dead letters or dead files than allowed
    └── CountsError             exit 4: counts do not add up, a bug

Every message says what was expected, what came and what to do.
"""

from __future__ import annotations


class JobError(Exception):
    """Base of all errors that end a job."""

    exit_code = 1


class UsageError(JobError):
    """The job was asked for something it cannot do; nothing was started."""

    exit_code = 2


class NoInputError(UsageError):
    """No file matches any of the patterns."""


class FinishedError(UsageError):
    """The run was finished before."""


class TooManyDeadError(JobError):
    """More dead letters or dead files than the flags allow; everything that was computed is kept."""

    exit_code = 3


class CountsError(JobError):
    """Documents read are not documents written plus dead letters."""

    exit_code = 4
