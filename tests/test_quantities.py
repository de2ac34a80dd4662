"""Quantities: what is read, what is refused and in which words, and one spelling of each value."""

import re
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, ValidationError

from patchclamp.specs.quantities import (
    Count,
    Duration,
    Size,
    parse_count,
    parse_duration,
    parse_percent,
    parse_size,
    percentage,
    write_duration,
    write_percent,
    write_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("20m", 1200), ("90s", 90), ("1m30s", 90), ("1h30m", 5400), ("1d12h", 129600),
     ("0.5s", 0.5), ("1.5h", 5400), ("0s", 0), ("36500d", 3153600000)],
)  # fmt: skip
def test_durations_are_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds
    assert type(parse_duration(text)) is float


@pytest.mark.parametrize(
    ("text", "size"),
    [("1B", 1), ("1kB", 1000), ("1KiB", 1024), ("1.5kB", 1500), ("3MB", 3 * 10**6),
     ("1MiB", 2**20), ("2GB", 2 * 10**9), ("8GiB", 2**33), ("1TB", 10**12), ("1TiB", 2**40),
     ("0.1GB", 10**8), ("0B", 0)],
)  # fmt: skip
def test_sizes_are_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size
    assert type(parse_size(text)) is int


@pytest.mark.parametrize(
    ("given", "count"),
    [("50M", 5 * 10**7), ("1.5k", 1500), ("2G", 2 * 10**9), ("300", 300), (300, 300), (0, 0),
     (2**63 - 1, 2**63 - 1)],
)  # fmt: skip
def test_counts_are_whole_numbers(given: object, count: int) -> None:
    assert parse_count(given) == count
    assert type(parse_count(given)) is int


@pytest.mark.parametrize(
    ("text", "share"), [("25%", 0.25), ("0%", 0), ("100%", 1), ("12.5%", 0.125), ("33.3%", 0.333)]
)
def test_percentages_are_shares(text: str, share: float) -> None:
    assert parse_percent(text) == share


DURATION = "expected a duration such as 20m; got "
SIZE = "expected a size such as 8GiB; got "
COUNT = "expected a count such as 50M; got "
DIGITS = "; a number has at most 19 digits before its point and 6 after it"
NOT_SHARE = "a percentage is written such as 25%; got "
BARE_SHARE = "a percentage needs a percent sign, such as 25%; got "
TIMES = " (units: s, m, h, d)"
BYTES = " (units: B, kB, KiB, MB, MiB, GB, GiB, TB, TiB)"
HUGE = "9" * 500


