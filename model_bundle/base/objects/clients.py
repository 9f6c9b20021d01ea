"""The client of a bucket or container, with the vendor's credentials, and its errors as those of files.

Paths are ``s3://BUCKET/KEY``, ``az://CONTAINER/KEY`` and ``abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/KEY``.
Credentials and endpoints come from where the vendors' own tools take them. Why obstore:
docs/decisions/object-storage.md.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import Any

from model_bundle.errors import MissingExtraError, UsageError

_EXTRAS = {"s3": "s3", "az": "azure", "abfs": "azure", "abfss": "azure"}
SCHEMES = tuple(_EXTRAS)
# Long enough for a part of an upload, or a page of a listing, over a slow line; the client's own is 30 s.
_REQUEST_SECONDS = 300
_RETRY_SECONDS = 600
# The client asks again five minutes before the end, and boto3 renews what expires within ten.
_CREDENTIALS_SECONDS = 600
# Without one of these, azure-identity looks for a role, a workload, a service principal or a login.
_AZURE_SECRETS = (
    *("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_SAS_TOKEN"),
    *("AZURE_STORAGE_SAS_KEY", "AZURE_STORAGE_TOKEN", "AZURE_SKIP_SIGNATURE"),
)
_ABFS_HOST = re.compile(r"(?P<container>[^@/]+)@(?P<account>[^.@/]+)\.(?:dfs|blob)\.[a-z0-9.-]+")
_ERROR = re.compile(r"<Code>([^<]*)</Code>.*?<Message>([^<\n]*)", re.DOTALL)
_OF_CREDENTIALS = (
    *("AuthenticationFailed", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken"),
    *("SignatureDoesNotMatch", "TokenRefreshRequired"),
)
# Queries may hold a signature.
_QUERY = re.compile(r"\?\S*")


class ConditionError(Exception):
    """An object was not in the expected state."""


class UnsupportedError(OSError):
    """The storage does not know what it was asked for."""


def root_of(path: str) -> str:
    """Returns a URL's scheme and bucket or container.

    >>> root_of("s3://bucket/a/b")
    's3://bucket'
    """
    scheme, _, rest = path.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"


def located(path: str) -> tuple[Any, str]:
    """Returns the client of a path's bucket, and the key in it.

    Raises:
        MissingExtraError: a package is not installed.
        UsageError: the URL names no bucket, or there are no credentials.
        OSError: this process was forked from one that uses a client, whose threads are not here.
    """
    root = root_of(path)
    client = _client(root)
    if os.getpid() != _first_process():
        raise OSError(f"{root} cannot be used in a forked process. Start processes with spawn instead.")
    return client, path[len(root) :].strip("/")


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Turns the client's errors, which come after its retries, into those of files.

    Raises:
        FileNotFoundError: there is no such object or bucket.
        PermissionError: the credentials do not suffice for this object.
        ConditionError: the object is not in the expected state.
        UnsupportedError: the storage cannot do this.
        OSError: any other failure.
    """
    from obstore import exceptions

    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} does not exist ({_summary(error)})") from None
    except (exceptions.AlreadyExistsError, exceptions.PreconditionError) as error:
        raise ConditionError(path) from error
    except exceptions.PermissionDeniedError as error:
        # Of this object, unless it is of the credentials: they may have ended, and no object is better then.
        kind = OSError if any(code in str(error) for code in _OF_CREDENTIALS) else PermissionError
        raise kind(f"{path}: {_summary(error)}") from None
    except (exceptions.BaseError, OSError, ValueError) as error:  # OSError of streams, ValueError of keys
        kind = UnsupportedError if "501 Not Implemented" in str(error) else OSError
        raise kind(f"{path}: {_summary(error)}") from None


def _summary(error: Exception) -> str:
    """Returns what the service said, else the first line of what the client did."""
    text = str(error)
    said = _ERROR.search(text)
    return f"{said[1]}: {said[2]}" if said else _QUERY.sub("", text.split("\n", 1)[0])


@lru_cache(maxsize=1)
def _first_process() -> int:
    return os.getpid()


@lru_cache(maxsize=64)
def _client(root: str) -> Any:
    scheme, _, host = root.partition("://")
    if not host:
        raise UsageError(f"{root} names no bucket or container.")
    options = {
        "client_options": {"allow_http": True, "timeout": timedelta(seconds=_REQUEST_SECONDS)},
        "retry_config": {"retry_timeout": timedelta(seconds=_RETRY_SECONDS)},
    }
    try:
        return _s3(host, options) if scheme == "s3" else _azure(scheme, host, options)
    except ImportError as error:
        raise MissingExtraError(
            f"{root} needs a package that is not installed here ({error.name}). Install it: "
            f"pip install 'beam-embedding-jobs[{_EXTRAS[scheme]}]'"
        ) from error
    except UsageError:
        raise
    except Exception as error:  # each vendor has errors of its own for settings that do not fit
        raise UsageError(f"{root} cannot be used: {_summary(error)}. Check its settings.") from error


def _s3(bucket: str, options: Any) -> Any:
    import boto3
    from obstore.auth.boto3 import Boto3CredentialProvider
    from obstore.store import S3Store

    if "@" in bucket or ":" in bucket:
        raise UsageError("Credentials do not belong into an s3:// URL. Write s3://BUCKET/FOLDER.")
    if os.environ.get("AWS_SKIP_SIGNATURE"):
        return S3Store(bucket, **options)
    session = boto3.Session()
    if session.get_credentials() is None:
        raise UsageError(
            f"s3://{bucket}: no AWS credentials were found. Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or give this machine a role. Public buckets: AWS_SKIP_SIGNATURE=true."
        )
    provider = Boto3CredentialProvider(session, ttl=timedelta(seconds=_CREDENTIALS_SECONDS))
    return S3Store(bucket, credential_provider=provider, **options)


def _azure(scheme: str, host: str, options: Any) -> Any:
    from obstore.store import AzureStore

    if scheme != "az":
        named = _ABFS_HOST.fullmatch(host)
        if named is None:
            raise UsageError(f"{scheme}:// needs {scheme}://CONTAINER@ACCOUNT.dfs.core.windows.net/FOLDER.")
        host, options = named["container"], options | {"account_name": named["account"]}
    # The names of Azure's command line; the client knows further ones.
    own = {"account_name": "AZURE_STORAGE_ACCOUNT", "account_key": "AZURE_STORAGE_KEY"}
    options = {key: os.environ[name] for key, name in own.items() if name in os.environ} | options
    if "account_key" in options or any(name in os.environ for name in _AZURE_SECRETS):
        return AzureStore(host, **options)
    from azure.identity import DefaultAzureCredential
    from obstore.auth.azure import AzureCredentialProvider

    return AzureStore(host, credential_provider=AzureCredentialProvider(DefaultAzureCredential()), **options)
