"""The client: `Verifier`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from photoproof import exchanges
from photoproof.errors import PhotoproofError
from photoproof.pictures.prepare import PictureSource, prepare
from photoproof.retries import RetryPolicy, run_with_retries
from photoproof.transport.address import server_at
from photoproof.transport.calls import Model
from photoproof.transport.connect import connect
from photoproof.verdict import Embedding, ServerStatus, Verdict


class Verifier:
    """Asks a model server whether photos show the products of originals.

    One Verifier holds one connection and may be used from any number of threads. Close it, or use it in a `with`.
    """

    def __init__(
        self,
        server: str = "grpc://localhost:8500",
        *,
        model: str = "product-encoder",
        label: str | None = "stable",
        version: int | None = None,
        timeout: float = 10.0,
        retries: int | None = None,
        token: str | None = None,
        ca: str | Path | None = None,
        cert: str | Path | None = None,
        key: str | Path | None = None,
    ):
        """Nothing is sent yet.

        Args:
            server: grpc://HOST:PORT, grpcs:// (TLS), http:// or https://; ports by default 8500 and 8501 (https: 443).
            model: the served model's name.
            label: which of its versions answers; None for the newest.
            version: a version by its number, instead of a label.
            timeout: seconds for a result, all tries and calls together.
            retries: how often to try again when the server is down or too busy; None: as long as `timeout` allows.
            token: sent as `Authorization: Bearer TOKEN`.
            ca: PEM file of the authority that signed the server's certificate, if that is not a well-known one.
            cert: PEM file of the client's own certificate, for mutual TLS.
            key: PEM file of its private key.

        Raises ValueError for an address or options that make no sense.
        """
        self._server = server_at(server, token, ca, cert, key)
        self._served = exchanges.ServedModel(
            str(self._server), Model(model, version, None if version is not None else label)
        )
        self._retry_policy = RetryPolicy(timeout, retries)
        self._transport = connect(self._server)

    def verify(self, original: PictureSource, photo: PictureSource) -> Verdict:
        """The verdict on a pair of pictures: paths, bytes, binary files or PIL images. Raises PhotoproofError."""
        return self._run(exchanges.verify(self._served, prepare(original, "original"), prepare(photo, "photo")))

    def verify_many(
        self, pairs: Iterable[tuple[PictureSource, PictureSource]], concurrency: int = 8
    ) -> Iterator[Verdict | PhotoproofError]:
        """The verdicts on a stream of (original, photo), in its order; a pair that fails yields its error.

        At most `concurrency` pairs are asked about at a time, and no more than twice as many are read ahead.
        """
        if concurrency < 1:
            raise ValueError(f"concurrency is {concurrency}; it is 1 or more")
        return self._verify_many(pairs, concurrency)

    def encode(self, picture: PictureSource) -> Embedding:
        """The embedding of an original, for `compare`. Raises PhotoproofError."""
        return self._run(exchanges.encode(self._served, prepare(picture)))

    def compare(self, embedding: Embedding, photo: PictureSource) -> Verdict:
        """The verdict on an original encoded before. Raises StaleEmbedding where another model serves now."""
        return self._run(exchanges.compare(self._served, embedding, prepare(photo, "photo")))

    def model_id(self) -> str:
        """The model_id of the model that serves, which every verdict and embedding of it carries.

        One small call to the model. Raises PhotoproofError.
        """
        return self._run(exchanges.model_id(self._served))

    def status(self) -> ServerStatus:
        """What the server serves, and whether the model is one that answers. Raises PhotoproofError."""
        return self._run(exchanges.status(self._served))

    def close(self) -> None:
        """Closes the connection; calls in flight fail."""
        self._transport.close()

    def __enter__(self) -> Verifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, exchange: exchanges.Exchange[exchanges.Result]) -> exchanges.Result:
        return run_with_retries(exchange, self._transport, self._retry_policy)

    def _verify_many(
        self, pairs: Iterable[tuple[PictureSource, PictureSource]], concurrency: int
    ) -> Iterator[Verdict | PhotoproofError]:
        pending: deque[Future[Verdict | PhotoproofError]] = deque()
        with ThreadPoolExecutor(concurrency, "photoproof") as threads:
            try:
                for original, photo in pairs:
                    pending.append(threads.submit(self._verdict_or_error, original, photo))
                    if len(pending) >= 2 * concurrency:
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()

    def _verdict_or_error(self, original: PictureSource, photo: PictureSource) -> Verdict | PhotoproofError:
        try:
            return self.verify(original, photo)
        except PhotoproofError as error:
            return error
