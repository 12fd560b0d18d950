"""The flags of tensorflow_model_server: each works, or is refused in one line; none is silently ignored."""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NoReturn

_CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Options:
    """Names and defaults as in tensorflow/serving's model_servers/main.cc. Port 0 is a free one, None is none."""

    port: int = 8500
    grpc_socket_path: str = ""
    grpc_channel_arguments: str = ""
    grpc_max_threads: int = 4 * _CPUS
    enable_grpc_healthcheck_service: bool = False
    ssl_config_file: str = ""
    rest_api_port: int | None = None
    rest_api_num_threads: int = 4 * _CPUS
    rest_api_timeout_in_ms: int = 30_000
    rest_api_enable_cors_support: bool = False
    enable_batching: bool = False
    batching_parameters_file: str = ""
    model_config_file: str = ""
    model_config_file_poll_wait_seconds: int = 0
    model_name: str = "default"
    model_base_path: str = ""
    allow_version_labels_for_unavailable_models: bool = False
    num_load_threads: int = 0
    num_unload_threads: int = 0
    max_num_load_retries: int = 5
    load_retry_interval_micros: int = 60_000_000
    file_system_poll_wait_seconds: int = 1
    tensorflow_session_parallelism: int = 0
    tensorflow_intra_op_parallelism: int = 0
    tensorflow_inter_op_parallelism: int = 0
    tensorflow_session_config_file: str = ""
    enable_model_warmup: bool = True
    num_request_iterations_for_warmup: int = 0
    monitoring_config_file: str = ""
    enable_serialization_as_tensor_content: bool = False
    version: bool = False


# flag -> the value that asks for nothing, and may be given
_REFUSED = {
    "enable_per_model_batching_parameters": "false",
    "enable_profiler": "false",
    "enable_signature_method_name_check": "false",
    "flush_filesystem_caches": "false",
    "mixed_precision": "",
    "num_tflite_interpreters_per_pool": None,
    "num_tflite_pools": None,
    "per_process_gpu_memory_fraction": "0",
    "platform_config_file": "",
    "prefer_tflite_model": "false",
    "remove_unused_fields_from_bundle_metagraph": "false",
    "saved_model_tags": "serve",
    "skip_initialize_tpu": None,
    "thread_pool_factory_config_file": "",
    "use_alts_credentials": "false",
    "xla_cpu_compilation_enabled": "false",
    "xla_gpu_compilation_enabled": "false",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, exit code 2."""
        print(f"model server: {message}", file=sys.stderr)
        sys.exit(2)


def parse(arguments: Sequence[str]) -> Options:
    """Options of a command line, `--flag=value` or `--flag value`; exits with code 2 and one line for a bad one."""
    parser = _Parser(prog="python -m serving.model_server", allow_abbrev=False, description=__doc__)
    for option in fields(Options):
        if option.type is bool:
            parser.add_argument(f"--{option.name}", type=_bool, nargs="?", const=True, default=option.default)
        else:
            parser.add_argument(f"--{option.name}", type=str if option.type is str else int, default=option.default)
    for name in _REFUSED:
        parser.add_argument(f"--{name}", nargs="?", const="true", help=argparse.SUPPRESS)
    values = vars(parser.parse_args(arguments))
    for name, harmless in _REFUSED.items():
        value = values.pop(name)
        if value is not None and value.lower() != harmless:
            parser.error(f"--{name} is not supported by the local model server; use tensorflow_model_server")
    options = Options(**values)
    for problem in _problems(options):
        parser.error(problem)
    return options


def _problems(options: Options) -> list[str]:
    if options.version:
        return []
    problems = []
    if not options.model_base_path and not options.model_config_file:
        problems.append("both --model_base_path and --model_config_file are empty")
    if options.batching_parameters_file and not options.enable_batching:
        problems.append("--batching_parameters_file is set without --enable_batching")
    if options.monitoring_config_file and options.rest_api_port is None:
        problems.append("--monitoring_config_file needs --rest_api_port, which serves it")
    if options.rest_api_port and options.rest_api_port == options.port:
        problems.append("--rest_api_port must differ from --port")
    parallelism = (options.tensorflow_intra_op_parallelism, options.tensorflow_inter_op_parallelism)
    if options.tensorflow_session_parallelism and any(parallelism):
        problems.append("--tensorflow_session_parallelism excludes --tensorflow_intra_op_parallelism and inter")
    problems += [
        f"--{option.name} must not be negative"
        for option in fields(Options)
        if isinstance(value := getattr(options, option.name), int)
        and value < 0
        and option.name != "load_retry_interval_micros"
    ]
    problems += [
        f"--{name} must be at least 1"
        for name in ("grpc_max_threads", "rest_api_num_threads")
        if getattr(options, name) < 1
    ]
    problems += [
        f"--grpc_channel_arguments: {part!r} is not name=value"
        for part in filter(None, options.grpc_channel_arguments.split(","))
        if "=" not in part
    ]
    return problems


def channel_arguments(text: str) -> list[tuple[str, int | str]]:
    """`a=1,b=x` as gRPC takes it."""
    pairs = (part.split("=", 1) for part in text.split(",") if part)
    return [(name, int(value) if value.lstrip("-").isdigit() else value) for name, value in pairs]


def _bool(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() in ("true", "1")
