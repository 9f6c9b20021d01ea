"""Writes the specification of the template, which names the image and its parameters, to gs://."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from bodies import add_place, template_spec
from calls import print_json, print_message


def main() -> None:
    """Uploads the specification, or prints it."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    add_place(parser)
    parser.add_argument("--image", required=True, metavar="IMAGE", help="as pushed by launch/cloudbuild.yaml")
    flags = parser.parse_args()
    metadata = json.loads((Path(__file__).parent / "metadata.json").read_text(encoding="utf-8"))
    spec = template_spec(flags.image, metadata)
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