@pytest.mark.parametrize(
    ("parse", "given", "message"),
    [
        (parse_duration, 20, "a duration needs a unit, such as 20m; got 20"),
        (parse_duration, "20", "a duration needs a unit, such as 20m; got '20'"),
        (parse_duration, float("nan"), "a duration needs a unit, such as 20m; got nan"),
        (parse_duration, float("inf"), "a duration needs a unit, such as 20m; got inf"),
        (parse_duration, -5, "a duration needs a unit, such as 20m; got -5"),
        (parse_duration, "-5m", "a duration is not negative; got '-5m'"),
        (parse_duration, "20M", f"{DURATION}'20M'{TIMES}; did you mean '20m'?"),
        (parse_duration, "20 m", f"{DURATION}'20 m'{TIMES}; did you mean '20m'?"),
        (parse_duration, "1h 30 Min", f"{DURATION}'1h 30 Min'{TIMES}; did you mean '1h30m'?"),
        (parse_duration, "2 weeks", f"{DURATION}'2 weeks'{TIMES}"),
        (parse_duration, "1,5h", f"{DURATION}'1,5h'{TIMES}"),
        (parse_duration, "1h30", f"{DURATION}'1h30'{TIMES}"),
        (parse_duration, "nan", f"{DURATION}'nan'{TIMES}"),
        (parse_duration, "infs", f"{DURATION}'infs'{TIMES}"),
        (parse_duration, "1e3s", f"{DURATION}'1e3s'{TIMES}"),
        (parse_duration, "٣m", f"{DURATION}'٣m'{TIMES}"),
        (parse_duration, "", f"{DURATION}''{TIMES}"),
        (parse_duration, "0.0000001s", f"{DURATION}'0.0000001s'{DIGITS}"),
        (parse_duration, True, f"{DURATION}true"),
        (parse_duration, None, f"{DURATION}nothing"),
        (parse_duration, [1], f"{DURATION}[1]"),
        (parse_duration, "30m1h", "a duration names each unit once, the largest first, such as "
         "1h30m; got '30m1h'"),
        (parse_duration, "1h1h", "a duration names each unit once"),
        (parse_duration, "36501d", "a duration is at most 36500d; got '36501d'"),
        (parse_duration, HUGE + "m", f"{DURATION}'{'9' * 39}..., which has 501 characters"),
        (parse_size, 8, "a size needs a unit, such as 8GiB; got 8"),
        (parse_size, "8.5", "a size needs a unit, such as 8GiB; got '8.5'"),
        (parse_size, "8gib", f"{SIZE}'8gib'{BYTES}; did you mean '8GiB'?"),
        (parse_size, "8gb", f"{SIZE}'8gb'{BYTES}; did you mean '8GB'?"),
        (parse_size, "8KB", f"{SIZE}'8KB'{BYTES}; did you mean '8kB'?"),
        (parse_size, "8G", f"{SIZE}'8G'{BYTES}; did you mean '8GiB'?"),
        (parse_size, "8 Ki", f"{SIZE}'8 Ki'{BYTES}; did you mean '8KiB'?"),
        (parse_size, "80 bytes", f"{SIZE}'80 bytes'{BYTES}; did you mean '80B'?"),
        (parse_size, "8%", f"{SIZE}'8%'{BYTES}"),
        (parse_size, "0.5B", "'0.5B' is not a whole number of bytes"),
        (parse_size, "1GiB2MiB", "a size has one number and one unit; got '1GiB2MiB'"),
        (parse_size, "-1B", "a size is not negative; got '-1B'"),
        (parse_size, "8388608TiB", "a size is at most 2^63 - 1; got '8388608TiB'"),
        (parse_count, "50m", f"{COUNT}'50m' (units: k, M, G); did you mean '50M'?"),
        (parse_count, "50K", f"{COUNT}'50K' (units: k, M, G); did you mean '50k'?"),
        (parse_count, "1bn", f"{COUNT}'1bn' (units: k, M, G); did you mean '1G'?"),
        (parse_count, "1,000", f"{COUNT}'1,000' (units: k, M, G); did you mean '1000'?"),
        (parse_count, "1_000k", f"{COUNT}'1_000k' (units: k, M, G); did you mean '1000k'?"),
        (parse_count, "some", f"{COUNT}'some' (units: k, M, G)"),
        (parse_count, "1.2345k", "'1.2345k' is not a whole number"),
        (parse_count, "1" * 20, f"{COUNT}'{'1' * 20}'{DIGITS}"),
        (parse_count, "2k3", "a count has one number and one unit; got '2k3'"),
        (parse_count, "-3k", "a count is not negative; got '-3k'"),
        (parse_count, -3, "a count is a whole number from 0 to 2^63 - 1; got -3"),
        (parse_count, 2**63, "a count is a whole number from 0 to 2^63 - 1; got 922337203685"),
        (parse_count, 10**400, "a count is a whole number from 0 to 2^63 - 1; got a number"),
        (parse_count, "9999999999G", "a count is at most 2^63 - 1; got '9999999999G'"),
        (parse_count, 3.0, f"{COUNT}3.0"),
        (parse_count, True, f"{COUNT}true"),
        (parse_percent, 25, f"{BARE_SHARE}25"),
        (parse_percent, "0.25", f"{BARE_SHARE}'0.25'"),
        (parse_percent, "-5%", f"{NOT_SHARE}'-5%'"),
        (parse_percent, "%", f"{NOT_SHARE}'%'"),
        (parse_percent, "25 %", f"{NOT_SHARE}'25 %'"),
        (parse_percent, "nan%", f"{NOT_SHARE}'nan%'"),
        (parse_percent, None, f"{NOT_SHARE}nothing"),
        (parse_percent, "100.1%", "a percentage is at most 100%; got '100.1%'"),
    ],
)  # fmt: skip
def test_what_is_no_quantity_is_refused(parse: Any, given: object, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        parse(given)
    assert str(caught.value).startswith(message)
    assert "did you mean" in message or "did you mean" not in str(caught.value)


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        (write_duration, 90, "90s"),
        (write_duration, 5400, "90m"),
        (write_duration, 86400, "1d"),
        (write_duration, 0, "0s"),
        (write_duration, 0.25, "0.25s"),
        (write_duration, 60.5, "60.5s"),
        (write_size, 1024, "1KiB"),
        (write_size, 1000, "1kB"),
        (write_size, 1024000, "1024kB"),
        (write_size, 0, "0B"),
        (write_size, 2**63 - 1, "9223372036854775807B"),
        (write_percent, Fraction(50), "50%"),
        (write_percent, Fraction(0), "0%"),
        (write_percent, Fraction("33.3"), "33.3%"),
    ],
)
def test_each_value_has_one_spelling(write: Any, value: float, text: str) -> None:
    assert write(value) == text


