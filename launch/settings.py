"""Checks and shows launch/settings.env, or writes NAME=VALUE into it; it begins as settings.env.example."""

from __future__ import annotations

import argparse
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from string import Template

DEFAULT_PATH = Path(__file__).parent / "settings.env"
EXAMPLE = DEFAULT_PATH.with_name("settings.env.example")
_BUCKET = r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]"
_ACCOUNT = r"[a-z][a-z0-9-]{4,28}[a-z0-9]@[a-z0-9.:-]+\.gserviceaccount\.com"
_BOOL = "true|false"
# What each variable must match, and what that is called.
FORMS = {
    "PROJECT": (
        r"([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]",
        "a project id: 6 to 30 lower-case letters, digits, '-'",
    ),
    "REGION": (r"[a-z]+-[a-z]+\d+", "a region such as us-central1 (not a zone)"),
    "INPUT": (rf"gs://{_BUCKET}/.+", "a pattern such as gs://my-texts/{date-1}/*.jsonl"),
    "NOTIFY": (r"[^@\s]+@[^@\s]+\.[^@\s]+", "an e-mail address"),
    "TASK": ("embed|classify", "embed or classify"),
    "BUCKET": (_BUCKET, "the name of a bucket, without gs://"),
    "MODELS": (_BUCKET, "the name of a bucket, without gs://"),
    "STATE": (_BUCKET, "the name of a bucket, without gs://"),
    "OUTPUT": (rf"gs://{_BUCKET}/.+", "gs://BUCKET/FOLDER"),
    "TAG": (
        r"[a-z0-9-]+-docker\.pkg\.dev/[^/]+/[^/]+/[^/:@]+:[\w.-]+",
        "REGION-docker.pkg.dev/PROJECT/jobs/TASK:1",
    ),
    "TEMPLATE": (rf"gs://{_BUCKET}/.+\.json", "gs://BUCKET/FILE.json"),
    "WORKER": (_ACCOUNT, "the e-mail of a service account"),
    "SCHEDULER": (_ACCOUNT, "the e-mail of a service account"),
    "BUNDLE": (r"(gs://|/).+@sha256:[0-9a-f]{64}", "gs://…@sha256:DIGEST, as step 2 prints it"),
    "IMAGE": (
        r"[a-z0-9-]+-docker\.pkg\.dev/[^/]+/[^/]+/[^/:@]+@sha256:[0-9a-f]{64}",
        "an image by digest, as step 3 prints it: a tag can be moved",
    ),
    "MAX_WORKERS": (r"[1-9]\d{0,2}|1000", "a number from 1 to 1000"),
    "KMS_KEY": (
        r"projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+",
        "projects/P/locations/REGION/keyRings/R/cryptoKeys/K",
    ),
    "SUBNETWORK": (
        r"(https://www\.googleapis\.com/compute/v1/projects/[^/]+/)?regions/[^/]+/subnetworks/[^/]+",
        "regions/REGION/subnetworks/NAME",
    ),
    "PRIVATE_WORKERS": (_BOOL, "true or false"),
    "PAUSED": (_BOOL, "true or false"),
}
# Empty until the step that writes it, or forever.
_MAY_BE_EMPTY = {"BUNDLE": "step 2", "IMAGE": "step 3", "KMS_KEY": "", "SUBNETWORK": ""}


