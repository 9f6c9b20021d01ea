"""The handler for ``RunInference`` refuses the texts that the job makes dead letters of."""

from __future__ import annotations

from pathlib import Path

import pytest

from beam_jobs.pipeline.encode.run_inference import BundleModelHandler
from beam_jobs.pipeline.settings import EncodeSettings
from model_bundle.errors import ModelRunError


def test_a_text_without_a_word_is_no_vector_of_zeros(tiny_elmo: Path) -> None:
    handler = BundleModelHandler(EncodeSettings.resolve(str(tiny_elmo)))
    model = handler.load_model()
    (found,) = handler.run_inference(["a cat"], model)
    assert abs(found.inference).sum() > 0
    with pytest.raises(ModelRunError, match=r"Text 1 of a batch of 2 failed \(no_words\)"):
        list(handler.run_inference(["a cat", " "], model))
