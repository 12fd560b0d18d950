"""The client against the local model server, over both protocols."""

import asyncio
import dataclasses
import io
import pickle
import threading

import numpy as np
import pytest
from PIL import Image

from photoproof import (
    AsyncVerifier,
    Embedding,
    InvalidImage,
    ModelNotFound,
    StaleEmbedding,
    Verdict,
    Verifier,
)

PROTOCOLS = ["grpc_url", "rest_url"]


@pytest.fixture(params=PROTOCOLS, ids=["grpc", "rest"])
def url(request, model_server) -> str:
    return getattr(model_server, request.param)


@pytest.fixture
def verifier(url):
    with Verifier(url, timeout=60) as verifier:
        yield verifier


@pytest.fixture(scope="module")
def pairs(scene, encoded) -> list[tuple[bytes, bytes]]:
    return [(encoded(scene(2 * i)), encoded(scene(2 * i + 1))) for i in range(20)]


def test_a_verdict_holds_what_the_model_said(verifier, pair):
    verdict = verifier.verify(*pair)
    assert verdict.outcome in ("match", "mismatch", "review")
    assert (verdict.accept_at, verdict.reject_at) == (0.9, 0.5)
    assert verdict.distance == pytest.approx(np.sqrt(2 - 2 * verdict.similarity), abs=1e-3)
    assert verdict.model_name == "product-encoder" and verdict.model_id == "toy-1"
    assert verdict.reason.startswith(f"probability {verdict.probability:.3f} is ")


def test_both_protocols_give_the_same_verdicts_but_for_the_version(model_server, pairs):
    with Verifier(model_server.grpc_url) as over_grpc, Verifier(model_server.rest_url) as over_rest:
        for original, photo in pairs:
            grpc_verdict, rest_verdict = over_grpc.verify(original, photo), over_rest.verify(original, photo)
            assert grpc_verdict.model_version == 1 and rest_verdict.model_version is None
            assert dataclasses.replace(grpc_verdict, model_version=None) == rest_verdict


def test_the_outcomes_follow_the_thresholds(verifier, pairs):
    outcomes = set()
    for original, photo in pairs:
        verdict = verifier.verify(original, photo)
        outcomes.add(verdict.outcome)
        expected = "match" if verdict.probability >= 0.9 else "mismatch" if verdict.probability < 0.5 else "review"
        assert verdict.outcome == expected
    assert len(outcomes) > 1


def test_a_copy_of_the_original_is_identical_and_no_server_is_asked(pair):
    with Verifier("grpc://127.0.0.1:1", timeout=1) as verifier:
        verdict = verifier.verify(pair[0], pair[0].read_bytes())
    assert verdict.outcome == "identical"
    assert (verdict.probability, verdict.similarity, verdict.model_version, verdict.model_id) == (None,) * 4
    assert verdict.original_sha256 == verdict.photo_sha256


def test_a_bad_picture_is_named_by_its_role(verifier, pair):
    with pytest.raises(InvalidImage, match=r"^photo: is not a picture"):
        verifier.verify(pair[0], b"rubbish")
    with pytest.raises(InvalidImage, match=r"^original: is empty"):
        verifier.verify(b"", pair[1])


def test_an_encoded_original_gives_the_same_verdict(verifier, pair):
    embedding = verifier.encode(pair[0])
    assert embedding.vector.dtype == np.float32
    assert np.linalg.norm(embedding.vector) == pytest.approx(1, abs=1e-5)
    verdict, compared = verifier.verify(*pair), verifier.compare(embedding, pair[1])
    assert compared.probability == pytest.approx(verdict.probability, abs=1e-4)
    assert (compared.outcome, compared.original_sha256) == (verdict.outcome, verdict.original_sha256)


def test_the_original_itself_compared_is_identical(verifier, pair):
    assert verifier.compare(verifier.encode(pair[0]), pair[0]).outcome == "identical"


