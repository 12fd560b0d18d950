"""The client: `Verifier`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from photoproof import exchanges
from photoproof.errors import PhotoproofError
from photoproof.pictures.prepare import Picture, prepare
from photoproof.retries import Patience, carry
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
            retries: how often to try again when the server is not there or too busy; None: as long as `timeout` allows.
            token: sent as `Authorization: Bearer TOKEN`.
            ca: PEM file of the authority that signed the server's certificate, where it is none of the usual ones.
            cert: PEM file of the client's own certificate, for mutual TLS.
            key: PEM file of its private key.

        Raises ValueError for an address or options that make no sense.
        """
        self._server = server_at(server, token, ca, cert, key)
        self._asked = exchanges.Asked(str(self._server), Model(model, version, None if version is not None else label))
        self._patience = Patience(timeout, retries)
        self._transport = connect(self._server)

    def verify(self, original: Picture, photo: Picture) -> Verdict:
        """The verdict on a pair of pictures: paths, bytes, binary files or PIL images. Raises PhotoproofError."""
        return self._carry(exchanges.verify(self._asked, prepare(original, "original"), prepare(photo, "photo")))

    def verify_many(
        self, pairs: Iterable[tuple[Picture, Picture]], concurrency: int = 8
    ) -> Iterator[Verdict | PhotoproofError]:
        """The verdicts on a stream of (original, photo), in its order; a pair that fails yields its error.

        At most `concurrency` pairs are asked about at a time, and no more than twice as many are read ahead.
        """
        if concurrency < 1:
            raise ValueError(f"concurrency is {concurrency}; it is 1 or more")
        return self._verify_many(pairs, concurrency)

    def encode(self, picture: Picture) -> Embedding:
        """The embedding of an original, for `compare`. Raises PhotoproofError."""
        return self._carry(exchanges.encode(self._asked, prepare(picture)))

    def compare(self, embedding: Embedding, photo: Picture) -> Verdict:
        """The verdict on an original encoded before. Raises StaleEmbedding where another model serves by now."""
        return self._carry(exchanges.compare(self._asked, embedding, prepare(photo, "photo")))

    def status(self) -> ServerStatus:
        """What the server serves, and whether the model is one that answers. Raises PhotoproofError."""
        return self._carry(exchanges.status(self._asked))

    def close(self) -> None:
        """Closes the connection; calls in flight fail."""
        self._transport.close()

    def __enter__(self) -> Verifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _carry(self, flow: exchanges.Flow[exchanges.Result]) -> exchanges.Result:
        return carry(flow, self._transport, self._patience)

    def _verify_many(
        self, pairs: Iterable[tuple[Picture, Picture]], concurrency: int
    ) -> Iterator[Verdict | PhotoproofError]:
        waiting: deque[Future[Verdict | PhotoproofError]] = deque()
        with ThreadPoolExecutor(concurrency, "photoproof") as threads:
            try:
                for original, photo in pairs:
                    waiting.append(threads.submit(self._verdict_or_error, original, photo))
                    if len(waiting) >= 2 * concurrency:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _verdict_or_error(self, original: Picture, photo: Picture) -> Verdict | PhotoproofError:
        try:
            return self.verify(original, photo)
        except PhotoproofError as error:
            return error
