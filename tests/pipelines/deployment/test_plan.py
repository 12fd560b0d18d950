"""The deploy plan as a pure function, and models.config as TensorFlow Serving reads it."""

from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pipelines.deployment.models_config import Served, config_text, read_config, write_config
from pipelines.deployment.plan import (
    KEEP,
    LABELS,
    Actual,
    Configure,
    Confirm,
    Fetch,
    Remove,
    WaitDropped,
    WaitLoaded,
    plan,
)

VERSIONS = st.integers(1, 9)
DESIRED = st.dictionaries(st.sampled_from(["champion", "challenger", "fans"]), VERSIONS)


@st.composite
def actuals(draw) -> Actual:
    """States that deploy can leave behind: labels name configured versions, configured versions have folders."""
    folders = draw(st.frozensets(VERSIONS))
    versions = draw(st.frozensets(st.sampled_from(sorted(folders)))) if folders else frozenset()
    labels = {}
    if versions:
        labels = draw(st.dictionaries(st.sampled_from(["stable", "canary"]), st.sampled_from(sorted(versions))))
    config = draw(st.sampled_from([None, Served(versions, labels)]))
    served = versions if config else frozenset()
    available = draw(st.none() | st.frozensets(st.sampled_from(sorted(served)) if served else st.nothing()))
    return Actual(config, folders, available)


def carried_out(actual: Actual, steps) -> list[Actual]:
    """The states after each step, with a server that does at once what models.config says."""
    states = [actual]
    for step in steps:
        config, folders, available = states[-1].config, states[-1].folders, states[-1].available
        match step:
            case Fetch(version):
                folders = folders | {version}
            case Configure(served):
                config = served
                available = None if available is None else available | (served.versions & folders)
            case WaitLoaded(waited):
                available = (available or frozenset()) | waited
            case WaitDropped(dropped):
                available = None if available is None else available - dropped
            case Remove(version):
                folders = folders - {version}
        states.append(Actual(config, folders, available))
    return states


@given(DESIRED, actuals())
def test_afterwards_each_label_names_what_its_alias_names(desired, actual):
    after = carried_out(actual, plan(desired, actual).steps)[-1]
    for alias, label in LABELS.items():
        if alias in desired:
            assert after.config is not None
            assert after.config.labels[label] == desired[alias]


@given(DESIRED, actuals())
def test_carried_out_once_nothing_is_left_to_do(desired, actual):
    after = carried_out(actual, plan(desired, actual).steps)[-1]
    assert plan(desired, after).steps == []


@given(DESIRED, actuals(), st.integers(0, 12))
def test_killed_after_any_step_a_second_run_ends_in_the_same_state(desired, actual, killed_after):
    steps = plan(desired, actual).steps
    whole = carried_out(actual, steps)[-1]
    halfway = carried_out(actual, steps[:killed_after])[-1]
    assert carried_out(halfway, plan(desired, halfway).steps)[-1].config == whole.config


@given(DESIRED, actuals())
def test_at_no_moment_does_a_label_name_a_version_that_is_not_configured_and_on_disk(desired, actual):
    for state in carried_out(actual, plan(desired, actual).steps)[1:]:
        if state.config is not None:
            assert set(state.config.labels.values()) <= state.config.versions
        if state.config is not None and state.config != actual.config:
            assert state.config.versions <= state.folders


@given(DESIRED, actuals())
def test_at_no_moment_is_a_label_taken_away(desired, actual):
    before = set((actual.config or Served()).labels)
    for state in carried_out(actual, plan(desired, actual).steps):
        assert before <= set((state.config or Served()).labels)


@given(DESIRED, actuals())
def test_no_label_moves_and_no_version_goes_in_one_write(desired, actual):
    states = carried_out(actual, plan(desired, actual).steps)
    for earlier, later in pairwise(states):
        old, new = earlier.config or Served(), later.config or Served()
        if old.labels != new.labels:
            assert old.versions <= new.versions


