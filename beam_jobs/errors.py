"""The errors of a job, as one tree; each carries the exit code of the command.

::

    JobError                    exit 1
    ├── UsageError              exit 2: contradictory flags, an unknown column, a missing file
    │   ├── NoInputError        no input file
    │   └── FinishedError       the run has already finished
    ├── TooManyDeadError        exit 3: more dead letters or dead files than allowed
    └── CountsError             exit 4: counts do not add up (a bug)

Every message says what was expected, what was found and what to do.
"""

from __future__ import annotations


class JobError(Exception):
    """Base of all errors that end a job."""

    exit_code = 1


class UsageError(JobError):
    """The job was asked for something it cannot do; nothing has started."""

    exit_code = 2


class NoInputError(UsageError):
    """No file matches any of the patterns."""


class FinishedError(UsageError):
    """The run has already finished."""


class TooManyDeadError(JobError):
    """More dead letters or dead files than the flags allow; everything computed is kept."""

    exit_code = 3


class CountsError(JobError):
    """The number of documents read is not that of documents written plus dead letters."""

    exit_code = 4