@dataclass(frozen=True)
class Settings:
    """The values by name, expanded, and the line of each one for messages."""

    path: Path
    values: dict[str, str]
    lines: dict[str, int]

    def problems(self) -> list[str]:
        """Returns one line for each variable that is missing, malformed or contradicts another one."""
        found = []
        for name, (form, expected) in FORMS.items():
            value = self.values.get(name)
            if value is None:
                found.append(f"{self.path}: {name} is missing; expected {expected}.")
            elif not re.fullmatch(form, value) and not (value == "" and name in _MAY_BE_EMPTY):
                found.append(f"{self._where(name)}: {name} is {value!r}; expected {expected}.")
        return found or self._contradictions()

    def require(self, *names: str) -> str:
        """Returns one line for each of these that is still empty."""
        return "\n".join(
            f"{self._where(name)}: {name} is empty; {_MAY_BE_EMPTY[name]} of launch/README.md writes it."
            for name in names
            if not self.values[name]
        )

    def _contradictions(self) -> list[str]:
        values, found = self.values, []
        if values["BUCKET"] == values["MODELS"]:
            found.append(
                ("MODELS", "is that of BUCKET, too; workers, who write there, must not write bundles")
            )
        found += [
            (name, f"is not in {values['REGION']}")
            for name in ("TAG", "IMAGE")  # a multi-region, such as us, is fine
            if values[name] and not values["REGION"].startswith(values[name].partition("-docker.")[0])
        ]
        region = values["SUBNETWORK"].rpartition("regions/")[2].split("/")[0]
        if values["SUBNETWORK"] and region != values["REGION"]:
            found.append(("SUBNETWORK", f"is not in {values['REGION']}"))
        place = values["KMS_KEY"].split("/")[3:4]
        if place and place[0] not in (values["REGION"], "global"):
            found.append(("KMS_KEY", f"is not in {values['REGION']}"))
        return [f"{self._where(name)}: {name} {self.values[name]} {why}." for name, why in found]

    def _where(self, name: str) -> str:
        return f"{self.path}:{self.lines[name]}"


def read_settings(path: Path) -> Settings:
    """Reads and checks a file of settings.

    Raises:
        SystemExit: one line for each variable that is wrong.
    """
    settings = _parse(path)
    problems = settings.problems()
    if problems:
        raise SystemExit("\n".join(problems))
    return settings


def _parse(path: Path) -> Settings:
    text = _read(path)
    settings = Settings(path, {}, {})
    for number, line in enumerate(text.splitlines(), 1):
        try:
            words = shlex.split(line, comments=True)
            if not words:
                continue
            (word,) = words
            name, equals, value = word.partition("=")
            if not equals or not re.fullmatch(r"[A-Z]\w*", name):
                raise ValueError(f"{name!r} is no NAME=")
            settings.values[name] = Template(value).substitute(settings.values)
            settings.lines[name] = number
        except KeyError as error:
            raise SystemExit(
                f"{path}:{number}: {name} names ${error.args[0]}, which no earlier line sets."
            ) from error
        except ValueError as error:
            raise SystemExit(
                f"{path}:{number}: {line.strip()}: expected NAME=value, without spaces ({error})."
            ) from error
    return settings


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise SystemExit(
            f"--settings {path}: there are no settings yet. Make your copy: cp {EXAMPLE} {path}, then edit "
            "its first lines: project, region, input, e-mail address."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise SystemExit(f"--settings {path}: {getattr(error, 'strerror', None) or error}.") from error


def write_settings(path: Path, texts: list[str]) -> None:
    """Replaces the values of ``NAME=VALUE`` texts in the file, where they are valid.

    Raises:
        SystemExit: there is no such variable, or its value is wrong; the file stays as it was.
    """
    before = _read(path)
    after = before
    for text in texts:
        name, equals, value = text.partition("=")
        line = f"{name}={shlex.quote(value)}".replace("\\", r"\\")
        after, count = re.subn(rf"(?m)^{re.escape(name)}=.*$", line, after)
        if not equals or not count:
            raise SystemExit(f"{text}: expected NAME=VALUE with a name that {path} has.")
    path.write_text(after, encoding="utf-8")
    try:
        read_settings(path)
    except SystemExit:
        path.write_text(before, encoding="utf-8")
        raise


def main() -> None:
    """Writes the given values, then prints all of them."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--settings", type=Path, default=DEFAULT_PATH, metavar="FILE")
    parser.add_argument("assignments", nargs="*", metavar="NAME=VALUE")
    flags = parser.parse_args()
    if flags.assignments:
        write_settings(flags.settings, flags.assignments)
    for name, value in read_settings(flags.settings).values.items():
        if not name.startswith("TF_VAR_"):
            print(f"{name}={shlex.quote(value)}")


if __name__ == "__main__":
    main()