def test_a_copy_saved_again_is_identical_to_an_original_encoded_and_kept(verifier, pair, encoded):
    embedding = pickle.loads(pickle.dumps(verifier.encode(pair[0])))
    copy = encoded(Image.open(io.BytesIO(pair[0].read_bytes())), quality=80)
    verdict = verifier.compare(embedding, copy)
    assert verdict == verifier.verify(pair[0], copy)
    assert verdict.outcome == "identical" and verdict.original_sha256 == embedding.sha256
    bare = Embedding(embedding.vector, embedding.model_id, embedding.sha256)
    assert verifier.compare(bare, copy).outcome != "identical"
    assert verifier.compare(bare, pair[0]).outcome == "identical"


def test_an_embedding_of_another_model_is_stale(verifier, pair):
    embedding = dataclasses.replace(verifier.encode(pair[0]), model_id="toy-0")
    with pytest.raises(StaleEmbedding, match="toy-0, but toy-1 serves"):
        verifier.compare(embedding, pair[1])


def test_an_embedding_of_another_size_is_stale(verifier, pair):
    with pytest.raises(StaleEmbedding, match="has 3 numbers"):
        verifier.compare(Embedding(np.ones(3, np.float32), "toy-1"), pair[1])


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ({"model": "no-model"}, "has no model no-model"),
        ({"label": "canary"}, r"has no product-encoder with label 'canary' \(available versions: 1\)"),
        ({"version": 7}, r"has no product-encoder version 7 \(available versions: 1\)"),
    ],
    ids=["model", "label", "version"],
)
def test_a_model_that_is_not_there_is_named_with_what_is(url, pair, which, message):
    with Verifier(url, timeout=60, **which) as verifier, pytest.raises(ModelNotFound, match=message):
        verifier.verify(*pair)


@pytest.mark.parametrize("which", [{"version": 1}, {"label": None}], ids=["number", "newest"])
def test_a_version_by_number_and_the_newest_answer_too(url, pair, which):
    with Verifier(url, timeout=60, **which) as verifier:
        assert verifier.verify(*pair).model_id == "toy-1"


def test_the_status_says_what_is_served(verifier, url):
    status = verifier.status()
    assert status.server == url
    assert status.version == 1 and status.missing == ()
    assert [(version.version, version.state) for version in status.versions] == [(1, "AVAILABLE")]


def test_the_status_of_a_label_that_is_not_there_has_no_version(url):
    with Verifier(url, timeout=60, label="canary") as verifier:
        status = verifier.status()
    assert status.version is None and len(status.versions) == 1


def test_the_status_of_no_model_is_model_not_found(url):
    with Verifier(url, timeout=60, model="no-model") as verifier, pytest.raises(ModelNotFound):
        verifier.status()


def test_the_model_that_serves_is_named_as_its_verdicts_name_it(verifier, pair):
    assert verifier.model_id() == verifier.verify(*pair).model_id == "toy-1"


def test_the_model_that_serves_is_named_in_asyncio_too(url):
    async def ask() -> str:
        async with AsyncVerifier(url, timeout=60) as asynchronous:
            return await asynchronous.model_id()

    assert asyncio.run(ask()) == "toy-1"


def test_no_model_has_no_model_id(url):
    with Verifier(url, timeout=60, label="canary") as verifier, pytest.raises(ModelNotFound, match="label 'canary'"):
        verifier.model_id()


def test_many_pairs_come_back_in_order_each_bad_one_as_its_error(verifier, pairs):
    asked = [*pairs[:7], (pairs[0][0], b"rubbish"), (None, pairs[0][0]), *pairs[7:]]
    answers = list(verifier.verify_many(iter(asked), concurrency=4))
    assert [type(answer) for answer in answers] == [Verdict] * 7 + [InvalidImage] * 2 + [Verdict] * 13
    good = [answer for answer in answers if isinstance(answer, Verdict)]
    assert good == [verifier.verify(*pair) for pair in pairs]


def test_a_stream_is_read_no_further_ahead_than_twice_the_concurrency(verifier, pairs):
    read = 0

    def endless():
        nonlocal read
        while True:
            read += 1
            yield pairs[read % len(pairs)]

    answers = verifier.verify_many(endless(), concurrency=3)
    for _ in range(5):
        next(answers)
    assert read <= 5 + 2 * 3
    answers.close()


