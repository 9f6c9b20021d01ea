"""Checks a template's parameters before anything is sent: names, forms, and the job's own parser."""

from __future__ import annotations

import difflib
import re

from make_metadata import read_metadata


def check_parameters(task: str, parameters: dict[str, str]) -> None:
    """Checks the parameters of a launch as far as this is possible without the bundle and the input.

    Args:
        task: ``embed`` or ``classify``.
        parameters: by name, as sent.

    Raises:
        SystemExit: one line for each parameter that is unknown, missing or malformed, or for a contradiction.
    """
    known = {parameter["name"]: parameter for parameter in read_metadata(task)["parameters"]}
    problems = [_fault(name, value, known) for name, value in parameters.items()]
    problems += [
        f"--parameter {name} is missing; the {task} template requires it."
        for name, parameter in known.items()
        if not parameter["isOptional"] and name not in parameters
    ]
    found = [problem for problem in problems if problem]
    if found:
        raise SystemExit("\n".join(found))
    _check_flags(task, parameters)


def _fault(name: str, value: str, known: dict[str, dict[str, object]]) -> str | None:
    """Returns what is wrong with one parameter by the template's metadata."""
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {near[0]}?" if near else "launch/metadata/ lists them."
        return f"--parameter {name}: the template has no such parameter. {hint}"
    if not value:
        return f"--parameter {name}: the value is empty; leave it out for the default."
    for form in known[name].get("regexes", []):  # type: ignore[attr-defined]  # JSON
        if not re.search(form, value):
            return f"--parameter {name}={value}: expected {form.strip('^$')}. {known[name]['helpText']}"
    return None


def _check_flags(task: str, parameters: dict[str, str]) -> None:
    """Parses the parameters as the template's launcher will, and looks for contradictions."""
    from beam_jobs.errors import UsageError
    from beam_jobs.job.flags.modes import check_forecast
    from beam_jobs.job.flags.options import check_alone
    from beam_jobs.job.flags.parsers import classify_parser, embed_parser

    parser = embed_parser() if task == "embed" else classify_parser()
    try:
        flags, _ = parser.parse_known_args([f"--{name}={value}" for name, value in parameters.items()])
        check_forecast(flags)
        check_alone(flags)
    except UsageError as error:
        raise SystemExit(f"--parameter: {error}") from error
