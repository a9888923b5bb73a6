"""Options whose numbers are none."""

import math
from dataclasses import dataclass, field

import pytest

from recipes.errors import parse_or_fail


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1


@dataclass(frozen=True)
class Options:
    wait_s: float | None = None
    inner: Inner = field(default_factory=Inner)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (Options(wait_s=math.nan), "wait_s must be a finite number, got nan"),
        (Options(inner=Inner(-math.inf)), "inner.rate must be a finite number, got -inf"),
    ],
)
def test_a_number_that_is_none_or_endless_is_one_line(capsys, options, said):
    with pytest.raises(SystemExit) as left:
        parse_or_fail(lambda: options, prog="some.py")
    assert left.value.code == 2
    assert capsys.readouterr().err == f"error: {said}; see some.py --help\n"


def test_others_are_given_as_they_are():
    options = Options(wait_s=3.0)
    assert parse_or_fail(lambda: options, prog="some.py") is options
