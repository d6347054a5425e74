"""Features of blocks."""

import torch
from support.extractors import pictures

from lit_gen.core.modes import extract_block
from lit_gen.evaluation.extractors.load import load_extractor
from lit_gen.evaluation.features import extract


def test_a_block_is_padded_and_its_rows_do_not_feel_it():
    extractor = load_extractor("lenet-mnist")
    digits = pictures(64, side=28)
    whole = extract_block(extractor, digits)
    for n in (1, 7, 63):
        assert torch.equal(extract_block(extractor, digits[:n]).features, whole.features[:n])
    assert torch.equal(extract(extractor, torch.cat([digits, digits[:5]])).features[64:], whole.features[:5])