@given(DESIRED, actuals())
def test_with_a_running_server_labels_move_to_what_is_available_and_are_confirmed_before_anything_goes(desired, actual):
    if actual.available is None:
        return
    steps = plan(desired, actual).steps
    labels, loaded = dict((actual.config or Served()).labels), set(actual.available)
    confirmed = True
    versions = (actual.config or Served()).versions
    for step in steps:
        match step:
            case WaitLoaded(waited):
                loaded |= waited
            case Confirm():
                confirmed = True
            case Configure(served):
                if served.labels != labels:
                    assert {
                        version for label, version in served.labels.items() if labels.get(label) != version
                    } <= loaded
                    confirmed = False
                if versions - served.versions:
                    assert confirmed
                labels, versions = dict(served.labels), served.versions


@given(DESIRED, actuals())
def test_folders_that_nothing_names_are_kept_for_the_way_back_up_to_a_number(desired, actual):
    after = carried_out(actual, plan(desired, actual).steps)[-1]
    needed = set((after.config or Served()).labels.values())
    assert after.folders >= needed
    served = set((actual.config or Served()).labels.values())
    kept = after.folders - needed
    assert len(kept) == min(KEEP, len(actual.folders - needed))
    assert kept >= served - needed
    for version in actual.folders - needed - kept:
        assert version < min(kept - served, default=10)


def test_a_first_champion_is_fetched_configured_and_labelled():
    steps = plan({"champion": 1}, Actual()).steps
    assert [str(step) for step in steps] == [
        "fetch version 1 from MLflow and prove it",
        "write models.config: add version 1",
        "write models.config: stable is version 1",
    ]


def test_a_new_champion_under_a_running_server_is_loaded_before_its_label_moves_and_the_old_one_goes_last():
    actual = Actual(Served(frozenset({1}), {"stable": 1}), frozenset({1}), frozenset({1}))
    assert [str(step) for step in plan({"champion": 2}, actual).steps] == [
        "fetch version 2 from MLflow and prove it",
        "write models.config: add version 2",
        "wait until the server has version 2",
        "write models.config: stable is version 2",
        "see that stable answers as version 2, with a golden pair",
        "write models.config: drop version 1",
        "wait until the server has dropped version 1",
    ]


def test_a_version_that_the_server_is_about_to_drop_is_loaded_anew_before_its_label_moves():
    actual = Actual(Served(frozenset({2}), {"stable": 2}), frozenset({1, 2}), frozenset({1, 2}))
    assert [str(step) for step in plan({"champion": 1}, actual).steps][:4] == [
        "wait until the server has dropped version 1",
        "write models.config: add version 1",
        "wait until the server has version 1",
        "write models.config: stable is version 1",
    ]


def test_a_sick_canary_does_not_hold_up_the_way_back_of_stable():
    actual = Actual(Served(frozenset({2, 3}), {"stable": 2, "canary": 3}), frozenset({1, 2, 3}), frozenset({2}))
    assert [str(step) for step in plan({"champion": 1, "challenger": 3}, actual).steps] == [
        "write models.config: add version 1",
        "wait until the server has version 1",
        "write models.config: stable is version 1",
        "see that stable answers as version 1, with a golden pair",
        "write models.config: drop version 2",
        "wait until the server has dropped version 2",
    ]


def test_where_no_label_moves_a_version_that_does_not_answer_is_waited_for():
    actual = Actual(Served(frozenset({2, 3}), {"stable": 2, "canary": 3}), frozenset({2, 3}), frozenset({2}))
    assert plan({"champion": 2, "challenger": 3}, actual).steps == [WaitLoaded(frozenset({2, 3}))]


