"""``quantize`` and ``build bert --int8``: from a source to a bundle that also computes in int8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.specs import Precision
from model_bundle.cli.main import main
from model_bundle.runtime.golden import Golden
from model_bundle.text.sample_data import sample_texts
from tests.conftest import DATA_DIR


def test_the_parts_of_the_sample_share_no_document() -> None:
    texts = sample_texts(3)
    documents = texts[:240]
    assert len(set(documents)) == 240
    assert len(texts) % 3 == 0
    assert sum(len(text.split()) > 300 for text in texts[::3]) >= 5
    for part in range(3):
        assert not [
            text for text in texts[part::3] for at, d in enumerate(documents) if at % 3 != part and d in text
        ]


@pytest.mark.slow
# The source has random weights, of which int8 loses more than it does of trained ones.
def test_one_command_builds_and_quantizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, output = DATA_DIR / "tiny_bert", tmp_path / "int8"
    expected = Path(tmp_path / "old.npy")
    texts = tmp_path / "texts.txt"
    texts.write_text("".join(f"{text}\n" for text in sample_texts(3)[:36]))
    plain = tmp_path / "plain"
    assert main(["build", "bert", str(source), "--output", str(plain)]) == 0
    from model_bundle.inference.encoder import Encoder

    np.save(
        expected, Encoder(plain, num_threads=1, max_batch_tokens=512).encode(texts.read_text().splitlines())
    )
    flags = ["--texts", str(texts), "--expected", str(expected), "--int8", "--output", str(output)]
    assert main(["build", "bert", str(source), *flags]) == 0
    printed = capsys.readouterr().out
    assert f"built: {output}" in printed
    assert "int8: cosine 0.99" in printed
    bundle = ModelBundle.open(output)
    assert bundle.manifest.signature_of(Precision.INT8) == "serving_int8"
    assert Golden.read(bundle).reference is not None  # kept through both steps
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
