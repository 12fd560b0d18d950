"""Rules, each with the number that it was held against, and the decision that they make."""

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

ROUNDING = 1e-6
"""Tags have six digits."""

BETTER, AS_GOOD, FIRST, REFUSED = "better", "as good and newer", "first", "refused"
"""How a version stands: against the champion, or without one."""


@dataclass(frozen=True)
class Rule:
    """A rule and the number that it was held against; `limit` says it in words, such as "at least 0.9"."""

    name: str
    value: float | None
    limit: str
    passed: bool

    def __str__(self) -> str:
        return f"{self.name} {self.value_text} ({self.limit})"

    @property
    def value_text(self) -> str:
        """The number as people read it."""
        if self.value is None:
            return "not measured"
        return f"{self.value:.1e}" if 0 < abs(self.value) < 5e-4 else f"{self.value:.3f}".removesuffix(".000")


@dataclass(frozen=True)
class CandidateDecision:
    """How a version stands, by which rules, and what was left out and why."""

    version: int
    model_id: str
    standing: str
    """BETTER, AS_GOOD, FIRST or REFUSED."""
    rules: Sequence[Rule]
    notes: Sequence[str] = ()
    champion: int | None = None
    """The champion that it was held against."""
    basis: str = ""
    """What it depends on: the version, the champion of the time and the limits; empty in a report alone."""

    @property
    def accepted(self) -> bool:
        """Whether it may challenge the champion."""
        return self.standing != REFUSED

    def __str__(self) -> str:
        if self.accepted:
            standing = f"{self.standing}, against champion {self.champion}" if self.champion else "good enough"
            return f"version {self.version} is {standing}: " + ", ".join(map(str, self.rules))
        broken = [str(rule) for rule in self.rules if not rule.passed]
        return f"version {self.version} is not good enough: " + ", ".join(broken)


def at_least(name: str, value: float | None, limit: float) -> Rule:
    """A rule that a number must reach."""
    passed = value is not None and not math.isnan(value) and value >= limit - ROUNDING
    return Rule(name, value, f"at least {limit:g}", passed)


def at_most(name: str, value: float | None, limit: float) -> Rule:
    """A rule that a number must not exceed."""
    return Rule(name, value, f"at most {limit:g}", value is not None and value <= limit + ROUNDING)


def decision_as_json(decision: CandidateDecision) -> str:
    """The decision for programs."""
    return json.dumps(dataclasses.asdict(decision) | {"accepted": decision.accepted}, indent=1)