def test_a_file_that_the_server_refused_is_written_again_as_it_takes_it():
    actual = Actual(Served(frozenset({2}), {"stable": 2}), frozenset({1, 2}), frozenset({1}), known=frozenset({1}))
    first = plan({"champion": 2}, actual)
    assert [str(step) for step in first.steps] == [
        "write models.config: what the server has, as it refused the last one"
    ]
    assert first.partial
    after = carried_out(actual, first.steps)[-1]
    assert after.config == Served(frozenset({1, 2}), {"stable": 1})
    assert plan({"champion": 2}, after).changes == {"champion": (1, 2)}


def test_a_server_that_still_loads_has_refused_nothing():
    config = Served(frozenset({2, 3}), {"stable": 2, "canary": 3})
    actual = Actual(config, frozenset({2, 3}), frozenset({3}), known=frozenset({2, 3}))
    assert plan({"champion": 2, "challenger": 3}, actual).steps == [WaitLoaded(frozenset({2, 3}))]


def test_after_two_bad_versions_the_good_one_stays_at_hand_when_the_next_is_promoted():
    actual = Actual(Served(frozenset({6}), {"stable": 6}), frozenset({6, 7, 8, 9}))
    assert plan({"champion": 9}, actual).steps[-1] == Remove(7)


def test_a_roll_back_fetches_nothing():
    actual = Actual(Served(frozenset({2}), {"stable": 2}), frozenset({1, 2}), None)
    assert not any(isinstance(step, Fetch) for step in plan({"champion": 1}, actual).steps)


def test_a_deleted_alias_leaves_the_last_one_in_service_loudly():
    actual = Actual(Served(frozenset({3}), {"stable": 3}), frozenset({3}), frozenset({3}))
    planned = plan({}, actual)
    assert planned.steps == []
    assert "the alias champion is gone" in planned.warnings[0]
    assert "version 3 serves on as stable" in planned.warnings[0]


def test_a_version_that_failed_leaves_its_label_where_it_is_and_the_other_alias_goes_on():
    actual = Actual(Served(frozenset({1}), {"stable": 1}), frozenset({1}))
    planned = plan({"champion": 2, "challenger": 3}, actual, failed={"champion": 2})
    assert planned.changes == {"challenger": (None, 3)}
    assert not any(isinstance(step, Fetch) and step.version == 2 for step in planned.steps)


def test_an_alias_that_has_been_elsewhere_is_tried_again():
    actual = Actual(Served(frozenset({1}), {"stable": 1}), frozenset({1}))
    assert plan({"champion": 3}, actual, failed={"champion": 2}).changes == {"champion": (1, 3)}


@given(DESIRED, actuals(), st.dictionaries(st.sampled_from(["champion", "challenger"]), VERSIONS))
def test_with_failures_nothing_is_left_to_do_either(desired, actual, failed):
    after = carried_out(actual, plan(desired, actual, failed=failed).steps)[-1]
    assert plan(desired, after, failed=failed).steps == []


def test_changes_name_the_alias_with_from_and_to():
    actual = Actual(Served(frozenset({1}), {"stable": 1}), frozenset({1}))
    assert plan({"champion": 2, "challenger": 3}, actual).changes == {"champion": (1, 2), "challenger": (None, 3)}


def test_a_config_comes_back_as_it_was_written(tmp_path):
    served = Served(frozenset({3, 5}), {"stable": 3, "canary": 5})
    write_config(tmp_path / "models.config", served, tmp_path / "product-encoder")
    assert read_config(tmp_path / "models.config") == served
    assert [path.name for path in tmp_path.iterdir()] == ["models.config"]


def test_a_config_that_does_not_parse_counts_as_none(tmp_path):
    (tmp_path / "models.config").write_text("model_config_list { nonsense")
    assert read_config(tmp_path / "models.config") is None


def test_the_same_state_gives_the_same_text():
    text = config_text(Served(frozenset({2, 1}), {"stable": 1, "canary": 2}), Path("/models"))
    assert text == config_text(Served(frozenset({1, 2}), {"canary": 2, "stable": 1}), Path("/models"))
    assert "specific" in text
