"""Draws the evaluation's pictures: which pairs to show, in which order, and what to say below them."""

from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from training.dataset.draws import hash_to_unit
from training.decision.decision import Decision
from training.decision.log_ratio import Floats
from training.evaluation.calibrate import reliability
from training.evaluation.explain import PairScorer, explain
from training.evaluation.metrics import roc
from training.evaluation.pairs import Pairs, by_group, in_team_mix
from training.model.autoencoder import Autoencoder
from training.model.images import decode
from training.report import figures
from training.report.explanation_figure import ExplainedPair, explanation_figure, label
from training.report.numbers import probability
from training.report.page import Illustration

SHEET = 16
"""Pairs on a contact sheet."""

NEAR = 96
"""Pixels a side of the products that an explained photo is most like."""


def illustrate(
    folder: Path,
    data: Path,
    scorer: PairScorer,
    tested: Pairs,
    baselines: dict[str, Floats],
) -> list[Illustration]:
    """Draw the evaluation's pictures into the folder; what the report shows, in its order."""
    decision = scorer.decision
    probabilities = decision.probability(tested.log_ratio)
    curves = by_group(
        tested,
        lambda group, rows: {
            name: roc(scores.ravel(), group.genuine.ravel())
            for name, scores in {
                **{name: scores[rows] for name, scores in baselines.items()},
                "model": group.log_ratio,
            }.items()
        },
    )
    histograms = by_group(
        tested, lambda group, rows: (probabilities[rows].ravel(), group.genuine.ravel(), group.hard.ravel())
    )
    bins, error = reliability(*in_team_mix(tested, decision))
    sheets = {
        "false_accepts": _cards(data, tested, probabilities, decision, ~tested.genuine, likeliest=True),
        "false_rejects": _cards(data, tested, probabilities, decision, tested.genuine, likeliest=False),
    }
    drawn = [
        (
            "roc",
            figures.roc_curves(curves),
            "True accepts against false accepts",
            "The false accept rate is on a log axis: an audit lives at its left end. Thin lines: 0.1 % and 1 %.",
        ),
        (
            "det",
            figures.det_curves(curves),
            "Both errors against each other",
            "Detection error tradeoff on normal-deviate axes: the nearer to the lower left, the better; on the thin "
            "line both errors are equally frequent.",
        ),
        (
            "scores",
            figures.score_histograms(histograms, decision),
            "Where the scores lie",
            "Calibrated probability of test pairs; the lines are reject_at and accept_at, what is shaded goes to a "
            "person.",
        ),
        (
            "false_accepts",
            figures.contact_sheet(sheets["false_accepts"]),
            "The likeliest impostors",
            f"Wrong claims with the highest probability, one a photo: claimed product ← product shown. A red frame is "
            f"a false accept (from {probability(decision.accept_at)} on).",
        ),
        (
            "false_rejects",
            figures.contact_sheet(sheets["false_rejects"]),
            "The least convincing genuine photos",
            f"Right claims with the lowest probability. A red frame is a false reject (below "
            f"{probability(decision.reject_at)}).",
        ),
        (
            "explanations",
            explanation_figure(explain_typical_pairs(scorer, data, tested), scorer.decision),
            "Why?",
            "Claimed product ← product shown. The map covers the photo piece by piece with grey: blue is where the "
            "claim loses log-odds by it, so what is there speaks for the claim, red where it gains. The command "
            "photoproof explain draws the same for any pair.",
        ),
        (
            "reconstructions",
            figures.reconstruction_sheet(_reconstructions(data, scorer.autoencoder, tested)),
            "What the latent keeps",
            "Test photos, what the decoder makes of their embedding, and the product's original, which it was trained "
            "to reconstruct.",
        ),
        (
            "reliability",
            figures.reliability_plot(bins, error, decision.prior_match),
            "Can the probability be taken at its word?",
            "On the diagonal, what was stated came true as often as stated. A dot's area is its share of the pairs.",
        ),
    ]
    illustrations = []
    for name, figure, title, caption in drawn:
        figures.save(figure, folder / f"{name}.png")
        illustrations.append(Illustration(folder / f"{name}.png", title, caption))
    return illustrations


