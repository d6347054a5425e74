"""What the data modules of images share."""

import torch

from lit_gen.data.images.module import stratified


def test_stratified_holds_out_the_last_of_each_class():
    labels = torch.tensor([0, 1, 0, 1, 0, 1, 1])
    train, held_out = stratified(labels, 3)
    assert held_out.tolist() == [2, 4, 6]
    assert train.tolist() == [0, 1, 3, 5]
    assert stratified(labels, 0)[1].tolist() == []
