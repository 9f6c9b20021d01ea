"""Writes the specification of the template, which names the image and its parameters, to gs://."""

from __future__ import annotations

import argparse
import json

from bodies import template_spec
from calls import print_json, print_message
from flags import add_place, parse
from make_metadata import read_metadata


def main() -> None:
    """Uploads the specification, or prints it."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    add_place(parser)
    flags = parse(parser)
    spec = template_spec(flags.image, read_metadata(flags.task))
    if flags.print_only:
        print_json(spec)
        return
    from google.cloud import storage

    bucket, _, name = flags.template.removeprefix("gs://").partition("/")
    blob = storage.Client(project=flags.project).bucket(bucket).blob(name)
    blob.upload_from_string(json.dumps(spec, indent=2), content_type="application/json")
    print_message(f"wrote {flags.template}")


if __name__ == "__main__":
    main()