def explain_typical_pairs(scorer: PairScorer, data: Path, pairs: Pairs) -> list[ExplainedPair]:
    """The likeliest impostor pair, the least convincing genuine one, and the genuine one in the middle."""
    probabilities = scorer.decision.probability(pairs.log_ratio)
    of_photos = probabilities[np.arange(len(probabilities)), pairs.truth]
    by_probability = np.argsort(of_photos, kind="stable")
    impostor = np.unravel_index(np.where(pairs.genuine, -1, probabilities).argmax(), probabilities.shape)
    accepted = probabilities[impostor] >= scorer.decision.accept_at
    rejected = of_photos[by_probability[0]] < scorer.decision.reject_at
    middle = by_probability[len(by_probability) // 2]
    chosen = [
        ("The worst false accept" if accepted else "The likeliest impostor (not accepted)", *impostor),
        (
            "The worst false reject" if rejected else "The least convincing genuine photo (not rejected)",
            by_probability[0],
        ),
        ("A typical genuine photo", middle),
    ]
    originals = pairs.originals.set_index("product_id")
    explained_pairs = []
    for title, row, *column in chosen:
        photo, original = pairs.photos.iloc[row], pairs.originals.iloc[column[0] if column else pairs.truth[row]]
        explanation = explain(scorer, *(_picture(data, path, scorer.size) for path in (original.path, photo.path)))
        nearest = [(originals.loc[product], cosine) for product, cosine in explanation.nearest]
        captioned = [(label(rival["name"], cosine), _picture(data, str(rival.path), NEAR)) for rival, cosine in nearest]
        title = f"{title}: {original['name']} ← {photo['name']}"
        explained_pairs.append(ExplainedPair(title, explanation, captioned))
    return explained_pairs


def _cards(
    data: Path, pairs: Pairs, probabilities: Floats, decision: Decision, among: NDArray[np.bool_], likeliest: bool
) -> list[figures.Card]:
    worth = np.where(among, probabilities if likeliest else -probabilities, -np.inf)
    columns = worth.argmax(axis=1)  # the worst of each photo
    worst = worth[np.arange(len(worth)), columns]
    cards = []
    for row in np.argsort(-worst, kind="stable")[:SHEET]:
        column, photo = columns[row], pairs.photos.iloc[row]
        original, own_probability = pairs.originals.iloc[column], float(probabilities[row, column])
        wrong = own_probability >= decision.accept_at if likeliest else own_probability < decision.reject_at
        cards.append(
            figures.Card(
                original=_picture(data, original.path),
                photo=_picture(data, photo.path),
                claimed=original["name"],
                shown=photo["name"],
                note=f"{probability(own_probability)} · cosine {pairs.similarity[row, column]:.2f} · "
                f"{'known' if photo.known else 'new'} · {photo.picture_id[-24:]}",
                wrong=bool(wrong),
            )
        )
    return cards


def _reconstructions(data: Path, autoencoder: Autoencoder, pairs: Pairs, count: int = 10) -> dict[str, Floats]:
    order = np.argsort([hash_to_unit("shown", str(photo)) for photo in pairs.photos.picture_id], kind="stable")[:count]
    size = autoencoder.encoder.input_shape[1]
    photos = np.stack([_picture(data, path, size) for path in pairs.photos.path.iloc[order]])
    originals = np.stack([_picture(data, path, size) for path in pairs.originals.path.iloc[pairs.truth[order]]])
    decoded = autoencoder.decoder(autoencoder.encoder(photos, training=False), training=False)
    return {"photo": photos, "reconstruction": np.asarray(decoded, np.float32), "original": originals}


def _picture(data: Path, path: str, size: int = 160) -> NDArray[np.float32]:
    return decode(tf.io.read_file(str(data / path)), size).numpy()
