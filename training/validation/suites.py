"""Great Expectations, run over one table in memory, with Data Docs as its only trace on disk."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from training.validation.data_docs import write_data_docs

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")  # before the import below, which reads it

import great_expectations as gx
from great_expectations.core.expectation_validation_result import ExpectationValidationResult
from great_expectations.core.run_identifier import RunIdentifier
from great_expectations.data_context.types.base import (
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)

from training.validation.expectations import Promise, Suite

KEY = ("role", "picture_id")


@dataclass(frozen=True)
class BrokenPromise:
    """A promise that the table or some rows break, and the (role, picture_id) of each of these rows."""

    promise: Promise
    rows: Sequence[tuple[str, str]]
    """Empty where the promise is about the table as a whole."""
    distance: float | None = None
    """How far a distribution is from its reference, where the promise is about that."""

    def __str__(self) -> str:
        if self.distance is not None:
            return f"{self.promise.sentence} Not so: {self.distance:.1%}"
        if not self.rows:
            return self.promise.sentence
        named = ", ".join(f"{role} {picture_id}" for role, picture_id in self.rows[:3])
        more = f" and {len(self.rows) - 3:,} more" if len(self.rows) > 3 else ""
        return f"{self.promise.sentence} Not so: {named}{more}"


Check = Callable[[pd.DataFrame, Sequence[Suite]], list[BrokenPromise]]


@contextmanager
def checking(data_docs: Path, version: str) -> Iterator[Check]:
    """A function that checks pictures by suites; at the end of the block Data Docs of all checks go to `data_docs`.

    It returns the broken promises in the order of the suites, those included that all but a few rows keep. `version`
    names the data in Data Docs.
    """
    context = gx.get_context(
        mode="ephemeral",
        project_config=DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
            progress_bars=ProgressBarsConfig(globally=False),
            analytics_enabled=False,
        ),
    )
    source = context.data_sources.add_pandas("data")
    batch = source.add_dataframe_asset("manifest").add_batch_definition_whole_dataframe("pictures")
    run_id = RunIdentifier(run_name=version)

    def check(pictures: pd.DataFrame, suites: Sequence[Suite]) -> list[BrokenPromise]:
        key = [column for column in KEY if column in pictures]
        broken = []
        for suite in suites:
            expectations = [promise.expectation for promise in suite.promises]
            definition = gx.ValidationDefinition(
                name=suite.name,
                data=batch,
                suite=context.suites.add(gx.ExpectationSuite(name=suite.name, expectations=expectations)),
            )
            results = context.validation_definitions.add(definition).run(
                batch_parameters={"dataframe": pictures},
                run_id=run_id,
                result_format={"result_format": "COMPLETE", "unexpected_index_column_names": key},
            )
            result_of = {_description(result): result for result in results.results}
            for promise in suite.promises:
                result = result_of[promise.sentence]
                rows = _rows(result)
                if not result.success or rows:
                    broken.append(BrokenPromise(promise, rows, _distance(result)))
        return broken

    def build(folder: Path) -> None:
        site: Any = {
            "class_name": "SiteBuilder",
            "show_how_to_buttons": False,
            "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder.resolve())},
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        }
        context.add_data_docs_site("data_docs", site)
        context.build_data_docs(site_names=["data_docs"])

    yield check
    write_data_docs(data_docs, build)


def _description(result: ExpectationValidationResult) -> str | None:
    return result.expectation_config.description if result.expectation_config else None


def _distance(result: ExpectationValidationResult) -> float | None:
    observed = (result.result or {}).get("observed_value")
    return observed.get("distance") if isinstance(observed, dict) else None


def _rows(result: ExpectationValidationResult) -> list[tuple[str, str]]:
    unexpected = (result.result or {}).get("unexpected_index_list") or []
    return [(str(row.get("role")), str(row.get("picture_id"))) for row in unexpected]