def test_no_stream_is_asked_about_with_no_concurrency(verifier):
    with pytest.raises(ValueError, match="concurrency is 0"):
        verifier.verify_many([], concurrency=0)


def test_one_verifier_serves_many_threads(verifier, pairs):
    expected = [verifier.verify(*pair) for pair in pairs]
    verdicts_of: dict[int, list[Verdict]] = {}

    def work(number: int) -> None:
        verdicts_of[number] = [verifier.verify(*pair) for pair in pairs]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(verdicts_of) == 8 and all(verdicts == expected for verdicts in verdicts_of.values())


def test_asyncio_gives_the_same_verdicts(verifier, url, pairs):
    async def ask():
        async with AsyncVerifier(url, timeout=60) as asynchronous:
            verdict = await asynchronous.verify(*pairs[0])
            embedding = await asynchronous.encode(pairs[0][0])
            compared = await asynchronous.compare(embedding, pairs[0][1])
            status = await asynchronous.status()
            asked = [*pairs, (pairs[0][0], b"rubbish")]
            many = [answer async for answer in asynchronous.verify_many(asked, concurrency=4)]
            return verdict, compared, status, many

    verdict, compared, status, many = asyncio.run(ask())
    assert verdict == verifier.verify(*pairs[0])
    assert compared.probability == pytest.approx(verdict.probability, abs=1e-4)
    assert status == verifier.status()
    assert many[:-1] == [verifier.verify(*pair) for pair in pairs]
    assert isinstance(many[-1], InvalidImage)


def test_asyncio_takes_an_asynchronous_stream_and_may_leave_it_early(url, pairs):
    async def stream():
        for pair in pairs:
            yield pair

    async def ask() -> int:
        async with AsyncVerifier(url, timeout=60) as asynchronous:
            count = 0
            answers = asynchronous.verify_many(stream(), concurrency=2)
            async for _ in answers:
                count += 1
                if count == 3:
                    break
            await answers.aclose()  # type: ignore[attr-defined]
            return count

    assert asyncio.run(ask()) == 3


@pytest.mark.parametrize(
    ("address", "options", "message"),
    [
        ("localhost:8500", {}, "not a server address"),
        ("ftp://localhost", {}, "not a server address"),
        ("grpc://", {}, "not a server address"),
        ("grpc://localhost:port", {}, "not a server address"),
        ("http://user:secret@localhost", {}, "password"),
        ("http://unix:/run/serving", {}, "grpc://unix:/PATH"),
        ("grpc://unix:", {}, "grpc://unix:/PATH"),
        ("http://..", {}, "can't be looked up"),
        ("grpc://a..b:8500", {}, "can't be looked up"),
        ("http://\N{SNOWMAN}.com", {}, "not a server address"),
        ("grpc://localhost", {"ca": "/nowhere"}, "not encrypted"),
        ("grpcs://localhost", {"ca": "/nowhere"}, "no such file"),
        ("grpcs://localhost", {"ca": __file__}, "test_verifier.py can't be read as a PEM file"),
        ("https://localhost", {"ca": __file__}, "test_verifier.py can't be read as a PEM file"),
        ("grpcs://localhost", {"cert": __file__, "key": __file__}, "test_verifier.py can't be read as PEM files"),
        ("grpcs://localhost", {"cert": __file__}, "needs its key"),
        ("grpc://localhost", {"timeout": 0}, "timeout"),
        ("grpc://localhost", {"retries": -1}, "retries"),
        ("http://localhost", {"token": "a\nb"}, "token"),
    ],
)
@pytest.mark.parametrize("kind", [Verifier, AsyncVerifier])
def test_an_address_or_option_that_makes_no_sense_is_refused_at_once(kind, address, options, message):
    with pytest.raises(ValueError, match=message):
        kind(address, **options)


def test_a_token_is_never_shown():
    from photoproof.transport.address import server_at

    assert "secret" not in repr(server_at("https://gateway/photoproof", token="secret"))
