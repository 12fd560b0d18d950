from hypothesis import given
from hypothesis import strategies as st
from tensorflow_serving.config import file_system_storage_path_source_pb2

from serving.model_server.versions import Snapshot, State, next_step, numbered, wanted_versions

Policy = file_system_storage_path_source_pb2.FileSystemStoragePathSourceConfig.ServableVersionPolicy


def test_the_latest_version_is_served_by_default():
    assert wanted_versions(Policy(), {1: "1", 9: "9", 10: "10"}) == {10}


def test_latest_two_are_served_where_the_policy_says_so():
    assert wanted_versions(Policy(latest=Policy.Latest(num_versions=2)), {1: "1", 9: "9", 10: "10"}) == {9, 10}


def test_specific_versions_that_are_not_there_are_left_out():
    assert wanted_versions(Policy(specific=Policy.Specific(versions=[1, 3])), {1: "1", 2: "2"}) == {1}


def test_all_versions_are_served_where_the_policy_says_so():
    assert wanted_versions(Policy(all=Policy.All()), {1: "1", 2: "2"}) == {1, 2}


def test_folders_that_are_no_numbers_are_no_versions():
    assert numbered(["1", "003", ".tmp-4", "five", "²"]) == {1: "1", 3: "003"}


def test_an_old_version_stays_while_the_new_one_failed_to_load():
    assert next_step([Snapshot(1, State.AVAILABLE, False), Snapshot(2, State.END, True)]) is None


def test_a_model_that_nobody_wants_any_more_is_let_go():
    assert next_step([Snapshot(1, State.AVAILABLE, False)]) == ("unload", 1)


@given(
    had=st.sets(st.integers(1, 9), min_size=1),
    wanted=st.sets(st.integers(1, 9), min_size=1),
    broken=st.sets(st.integers(1, 9)),
)
def test_some_version_always_serves_on_the_way_to_what_is_wanted(had, wanted, broken):
    states = dict.fromkeys(had, State.AVAILABLE) | dict.fromkeys(wanted - had, State.START)

    while step := next_step(Snapshot(number, state, number in wanted) for number, state in states.items()):
        action, number = step
        fails = number in broken
        states[number] = State.AVAILABLE if action == "load" and not fails else State.END
        assert State.AVAILABLE in states.values()

    serving = {number for number, state in states.items() if state == State.AVAILABLE}
    good = {number for number in wanted if number in had or number not in broken}
    assert serving == good or (not good and len(serving) == 1 and serving <= had)
