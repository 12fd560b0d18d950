"""A Great Expectations expectation: a column is distributed like one of a former data version."""

from typing import Any, ClassVar

import pandas as pd
from great_expectations.execution_engine.pandas_execution_engine import PandasExecutionEngine
from great_expectations.expectations.expectation import ColumnAggregateExpectation
from great_expectations.expectations.metrics.column_aggregate_metric_provider import (
    ColumnAggregateMetricProvider,
    column_aggregate_value,
)
from great_expectations.render.components import (
    LegacyDiagnosticRendererType,
    LegacyRendererType,
    RenderedStringTemplateContent,
    RenderedTableContent,
)
from great_expectations.render.renderer.renderer import renderer

from training.validation import drift

SHOWN = {"a tenth is at most": 0.1, "half": 0.5, "nine tenths": 0.9}


class ColumnDistribution(ColumnAggregateMetricProvider):
    """A column's distribution in brief, and its distance from the reference."""

    metric_name = "column.distribution_against_reference"
    value_keys = ("reference",)

    @column_aggregate_value(engine=PandasExecutionEngine)
    def _pandas(cls, column: pd.Series, reference: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        values = column.dropna().to_numpy(float)
        distance = drift.distance(values, reference) if len(values) else 1.0
        return {"distribution": drift.describe(values), "distance": distance}


class ExpectColumnToBeDistributedAsBefore(ColumnAggregateExpectation):
    """Expect at most a certain share of the column's values to have moved since a reference.

    Passes where the Kolmogorov-Smirnov distance is at most `margin` beyond what chance makes of so few values.
    """

    reference: dict[str, Any]
    """The reference's column, as training.validation.drift.describe returns it."""
    margin: float

    metric_dependencies: ClassVar[tuple[str, ...]] = ("column.distribution_against_reference",)
    success_keys: ClassVar[tuple[str, ...]] = ("reference", "margin")
    args_keys: ClassVar[tuple[str, ...]] = ("column", "margin")

    def _validate(
        self, metrics: dict, runtime_configuration: dict | None = None, execution_engine: Any = None
    ) -> dict[str, Any]:
        observed = metrics[ColumnDistribution.metric_name]
        chance = drift.by_chance(observed["distribution"]["count"], self.reference)
        success = bool(observed["distance"] <= self.margin + chance)
        return {"success": success, "result": {"observed_value": observed | {"chance": chance}}}

    @classmethod
    @renderer(renderer_type=LegacyRendererType.PRESCRIPTIVE)
    def _prescriptive_renderer(
        cls, configuration: Any = None, result: Any = None, runtime_configuration: dict | None = None
    ) -> list:
        named = {name: configuration.kwargs[name] for name in ("column", "margin")}
        text = "values of $column must be distributed as before, within $margin and chance."
        return [_text(text, named)]

    @classmethod
    @renderer(renderer_type=LegacyDiagnosticRendererType.OBSERVED_VALUE)
    def _diagnostic_observed_value_renderer(
        cls, configuration: Any = None, result: Any = None, runtime_configuration: dict | None = None
    ) -> Any:
        observed = (result.result or {}).get("observed_value") if result else None
        if not observed:
            return "--"
        limits = result.expectation_config.kwargs
        both = [limits["reference"], observed["distribution"]]
        rows = [["how many", *(f"{distribution['count']:,}" for distribution in both)]]
        if all(distribution["count"] for distribution in both):
            then, now = (drift.quantiles(distribution, tuple(SHOWN.values())) for distribution in both)
            rows += [[name, f"{old:.3g}", f"{new:.3g}"] for name, old, new in zip(SHOWN, then, now, strict=True)]
        rows.append(["moved", "", f"{observed['distance']:.1%}"])
        rows.append(["allowed", "", f"{limits['margin']:.1%} + {observed['chance']:.1%} by chance"])
        return RenderedTableContent(
            content_block_type="table",
            header_row=["", "champion's data", "this data"],
            table=rows,
            styling={"body": {"classes": ["table", "table-sm", "table-unbordered"]}},
        )

    @classmethod
    @renderer(renderer_type=LegacyDiagnosticRendererType.STATUS_ICON)
    def _diagnostic_status_icon_renderer(
        cls, configuration: Any = None, result: Any = None, runtime_configuration: dict | None = None
    ) -> RenderedStringTemplateContent:
        """A warning sign where the severity is warning: the data is let in."""
        icon = super()._diagnostic_status_icon_renderer(configuration=configuration, result=result)
        if not result.success and result.expectation_config.severity == "warning":
            template = icon.string_template
            template["params"]["markdown_status_icon"] = "⚠"
            template["styling"]["params"]["icon"]["classes"] = ["fas", "fa-exclamation-triangle", "text-warning"]
        return icon


def _text(template: str, params: dict[str, Any]) -> RenderedStringTemplateContent:
    return RenderedStringTemplateContent(
        content_block_type="string_template", string_template={"template": template, "params": params}
    )
