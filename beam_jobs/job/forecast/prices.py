"""What machines cost: a dated table, which the user can replace."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from beam_jobs.errors import UsageError

DEFAULT_MACHINE_TYPE = "n2-standard-4"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MachineFamily(_Part):
    """Machines that differ in size alone. A vCPU is a hyperthread: about half a core."""

    gb_per_vcpu: float = Field(gt=0)
    cores_per_vcpu: float = Field(gt=0)
    has_bfloat16: bool


class PriceTable(_Part):
    """Prices of an hour, of a day and a region.

    ``disk_gb`` is a worker's disk, ``start_seconds`` what it takes until its first row.
    """

    as_of: str
    region: str
    currency: str
    source: str
    vcpu_hour: float = Field(ge=0)
    gb_hour: float = Field(ge=0)
    disk_gb_hour: float = Field(ge=0)
    disk_gb: float = Field(ge=0)
    start_seconds: float = Field(ge=0)
    machine_families: dict[str, MachineFamily]


@dataclass(frozen=True)
class Machine:
    """A machine type: ``cores`` that do as much as cores without a second thread, and its price."""

    name: str
    vcpus: int
    cores: float
    has_bfloat16: bool
    price_per_hour: float


def read_prices(path: str | None) -> PriceTable:
    """Reads a table of prices; None means the package's own.

    Raises:
        UsageError: the file is not there, or not such a table.
    """
    if path is None:
        data = (files("beam_jobs.job.forecast") / "prices.json").read_bytes()
    else:
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise UsageError(f"--prices {path}: {error.strerror or error}.") from error
    try:
        return PriceTable.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UsageError(
            f"--prices {path}: {where}: {first['msg']}. Start from a copy of "
            "beam_jobs/job/forecast/prices.json."
        ) from error


def find_machine(table: PriceTable, name: str) -> Machine:
    """Returns a machine type such as ``n2-standard-8``.

    Raises:
        UsageError: the table has no such family, or no number of vCPUs follows.
    """
    family, _, number = name.rpartition("-")
    known = table.machine_families.get(family)
    if known is None or not number.isdigit() or int(number) < 1:
        families = ", ".join(f"{name}-N" for name in table.machine_families)
        raise UsageError(
            f"--forecast_machine_type {name}: the table of prices has {families}, N the number of vCPUs. Add "
            "others to a table of your own (--prices)."
        )
    vcpus = int(number)
    price = vcpus * (table.vcpu_hour + known.gb_per_vcpu * table.gb_hour) + table.disk_gb * table.disk_gb_hour
    return Machine(name, vcpus, vcpus * known.cores_per_vcpu, known.has_bfloat16, price)
