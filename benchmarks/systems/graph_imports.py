"""Builds the job's graph without running it; prints how long that took and what it imported."""

from __future__ import annotations

import json
import sys
import time

_HEAVY = ("tensorflow", "keras", "transformers", "torch")


def main() -> None:
    started = time.perf_counter()
    import apache_beam as beam

    from beam_jobs.job.flags.beam import pipeline_options
    from beam_jobs.job.flags.parsers import embed_parser
    from beam_jobs.job.plan import plan_job
    from beam_jobs.pipeline.build import build

    lines, output = sys.argv[1:]
    parser = embed_parser()
    flags = parser.parse_args(["--input", lines, "--output", output])
    options = pipeline_options(flags.runner, [], [])
    build(beam.Pipeline(options=options), plan_job(flags, options, in_process=True))
    heavy = [name for name in _HEAVY if name in sys.modules]
    print(json.dumps({"seconds": time.perf_counter() - started, "heavy_modules": heavy}))


if __name__ == "__main__":
    main()
