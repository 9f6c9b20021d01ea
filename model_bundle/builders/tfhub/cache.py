"""Where tensorflow_hub keeps what it fetched, and how to get a module without it."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path

_KAGGLE_URL = re.compile(
    r"https?://(?:www\.)?kaggle\.com/models/(?P<owner>[\w.-]+)/(?P<model>[\w.-]+)"
    r"(?:/frameworks)?/(?P<framework>[\w.-]+)(?:/variations)?/(?P<variation>[\w.-]+)"
    r"(?:(?:/versions)?/(?P<version>\d+))?/?(?:[?#].*)?"
)
_KAGGLE_HANDLE = re.compile(r"[\w-]+/[\w.-]+/(?i:tensorflow[12])/[\w.-]+(/\d+)?")
_TFHUB_URL = re.compile(r"https?://(?:www\.)?tfhub\.dev/.+")


def cache_folder(handle: str) -> str:
    """Returns the folder that tensorflow_hub keeps a web handle in.

    Source: ``_module_dir`` in compressed_module_resolver.py and ``tfhub_cache_dir`` in resolver.py of
    tensorflow_hub 0.16.
    """
    root = os.getenv("TFHUB_CACHE_DIR") or str(Path(tempfile.gettempdir()) / "tfhub_modules")
    # A name, not a protection: this is what the library takes.
    return f"{root.rstrip('/')}/{hashlib.sha1(handle.encode('utf-8'), usedforsecurity=False).hexdigest()}"


def how_to_fetch(handle: str) -> str:
    """Says, in lines of its own, how to get a module some other way; empty where nothing is known of it.

    >>> print(how_to_fetch("https://www.kaggle.com/models/google/elmo/tensorFlow1/elmo/3").splitlines()[2])
      python -c 'import kagglehub; print(kagglehub.model_download("google/elmo/tensorFlow1/elmo/3"))'
    """
    kaggle = _kaggle_handle(handle)
    if kaggle is None and not re.match(r"https?://", handle):
        return ""
    if kaggle is None and not _TFHUB_URL.fullmatch(handle):
        return (
            "\nCheck the address and the network; or download the module elsewhere, copy it here, and run\n"
            "  python -m model_bundle build hub DIR --output …"
        )
    return (
        "\nModules of TF-Hub have moved to Kaggle. Where there is a network:\n"
        f"  python -c 'import kagglehub; print(kagglehub.model_download(\"{kaggle or _TFHUB_PATTERN}\"))'\n"
        "prints the folder it made (pip install kagglehub). Copy it here, and run\n"
        "  python -m model_bundle build hub DIR --output …"
    )


# What Kaggle calls a module of tfhub.dev cannot be told from its address alone.
_TFHUB_PATTERN = "OWNER/MODEL/tensorFlow1 or tensorFlow2/VARIATION/VERSION"


def _kaggle_handle(handle: str) -> str | None:
    """Returns what kagglehub calls a module that is named as Kaggle names it."""
    if _KAGGLE_HANDLE.fullmatch(handle):
        return handle
    match = _KAGGLE_URL.fullmatch(handle)
    if match is None:
        return None
    framework = re.sub(r"^tensorflow(?=\d)", "tensorFlow", match["framework"], flags=re.IGNORECASE)
    return "/".join(
        filter(None, (match["owner"], match["model"], framework, match["variation"], match["version"]))
    )
