"""Machine prices: a dated table that the user can replace."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from beam_jobs.errors import UsageError


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MachineFamily(_Part):
    """Machines that differ only in size. Where a vCPU is a hyperthread, it is about half a core.

    ``instructions`` is a key of the table's ``speeds``.
    """

    gb_per_vcpu: float = Field(gt=0)
    cores_per_vcpu: float = Field(gt=0)
    has_bfloat16: bool
    instructions: str = ""


class PriceTable(_Part):
    """Hourly prices in one region on one date.

    ``disk_gb`` is the disk of a worker, ``start_seconds`` its time until the first row. ``speeds`` are
    documents per second of one core by instruction set and precision, of one model: their ratios are used.
    ``default_machines`` are those that a job may choose from, by family, smallest first: available in most
    regions, with disks that every project has.
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
    speeds: dict[str, dict[str, float]] = {}
    default_machines: dict[str, tuple[str, ...]] = {}

    def relative_speed(self, instructions: str, here: str, precision: str) -> float:
        """Returns how many times as fast a core is as one of this machine; 1 where that is unknown."""
        there, own = (self.speeds.get(name, {}).get(precision) for name in (instructions, here))
        return there / own if there and own else 1.0


@dataclass(frozen=True)
class Machine:
    """A machine type; ``cores`` are its vCPUs converted to cores without hyperthreading."""

    name: str
    vcpus: int
    cores: float
    has_bfloat16: bool
    price_per_hour: float
    instructions: str = ""


def read_prices(path: str | None) -> PriceTable:
    """Reads a price table; None means the one in the package.

    Raises:
        UsageError: the file cannot be read, or is not a price table.
    """
    if path is None:
        data = (files("beam_jobs.job.dataflow") / "prices.json").read_bytes()
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
            "beam_jobs/job/dataflow/prices.json."
        ) from error


def find_machine(table: PriceTable, name: str) -> Machine:
    """Returns the machine type of a name such as ``n2-standard-8``.

    Raises:
        UsageError: the table has no such family, or the name does not end in a number of vCPUs.
    """
    family, _, number = name.rpartition("-")
    known = table.machine_families.get(family)
    if known is None or not number.isdigit() or int(number) < 1:
        families = ", ".join(f"{name}-N" for name in table.machine_families)
        raise UsageError(
            f"--forecast_machine_type {name}: the price table has {families}, N being the number of vCPUs. "
            "Add others in a table of your own (--prices)."
        )
    vcpus = int(number)
    price = vcpus * (table.vcpu_hour + known.gb_per_vcpu * table.gb_hour) + table.disk_gb * table.disk_gb_hour
    return Machine(name, vcpus, vcpus * known.cores_per_vcpu, known.has_bfloat16, price, known.instructions)


def default_machines(table: PriceTable, precision: str) -> tuple[str, ...]:
    """Returns the machines of the default family for a precision, smallest first: the cheapest per document.

    A family without a speed for the precision lacks its instructions, and is taken only if all do.

    >>> default_machines(read_prices(None), "bfloat16")[0]
    'c3-standard-4'
    """

    def documents_per_price(machines: tuple[str, ...]) -> float:
        machine = find_machine(table, machines[0])
        speed = table.speeds.get(machine.instructions, {}).get(precision, 0.0)
        return speed * machine.cores / machine.price_per_hour

    return max(table.default_machines.values(), key=documents_per_price)


def describe_default(table: PriceTable, precision: str) -> str:
    """Returns why a machine is the default, as the end of a sentence.

    >>> describe_default(read_prices(None), "float32")
    'of c3 and n2 the cheapest per document in float32 (prices of 2025; docs/how-to/machines.md)'
    >>> describe_default(read_prices(None), "int7").partition(";")[0]
    'the first of c3 and n2, since the price table has no speed in int7 for any of them'
    """
    families = " and ".join(table.default_machines)
    machines = [find_machine(table, names[0]) for names in table.default_machines.values()]
    if not any(precision in table.speeds.get(machine.instructions, {}) for machine in machines):
        return (
            f"the first of {families}, since the price table has no speed in {precision} for any of them; "
            "docs/how-to/machines.md"
        )
    return (
        f"of {families} the cheapest per document in {precision} (prices of {table.as_of}; "
        "docs/how-to/machines.md)"
    )
