import pytest

from serving.model_server.flags import channel_arguments, parse


def test_both_forms_of_a_flag_are_taken():
    options = parse(["--port=1", "--model_base_path", "/models/x", "--rest_api_port", "2"])

    assert (options.port, options.rest_api_port, options.model_base_path) == (1, 2, "/models/x")


@pytest.mark.parametrize("text, value", [("", True), ("=true", True), ("=false", False), ("=1", True), ("=0", False)])
def test_a_boolean_flag_may_stand_alone_or_have_a_value(text, value):
    assert parse(["--model_base_path=/m", f"--enable_batching{text}"]).enable_batching is value


def test_no_rest_port_is_opened_unless_asked_for():
    assert parse(["--model_base_path=/m"]).rest_api_port is None


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "both --model_base_path and --model_config_file are empty"),
        (["--model_base_path=/m", "--prot=1"], "unrecognized arguments: --prot=1"),
        (["--model_base_path=/m", "--port=x"], "argument --port: invalid int value: 'x'"),
        (["--model_base_path=/m", "--use_alts_credentials"], "--use_alts_credentials is not supported"),
        (["--model_base_path=/m", "--platform_config_file=f"], "--platform_config_file is not supported"),
        (["--model_base_path=/m", "--batching_parameters_file=f"], "without --enable_batching"),
        (["--model_base_path=/m", "--monitoring_config_file=f"], "needs --rest_api_port"),
        (["--model_base_path=/m", "--port=8", "--rest_api_port=8"], "must differ"),
        (["--model_base_path=/m", "--file_system_poll_wait_seconds=-1"], "must not be negative"),
        (["--model_base_path=/m", "--grpc_max_threads=0"], "must be at least 1"),
        (["--model_base_path=/m", "--grpc_channel_arguments=x"], "'x' is not name=value"),
    ],
)
def test_a_flag_that_can_not_be_honoured_is_refused_in_one_line(arguments, words, capsys):
    with pytest.raises(SystemExit) as ended:
        parse(arguments)

    line = capsys.readouterr().err
    assert ended.value.code == 2
    assert words in line and line.count("\n") == 1


def test_an_unsupported_flag_may_be_given_with_the_value_that_turns_it_off():
    parse(["--model_base_path=/m", "--use_alts_credentials=false", "--saved_model_tags=serve"])


def test_channel_arguments_are_numbers_where_they_look_like_it():
    assert channel_arguments("grpc.max_connection_age_ms=2000,grpc.x=y=z") == [
        ("grpc.max_connection_age_ms", 2000),
        ("grpc.x", "y=z"),
    ]
