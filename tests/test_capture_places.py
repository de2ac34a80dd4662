"""Places: each pattern where its labels say, whatever the order of axes, and little at a time."""

from itertools import product

import numpy as np
import pytest
import xarray as xr
from planted import capture
from xarray.backends import BackendArray
from xarray.core import indexing

from patchclamp.analyses.patterns import checked_capture
from patchclamp.analyses.places import at_place, check_memory, places, size
from patchclamp.registry.errors import AnalysisError, UndefinedError


@pytest.fixture(scope="module")
def data():
    first = capture((0.0, 0.0), templates=4)
    data = xr.concat([first, (first * 3).assign_coords(position=[0])], "position", coords="minimal")
    heads = xr.concat([data, data + 1, data + 2], "head", coords="minimal")
    heads = heads.assign_coords(head=[5, 2, 7])
    return heads.rename(unit="channel")


class Counted(BackendArray):
    """An array in a pretended file, which remembers how much of it was read at once."""

    def __init__(self, values):
        self.values, self.reads = values, []
        self.shape, self.dtype = values.shape, values.dtype

    def __getitem__(self, key):
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._read
        )

    def _read(self, key):
        found = self.values
        for axis, part in reversed(list(enumerate(key))):
            found = found[(slice(None),) * axis + (part,)]
        self.reads.append(found.nbytes)
        return found


def lazily(data):
    activation = data["activation"].variable
    file = Counted(activation.values)
    lazy = xr.Variable(activation.dims, indexing.LazilyIndexedArray(file))
    return data.assign(activation=lazy), file


def test_every_place_has_the_patterns_of_its_labels(data):
    turned = data.transpose("channel", "position", "stimulus", "head", "layer")
    found = list(places(checked_capture(turned), rows=("stimulus",), memory=1 << 20))
    expected = list(product([3, 5], [5, 2, 7], [-1, 0]))
    assert [tuple(place.at.values()) for place in found] == expected
    assert found[1].words == "layer 3, head 5, position 0"
    for place in found:
        patterns = data["activation"].sortby("stimulus").sel(place.at)
        np.testing.assert_array_equal(place[:, :], patterns.transpose("stimulus", "channel"))
        np.testing.assert_array_equal(place[:, 3:5], patterns.isel(channel=slice(3, 5)))
        assert place.shape == (12, 16)


def test_layers_can_be_rows(data):
    found = list(places(checked_capture(data), rows=("stimulus", "layer"), memory=1 << 20))
    assert [tuple(place.at) for place in found] == [("head", "position")] * 6
    patterns = data["activation"].sortby("stimulus").sel(found[3].at)
    rows = patterns.transpose("stimulus", "layer", "channel").values.reshape(24, 16)
    np.testing.assert_array_equal(found[3][:, :], rows)


@pytest.mark.parametrize(
    ("memory", "reads", "largest"),
    [(1 << 20, 1, 18_432), (40_000, 2, 9_216), (15_000, 6, 3_072), (10_000, 12, 1_536)],
)
def test_as_much_is_read_at_once_as_fits(data, memory, reads, largest):
    """All of it, or a layer, a head or a position."""
    lazy, file = lazily(data)
    for place in places(checked_capture(lazy), rows=("stimulus",), memory=memory):
        place[:, :4]
    assert (len(file.reads), max(file.reads)) == (reads, largest)
    assert largest <= memory // 4


def test_where_a_place_does_not_fit_its_units_are_read_when_asked_for(data):
    lazy, file = lazily(data)
    for place in places(checked_capture(lazy), rows=("stimulus",), memory=1_000):
        place[:, :4]
    assert file.reads == [12 * 4 * 8] * 12


def test_errors_say_where_and_who(data):
    place = next(places(checked_capture(data), rows=("stimulus",), memory=1 << 20))

    def undefined():
        raise UndefinedError("no pattern", where=tuple(range(7)))

    def refused():
        raise AnalysisError("no")

    ids = [f"s{i}" for i in range(9)]
    text = r"at layer 3, head 5, position -1: no pattern: stimuli 's0', .*'s4' and 2 more"
    with pytest.raises(UndefinedError, match=text):
        at_place(place, ids, undefined)
    with pytest.raises(AnalysisError, match=r"^at layer 3, head 5, position -1: no$"):
        at_place(place, ids, refused)
    with pytest.raises(AnalysisError, match=r"^no$"):
        at_place(np.zeros(3), ids, refused)


def test_what_does_not_fit_is_refused(data):
    place = next(places(checked_capture(data), rows=("stimulus",), memory=1 << 20))
    check_memory(place, 0, 1 << 20)
    text = r"reading out 30 rows of 16 units needs 11.2KiB, and run.budget.memory allows 1KiB"
    with pytest.raises(AnalysisError, match=text):
        check_memory(place, 18, 1 << 10)


def test_sizes_in_words():
    assert [size(n) for n in (0, 1023, 1024, 5 << 40)] == ["0B", "1.02e+03B", "1KiB", "5TiB"]
