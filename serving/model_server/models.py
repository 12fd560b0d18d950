"""The models that are served: which versions the folders and the configuration ask for, loaded and let go."""

import gc
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.config import model_server_config_pb2 as config_pb2

from serving.model_server.model_config import check, wanted_folders
from serving.model_server.servable import Servable
from serving.model_server.status import (
    StatusError,
    failed_precondition,
    from_exception,
    invalid_argument,
    not_found,
)
from serving.model_server.versions import Snapshot, State, next_step

log = logging.getLogger(__name__)


@dataclass
class ServableVersion:
    """A version with its life. `users`: calls that run on it now."""

    name: str
    number: int
    folder: Path
    state: State = State.START
    wanted: bool = True
    error: StatusError | None = None
    servable: Servable | None = None
    users: int = 0

    def __str__(self) -> str:
        return f"{{name: {self.name} version: {self.number}}}"


@dataclass(frozen=True)
class LoadOptions:
    """How versions are loaded: by `load(name, number, folder)`, and after a failure up to `retries` times more."""

    load: Callable[[str, int, Path], Servable]
    retries: int = 5
    retry_seconds: float = 60.0
    load_threads: int = 0
    unload_threads: int = 0
    labels_for_unavailable: bool = False


class Models:
    """Versions by model. Every change of state happens under one condition, `_changed`."""

    def __init__(self, loading: LoadOptions):
        self._loading = loading
        self._config = config_pb2.ModelServerConfig()
        self._labels: dict[str, dict[str, int]] = {}
        self._versions: dict[str, dict[int, ServableVersion]] = {}
        self._reloading = threading.Lock()
        self._polling = threading.Lock()
        self._changed = threading.Condition()
        self._stopped = False
        self._loaders: Executor | None = ThreadPoolExecutor(loading.load_threads) if loading.load_threads else None
        self._unloaders: Executor | None = (
            ThreadPoolExecutor(loading.unload_threads) if loading.unload_threads else None
        )
        self._worker = threading.Thread(target=self._work, name="versions", daemon=True)
        self._worker.start()

    # What callers ask

    @contextmanager
    def lease(self, spec: model_pb2.ModelSpec) -> Iterator[Servable]:
        """The version that a call names, kept loaded until the call ends. Raises StatusError."""
        with self._changed:
            version = self._find(spec)
            version.users += 1
        try:
            assert version.servable is not None
            yield version.servable
        finally:
            with self._changed:
                version.users -= 1
                if not version.users:
                    self._changed.notify_all()

    def _find(self, spec: model_pb2.ModelSpec) -> ServableVersion:
        if not spec.name:
            raise invalid_argument("ModelSpec has no name specified.")
        versions = self._versions.get(spec.name, {})
        available = [number for number, version in versions.items() if version.state == State.AVAILABLE]
        match spec.WhichOneof("version_choice"):
            case "version":
                number = spec.version.value
            case "version_label":
                if spec.version_label not in self._labels.get(spec.name, {}):
                    raise invalid_argument(f"Unrecognized servable version label: {spec.version_label}")
                number = self._labels[spec.name][spec.version_label]
            case _:
                if not available:
                    raise not_found(f"Servable not found for request: Latest({spec.name})")
                number = max(available)
        if number not in available:
            raise not_found(f"Servable not found for request: Specific({spec.name}, {number})")
        return versions[number]

    def states(self, spec: model_pb2.ModelSpec) -> list[ServableVersion]:
        """Every version of a model that was ever wanted, newest first, or the one named. Raises StatusError.

        A label is not looked at, as in TensorFlow Serving's GetModelStatus.
        """
        with self._changed:
            versions = dict(self._versions.get(spec.name, {}))
        if spec.WhichOneof("version_choice") == "version":
            if spec.version.value not in versions:
                raise not_found(f"Could not find version {spec.version.value} of model {spec.name}")
            return [versions[spec.version.value]]
        if not versions:
            raise not_found(f"Could not find any versions of model {spec.name}")
        return [versions[number] for number in sorted(versions, reverse=True)]

    # What configuration and folders ask

    def reload(self, config: config_pb2.ModelServerConfig) -> None:
        """Takes a configuration and waits until each new model has a version available.

        Raises StatusError and keeps labels and versions as they were where the configuration is refused.
        """
        with self._reloading:
            old = self._config
            if config.WhichOneof("config") is None:
                log.info("Taking no action for empty config.")
                return
            check(config, old)
            self._set_labels(config)
            if config != old:
                for model in config.model_config_list.config:
                    log.info("(Re-)adding model: %s", model.name)
            self._config = config
            self.poll()
            new = {model.name for model in config.model_config_list.config}
            self._await_available(new - {model.name for model in old.model_config_list.config})

    def _set_labels(self, config: config_pb2.ModelServerConfig) -> None:
        labels: dict[str, dict[str, int]] = {}
        with self._changed:
            for model in config.model_config_list.config:
                for label, number in model.version_labels.items():
                    old = self._labels.get(model.name, {}).get(label)
                    moves = old is not None and old != number
                    version = self._versions.get(model.name, {}).get(number)
                    available = version is not None and version.state == State.AVAILABLE
                    if not available and (moves or not self._loading.labels_for_unavailable):
                        raise failed_precondition(
                            f"Request to assign label to version {number} of model {model.name}, "
                            "which is not currently available for inference"
                        )
                    labels.setdefault(model.name, {})[label] = number
            self._labels = labels

    def poll(self) -> None:
        """Looks at the folders once. A folder that can't be read changes nothing, for any model."""
        with self._polling:
            wanted: dict[str, dict[int, Path]] = {}
            for model in self._config.model_config_list.config:
                try:
                    wanted[model.name] = wanted_folders(model)
                except OSError as error:
                    log.error(
                        "FileSystemStoragePathSource encountered a filesystem access error: Could not find base path "
                        "%s for servable %s with error %s",
                        *(model.base_path, model.name, error),
                    )
                    return
            with self._changed:
                for name in {*self._versions, *wanted}:
                    self._want(name, wanted.get(name, {}))
                self._changed.notify_all()

    def _want(self, name: str, folders: dict[int, Path]) -> None:
        versions = self._versions.setdefault(name, {})
        for number, version in list(versions.items()):
            if number not in folders:
                version.wanted = False
                if version.state == State.START:
                    del versions[number]
            elif version.state in (State.LOADING, State.AVAILABLE):
                version.wanted = True
        for number, folder in folders.items():
            version = versions.get(number)
            if version is None or (version.state == State.END and not version.wanted):
                versions[number] = ServableVersion(name, number, folder)
        if not versions:
            del self._versions[name]

    def _await_available(self, names: set[str]) -> None:
        def finished() -> bool:
            return self._stopped or all(
                any(v.state == State.AVAILABLE for v in self._versions.get(name, {}).values()) or failed(name)
                for name in names
            )

        def failed(name: str) -> list[ServableVersion]:
            versions = [v for v in self._versions.get(name, {}).values() if v.wanted]
            return versions if versions and all(v.state == State.END for v in versions) else []

        with self._changed:
            self._changed.wait_for(finished)
            broken = [version for name in sorted(names) for version in failed(name)]
        if broken:
            each = "".join(f"{{{v} due to error: {v.error}}}, " for v in broken)
            raise StatusError(grpc.StatusCode.UNKNOWN, f"{len(broken)} model(s) did not become available: {{{each}}}")

    # The versions' own thread

    def _work(self) -> None:
        while True:
            with self._changed:
                while (step := self._next()) is None or self._stopped:
                    if self._stopped:
                        return
                    self._changed.wait()
                action, version = step
                if action == "load":
                    version.state = State.LOADING
                    log.info("Loading servable version %s", version)
                else:
                    version.state = State.UNLOADING  # no call finds it any more
                    log.info("Quiescing servable version %s", version)
            pool, function = (self._loaders, self._load) if action == "load" else (self._unloaders, self._unload)
            if pool is None:
                function(version)
            else:
                pool.submit(function, version)

    def _next(self) -> tuple[str, ServableVersion] | None:
        for versions in self._versions.values():
            step = next_step(Snapshot(v.number, v.state, v.wanted) for v in versions.values())
            if step:
                return step[0], versions[step[1]]
        return None

    def _load(self, version: ServableVersion) -> None:
        servable, failure = None, None
        for attempt in range(self._loading.retries + 1):
            if attempt:
                with self._changed:
                    cancelled = self._changed.wait_for(
                        lambda: self._stopped or not version.wanted, self._loading.retry_seconds
                    )
                if cancelled:
                    break
                log.info("Retrying of Loading servable: %s retry: %d", version, attempt)
            try:
                servable, failure = self._loading.load(version.name, version.number, version.folder), None
                break
            except Exception as error:  # a broken version is reported in its status; the server goes on
                failure = from_exception(error)
                log.error("Loading servable: %s failed: %s", version, failure)
        with self._changed:
            version.servable, version.error = servable, failure
            version.state = State.AVAILABLE if servable else State.END
            self._changed.notify_all()
        if servable:
            log.info("Successfully loaded servable version %s", version)

    def _unload(self, version: ServableVersion) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not version.users)
            servable, version.servable = version.servable, None
        if servable:
            servable.close()
        del servable
        gc.collect()  # a graph refers to itself
        with self._changed:
            version.state = State.END
            self._changed.notify_all()
        log.info("Done unloading servable version %s", version)

    def stop(self, seconds: float) -> None:
        """Ends loading, and waits so long for calls that still run."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: not any(v.users for m in self._versions.values() for v in m.values()), seconds
            )
