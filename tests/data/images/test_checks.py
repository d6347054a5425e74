"""What is wrong with a data set of the user's own."""

import pytest
import torch

from lit_gen.core.errors import UserError
from lit_gen.data.images.checks import check, check_shape
from lit_gen.data.images.loaders import ImageSet

IMAGES = torch.zeros(4, 1, 6, 5, dtype=torch.uint8)
LABELS = torch.arange(4)


class Mine:
    shape, num_classes = (1, 6, 5), None


class Points:
    shape, num_classes = (2, 1, 1), None


class Labelled(Mine):
    num_classes = 3


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (Mine, ImageSet(IMAGES)),
        (Mine, ImageSet(IMAGES, LABELS)),
        (Mine, ImageSet(torch.zeros(0))),
        (Labelled, ImageSet(IMAGES, LABELS % 3)),
        (Labelled, ImageSet(torch.zeros(0, dtype=torch.uint8))),
        (Points, ImageSet(torch.zeros(4, 2, 1, 1))),
    ],
    ids=["images", "labels", "none", "classes", "no classes", "points"],
)
def test_what_is_right(data, found):
    check(found, "val", data())


@pytest.mark.parametrize(
    ("data", "found", "told"),
    [
        (Mine, None, r"load\('val'\) of .*Mine \(.*, line \d+\) returned None, .*ImageSet is expected"),
        (Mine, IMAGES, r"returned uint8 \(4, 1, 6, 5\), .*ImageSet is expected"),
        (Mine, (IMAGES, LABELS), "returned a tuple, .*ImageSet is expected"),
        (Mine, ImageSet(IMAGES / 255), r"the val images of .* are float32 \(4, 1, 6, 5\), uint8 \(N, 1, 6, 5\)"),
        (Mine, ImageSet(IMAGES.numpy()), r"are an ndarray uint8 \(4, 1, 6, 5\), uint8 \(N, 1, 6, 5\)"),
        (Mine, ImageSet(IMAGES.mT), r"are uint8 \(4, 1, 5, 6\), uint8 \(N, 1, 6, 5\) images with levels of 0 to 255"),
        (Points, ImageSet(torch.zeros(4, 2)), r"are float32 \(4, 2\), float32 \(N, 2, 1, 1\) points are expected"),
        (Mine, ImageSet(IMAGES, LABELS.int()), r"the val labels of .* are int32 \(4,\), int64 \(4,\) or None is"),
        (Mine, ImageSet(IMAGES, LABELS[:3]), r"are int64 \(3,\), int64 \(4,\) or None is expected"),
        (Labelled, ImageSet(IMAGES), "has num_classes 3, but its val images have no labels"),
        (
            Labelled,
            ImageSet(IMAGES, LABELS),
            "the label 3 was found in val of .*, 0 to 2 are expected, as it has num_cl",
        ),
        (Labelled, ImageSet(IMAGES, LABELS - 2), "the label -2 was found"),
    ],
    ids=range(12),
)
def test_what_is_refused(data, found, told):
    with pytest.raises(UserError, match=f"^data: .*{told}"):
        check(found, "val", data())


@pytest.mark.parametrize("shape", [None, (28, 28), (1, 28.0, 28), (1, 0, 28), "123"], ids=str)
def test_shapes(shape):
    data = Mine()
    check_shape(data)
    data.shape = shape
    with pytest.raises(UserError, match=r"^data: .*Mine \(.*\) has .*, \(channels, height, width\) is expected"):
        check_shape(data)