@given(st.integers(0, 36500 * 86400 * 10**6))
def test_durations_read_back_to_the_microsecond(microseconds: int) -> None:
    seconds = float(Fraction(microseconds, 10**6))
    text = write_duration(seconds)
    assert parse_duration(text) == seconds
    assert write_duration(parse_duration(text)) == text


@given(st.one_of(st.integers(0, 2**63 - 1), st.integers(0, 2**13).map(lambda n: n * 2**40)))
def test_sizes_read_back(size: int) -> None:
    assert parse_size(write_size(size)) == size


@given(st.integers(0, 100 * 10**6))
def test_percentages_read_back(millionths: int) -> None:
    share = Fraction(millionths, 10**6)
    assert percentage(write_percent(share)) == share


@given(st.one_of(st.text(), st.text("0123456789.smhdkMGiB%- ", max_size=45), st.floats()))
def test_anything_is_a_quantity_or_refused(given: object) -> None:
    for parse in (parse_duration, parse_size, parse_count, parse_percent):
        try:
            value = parse(given)
        except ValueError:
            continue
        assert 0 <= value < 2**63


class Budget(BaseModel):
    """A model with a field of each sort."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    time: Duration
    disk: Size
    tokens: Count


def test_fields_hold_numbers_and_are_written_in_one_form() -> None:
    one = Budget(time="1m30s", disk="1024MiB", tokens="50M")  # type: ignore[arg-type]
    other = Budget(time="90s", disk="1GiB", tokens=50_000_000)  # type: ignore[arg-type]
    assert (one.time, one.disk, one.tokens) == (90.0, 2**30, 50_000_000)
    written = {"time": "90s", "disk": "1GiB", "tokens": 50_000_000}
    assert one.model_dump(mode="json") == other.model_dump(mode="json") == written
    assert Budget.model_validate(one.model_dump()) == one


def test_fields_refuse_in_the_same_words() -> None:
    with pytest.raises(ValidationError, match="a duration needs a unit, such as 20m; got 20"):
        Budget(time=20, disk="1B", tokens=1)  # type: ignore[arg-type]


def test_the_schema_has_patterns_that_agree_with_the_parsers() -> None:
    properties = Budget.model_json_schema()["properties"]
    text = {"time": properties["time"], "disk": properties["disk"]}
    assert {p["type"] for p in text.values()} == {"string"}
    for good, bad, name in (("1h30m", "90", "time"), ("8GiB", "8gib", "disk")):
        assert re.search(text[name]["pattern"], good)
        assert not re.search(text[name]["pattern"], bad)
    number, short = properties["tokens"]["anyOf"]
    assert (number["type"], number["minimum"]) == ("integer", 0)
    assert re.search(short["pattern"], "50M")
    assert not re.search(short["pattern"], "50m")
