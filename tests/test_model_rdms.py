"""Tables of what model RDMs say of two codes, against pair by pair."""

from itertools import combinations

import numpy as np
import pytest

from patchclamp.analyses.model_rdms import (
    category_table,
    difference_table,
    interaction_table,
    joint_codes,
    ordinal_table,
    ratings_table,
)
from patchclamp.analyses.pairs import pairs_of
from patchclamp.registry.errors import AnalysisError


def test_tables_are_symmetric_and_say_what_they_should():
    words, numbers = ["b", "a", "b", "c"], ["1", "2.5", "-3", "1"]
    steps = [2, 0, 2, 1]
    for table, value in (
        (category_table(words), lambda i, j: float(words[i] != words[j])),
        (ordinal_table(words, "acb"), lambda i, j: abs(steps[i] - steps[j])),
        (difference_table(numbers, "n"), lambda i, j: abs(float(numbers[i]) - float(numbers[j]))),
    ):  # fmt: skip
        np.testing.assert_array_equal(table, table.T)
        np.testing.assert_array_equal(np.diag(table), 0)
        for i, j in combinations(range(4), 2):
            assert table[i, j] == value(i, j)


def test_an_interaction_has_mean_zero_against_each_factor_of_a_balanced_design():
    rows = [(a, b) for a in "pq" for b in "rs" for _ in range(3)]
    codes = joint_codes(
        {c: np.array(["pqrs".index(row[i]) for row in rows]) for i, c in enumerate("ab")}
    )
    first = np.unique(codes, return_index=True)[1]
    one, other = (category_table([rows[k][i] for k in first]) for i in range(2))
    product = pairs_of(interaction_table(one, other, codes), codes)
    for table in (one, other):
        model = pairs_of(table, codes)
        assert abs(np.corrcoef(product, model)[0, 1]) < 0.15
        assert abs(np.corrcoef(pairs_of(one * other, codes), model)[0, 1]) > 0.5


def test_an_item_is_not_unlike_itself_unless_it_was_rated_so():
    table = ratings_table(["a", "b", "a"], [("a", "b")], [0.5], leave_out=False)
    assert table[0, 2] == 0
    rated = ratings_table(["a", "b"], [("a", "b"), ("a", "a")], [0.5, 0.1], leave_out=False)
    assert rated[0, 0] == 0.1


@pytest.mark.parametrize("value", ["x", "", "nan", "inf"])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(AnalysisError, match="which is no number; for words give 'ratings'"):
        difference_table(["1", value], "n")
