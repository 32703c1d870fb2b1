"""Numbers of bytes, as they are shown."""

from __future__ import annotations

import pytest

from foveate.sizes import in_words


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0.0 MiB"),
        (2**20, "1.0 MiB"),
        (600 * 2**20, "600.0 MiB"),
        (2**30, "1.0 GiB"),
        (1.5 * 2**40, "1,536.0 GiB"),
    ],
)
def test_bytes_in_words(size, words):
    assert in_words(size) == words
