"""Integer products: exact, of each row alone, and close to those of floats."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sft_diversity.embedding.batches import encode  # noqa: E402
from sft_diversity.embedding.encoders import ENCODERS  # noqa: E402
from sft_diversity.embedding.int8 import _round_rows, quantize  # noqa: E402
from sft_diversity.embedding.sentence_transformer import open_encoder  # noqa: E402
from tests.embedding import make  # noqa: E402


def layer(rows=47, columns=33, bias=True):
    torch.manual_seed(0)
    exact = torch.nn.Linear(columns, rows, bias=bias).requires_grad_(False)
    model = torch.nn.Sequential(exact)
    quantize(model, "made")
    return exact, model[0]


@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_is_close_to_that_of_floats(bias):
    exact, rounded = layer(bias=bias)
    x = torch.randn(3, 5, 33) + 0.5
    error = (rounded(x) - exact(x)).abs()
    assert rounded(x).shape == (3, 5, 47)
    assert 0 < error.max() < 0.03 * exact(x).std() + 0.01


def test_integer_products_are_exact_at_the_greatest_integers_on_every_processor():
    """Without VNNI, sums of two products saturate in 16 bits where weights use all eight."""
    rounded = layer(16, 64)[1]
    assert rounded.weight.abs().max() == 63
    for inputs in (torch.full((40, 64), 127), torch.full((40, 64), -127)):
        weights = torch.full((16, 64), 63, dtype=torch.int8)
        product = torch._int_mm(inputs.to(torch.int8), weights.t())
        assert (product == 64 * 63 * inputs[0, 0]).all()


def test_a_row_does_not_depend_on_the_others():
    _, rounded = layer()
    x = torch.randn(40, 33)
    x[7] *= 1_000
    assert (rounded(x[3:5]) == rounded(x)[3:5]).all()


def test_rows_are_rounded_between_their_least_and_greatest():
    x = np.array([[-1, 0, 3], [2, 2, 2], [0, 0, 0], [-5, -4, -3]], np.float32)
    whole, steps = np.empty(x.shape, np.int8), np.empty((4, 2), np.float32)
    _round_rows(x, whole, steps)
    assert whole[[0, 3]].tolist() == [[-127, -64, 127], [-127, 0, 127]]
    np.testing.assert_allclose(whole * steps[:, :1] + steps[:, 1:], x, atol=2 / 127)
    np.testing.assert_array_equal(steps[:, 1], [1, 2, 0, -4])


@pytest.mark.parametrize("lost", [np.nan, -np.nan, np.inf, -np.inf])
def test_what_is_no_number_stays_none(lost):
    _, rounded = layer()
    x = torch.ones(4, 33)
    x[1, 5] = lost
    out = rounded(x)
    assert not out[1].isfinite().any()
    assert out[[0, 2, 3]].isfinite().all()


def test_a_text_has_the_same_vector_alone_and_among_others(tiny):
    found = ENCODERS.find(str(tiny))
    texts = [text for pair in make.pairs(20) for text in pair]
    encoder = open_encoder(found, "cpu", "int8", None)
    together = encode(encoder, texts, 64)[0]
    assert together[5:9].tobytes() == encode(encoder, texts[5:9], 64)[0].tobytes()
