"""The application's own sections of params.yaml: what no stage of training depends on."""

import zoneinfo
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from training.stage.params import (
    APPLICATION_SECTIONS,
    Count,
    CountOrNone,
    Params,
    Positive,
    Rate,
    Share,
    read_params,
    read_sections,
    section,
    section_kinds,
)


def _cron_line(text: str) -> str:
    if text:
        from prefect.client.schemas.schedules import CronSchedule

        try:
            CronSchedule(cron=text)
        except ValueError:
            raise ValueError('must be a cron line such as "0 2 * * 0", or empty') from None
    return text


def _time_zone(text: str) -> str:
    try:
        zoneinfo.ZoneInfo(text)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        raise ValueError("must be a time zone such as Europe/Berlin") from None
    return text


CronLine = Annotated[str, AfterValidator(_cron_line)]
TimeZone = Annotated[str, AfterValidator(_time_zone)]


@section
class Candidate:
    """What a model must reach on its test pairs to be a challenger; "known" products train, "new" ones never do.

    The floors hold for every model. Where there is a champion, the rest compares the two on the held-out pairs that
    both have measured.
    """

    min_auc: Share = 0.85
    """Known products."""
    min_new_auc: Share = 0.6
    """New products, where the split has any."""
    max_eer: Share = 0.25
    """Known products."""
    min_share_decided: Share = 0.05
    """Known products, at the thresholds that the team's rates set."""
    max_share_lost: Share = 0.05
    """How much smaller than the champion's the share decided may be, at the lower bound of their difference."""
    confidence: Rate = 0.95
    """Of that bound (one-sided) and of the error rates' intervals."""
    bootstrap: Count = 2000
    """Draws of products behind the bound and the intervals."""
    min_photos: CountOrNone = 30
    """Held-out photos that both models must have measured, to be compared at all."""
    min_category_photos: CountOrNone = 30
    """Of those, photos of a category that is compared by itself."""
    max_category_lost: Share = 0.15
    """How much smaller than the champion's the share decided rightly may be in such a category."""
    max_slowdown: Positive = 1.5
    """How much longer than the champion encoding may take, both measured in turn in one process."""


@section
class Audit:
    """What `photoproof audit` gives to people, and what it tells them."""

    sample_share: Share = 0.01
    """Share of all verdicts, drawn by a hash of model and photo, that a person looks at too: for the live rates."""
    confidence: Rate = 0.95
    """Of the live rates' intervals."""
    duplicate_distance: Annotated[int, Field(ge=0, le=64)] = 4
    """Bits of 64 in which the perceptual hashes of two photos may differ for them to count as one picture."""
    shown: CountOrNone = 48
    """Pairs on each contact sheet of the report, at most; 0: all."""


@section
class Schedules:
    """When `photoproof flows` starts each flow by itself, as cron lines; an empty one: only when asked."""

    retrain: CronLine = ""
    deploy: CronLine = ""
    """`photoproof deploy --watch` follows MLflow within seconds; this is for those who want an hour of the day."""
    shadow: CronLine = ""
    audit: CronLine = ""
    timezone: TimeZone = "UTC"


@dataclass(frozen=True)
class ApplicationParams:
    """The application's sections."""

    candidate: Candidate = field(default_factory=Candidate)
    audit: Audit = field(default_factory=Audit)
    schedules: Schedules = field(default_factory=Schedules)


def read_application_params(path: Path) -> ApplicationParams:
    """Read the application's sections of params.yaml; what it leaves out has its default. Raises BadInput."""
    kinds = section_kinds(ApplicationParams())
    assert set(kinds) == set(APPLICATION_SECTIONS)
    return ApplicationParams(**read_sections(path, kinds, tuple(section_kinds(Params()))))


def check_params(path: Path) -> None:
    """Read all of params.yaml, so that what is wrong anywhere in it is said before anything begins. Raises BadInput."""
    read_params(path)
    read_application_params(path)
