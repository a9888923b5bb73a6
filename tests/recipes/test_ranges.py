"""Numbers outside of what their fields declare are refused in one line with the full name."""

import math
from dataclasses import dataclass, field
from typing import Annotated

import pytest
from annotated_types import Ge, Gt, Interval

from recipes.errors import parse_words
from recipes.ranges import check_ranges


@dataclass(frozen=True)
class Inner:
    rate: Annotated[float, Gt(0)] = 0.1
    discount: Annotated[float, Interval(ge=0, lt=1)] = 0.5


@dataclass(frozen=True)
class Options:
    count: Annotated[int, Interval(ge=1, le=65_536)] = 1
    wait_s: Annotated[float, Ge(0)] | None = None
    free: float = 0.0
    inner: Inner = field(default_factory=Inner)


REFUSED = [
    (Options(count=0), "count must lie between 1 and 65536, got 0"),
    (Options(count=65_537), "count must lie between 1 and 65536, got 65537"),
    (Options(count=10**400), f"count must lie between 1 and 65536, got {10**400}"),
    (Options(wait_s=-0.5), "wait_s must not be negative, got -0.5"),
    (Options(wait_s=math.nan), "wait_s must be a finite number, got nan"),
    (Options(free=math.inf), "free must be a finite number, got inf"),
    (Options(inner=Inner(rate=0.0)), "inner.rate must be positive, got 0.0"),
    (Options(inner=Inner(-math.inf)), "inner.rate must be a finite number, got -inf"),
    (Options(inner=Inner(discount=1.0)), "inner.discount must lie in [0, 1), got 1.0"),
]


@pytest.mark.parametrize(("options", "said"), REFUSED)
def test_a_number_that_its_field_does_not_accept_is_refused_by_its_full_name(options, said):
    with pytest.raises(ValueError, match="must") as refusal:
        check_ranges(options)
    assert str(refusal.value) == said


@pytest.mark.parametrize("options", [Options(), Options(count=65_536, wait_s=0.0)])
def test_the_limits_themselves_are_accepted(options):
    check_ranges(options)


def test_on_the_command_line_it_is_one_line_that_points_to_help():
    with pytest.raises(ValueError, match="count") as refusal:
        parse_words(lambda: Options(count=0), prog="some.py")
    assert str(refusal.value) == "count must lie between 1 and 65536, got 0; see some.py --help"
