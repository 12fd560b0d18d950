"""The client in asyncio: `AsyncVerifier`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from pathlib import Path
from types import TracebackType

from photoproof import exchanges
from photoproof.errors import PhotoproofError
from photoproof.pictures.prepare import PictureSource, prepare
from photoproof.retries import RetryPolicy, run_with_retries_async
from photoproof.transport.address import server_at
from photoproof.transport.calls import AsyncTransport, Model
from photoproof.transport.connect import connect_async
from photoproof.verdict import Embedding, ServerStatus, Verdict

Pairs = Iterable[tuple[PictureSource, PictureSource]] | AsyncIterable[tuple[PictureSource, PictureSource]]


class AsyncVerifier:
    """`Verifier` in asyncio: the same methods, awaited. Pictures are decoded in threads, so the event loop runs on."""

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
        """As `Verifier`; nothing is sent yet, and no event loop is needed yet."""
        self._server = server_at(server, token, ca, cert, key)
        self._served = exchanges.ServedModel(
            str(self._server), Model(model, version, None if version is not None else label)
        )
        self._retry_policy = RetryPolicy(timeout, retries)
        self._connected: AsyncTransport | None = None

    async def verify(self, original: PictureSource, photo: PictureSource) -> Verdict:
        """The verdict on a pair of pictures. Raises PhotoproofError."""
        prepared = await asyncio.to_thread(lambda: (prepare(original, "original"), prepare(photo, "photo")))
        return await self._run(exchanges.verify(self._served, *prepared))

    def verify_many(self, pairs: Pairs, concurrency: int = 8) -> AsyncIterator[Verdict | PhotoproofError]:
        """The verdicts on a stream of (original, photo), plain or asynchronous, in its order.

        A pair that fails yields its error. At most `concurrency` pairs are asked about at a time, and no more than
        twice as many are read ahead.
        """
        if concurrency < 1:
            raise ValueError(f"concurrency is {concurrency}; it is 1 or more")
        return self._verify_many(pairs, concurrency)

    async def encode(self, picture: PictureSource) -> Embedding:
        """The embedding of an original, for `compare`. Raises PhotoproofError."""
        prepared = await asyncio.to_thread(prepare, picture)
        return await self._run(exchanges.encode(self._served, prepared))

    async def compare(self, embedding: Embedding, photo: PictureSource) -> Verdict:
        """The verdict on an original encoded before. Raises StaleEmbedding where another model serves now."""
        prepared = await asyncio.to_thread(prepare, photo, "photo")
        return await self._run(exchanges.compare(self._served, embedding, prepared))

    async def model_id(self) -> str:
        """The model_id of the model that serves, which every verdict and embedding of it carries.

        One small call to the model. Raises PhotoproofError.
        """
        return await self._run(exchanges.model_id(self._served))

    async def status(self) -> ServerStatus:
        """What the server serves, and whether the model is one that answers. Raises PhotoproofError."""
        return await self._run(exchanges.status(self._served))

    async def close(self) -> None:
        """Closes the connection; calls in flight fail."""
        if self._connected is not None:
            await self._connected.close()

    async def __aenter__(self) -> AsyncVerifier:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, exchange: exchanges.Exchange[exchanges.Result]) -> exchanges.Result:
        if self._connected is None:
            self._connected = connect_async(self._server)
        return await run_with_retries_async(exchange, self._connected, self._retry_policy)

    async def _verify_many(self, pairs: Pairs, concurrency: int) -> AsyncIterator[Verdict | PhotoproofError]:
        free_slots = asyncio.Semaphore(concurrency)
        pending: deque[asyncio.Task[Verdict | PhotoproofError]] = deque()

        async def verdict_or_error(original: PictureSource, photo: PictureSource) -> Verdict | PhotoproofError:
            async with free_slots:
                try:
                    return await self.verify(original, photo)
                except PhotoproofError as error:
                    return error

        try:
            async for original, photo in _iterate(pairs):
                pending.append(asyncio.create_task(verdict_or_error(original, photo)))
                if len(pending) >= 2 * concurrency:
                    yield await pending.popleft()
            while pending:
                yield await pending.popleft()
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)


async def _iterate(pairs: Pairs) -> AsyncIterator[tuple[PictureSource, PictureSource]]:
    if isinstance(pairs, AsyncIterable):
        async for pair in pairs:
            yield pair
    else:
        for pair in pairs:
            yield pair
