"""The cache folder when it cannot be written."""

import errno
import os
import sys

import pytest
from support.texts import TEXT, put

from lit_gen.core.cache import cache_folder, cached
from lit_gen.core.errors import UserError
from lit_gen.data.text.module import TextCorpus


@pytest.mark.parametrize("place", ["file", "/proc/nope"])
def test_a_cache_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch, place):
    text = put(tmp_path, "a.txt", TEXT)
    if place == "file":
        place = put(tmp_path, "file", "")
    elif sys.platform != "linux":
        pytest.skip("needs /proc")
    monkeypatch.setenv("LIT_GEN_CACHE", place)
    message = rf"the cache folder {place} cannot be written \([A-Z].*\); set LIT_GEN_CACHE to one that can"
    for make in (lambda: TextCorpus("grammar"), lambda: TextCorpus(text).prepare_data()):
        with pytest.raises(UserError, match=message):
            make()
    with pytest.raises(UserError, match=message):  # also where the scan needs no cache
        TextCorpus("embedded", "byte").prepare_data()


def test_a_full_disk_is_named_and_other_errors_are_not_mistaken_for_it(tmp_path):
    def fails(number):
        def write(path):
            raise OSError(number, os.strerror(number))

        return write

    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\); set LIT_GEN_CACHE"):
        cached("x", fails(errno.ENOSPC))
    with pytest.raises(OSError, match="No such file"):
        cached("x", fails(errno.ENOENT))
    assert not list(cache_folder().iterdir())
