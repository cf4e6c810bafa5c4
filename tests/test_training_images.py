"""Convolutional networks learn to read digits."""

import os
from pathlib import Path

import pytest

import fastfnn as ff

# The course's folder; elsewhere set FASTFNN_MNIST to one with the four files.
FULL = Path(os.environ.get("FASTFNN_MNIST") or Path(__file__).parents[2] / "shared" / "data" / "mnist")

pytestmark = [
    pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="takes minutes on the references"),
    pytest.mark.filterwarnings("error:.*no compiled form"),
]

OPTIMIZERS = {"momentum": lambda: ff.SGD(lr=0.01, momentum=0.9), "adam": lambda: ff.Adam(lr=0.002)}


def learn(make, train, test, **options):
    """The accuracy on `test` after `epochs` of training on `train`."""
    model = make(seed=0)
    history = ff.fit(model, *train, loss=ff.CrossEntropyLoss(), validation_data=test, seed=0, progress=False, **options)
    return history.val_accuracy[-1]


@pytest.mark.parametrize("make", [ff.models.lenet5, ff.models.small_cnn], ids=["LeNet-5", "small"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_convolutional_network_learns_the_embedded_sample(make, optimizer):
    train, test = ff.data.load_mnist_sample()
    assert learn(make, train, test, optimizer=OPTIMIZERS[optimizer](), epochs=4) >= 0.95


@pytest.mark.skipif(not FULL.is_dir(), reason="needs the full MNIST")
def test_lenet5_learns_the_full_set_in_one_epoch():
    train, test = ff.data.load_mnist(FULL)
    assert learn(ff.models.lenet5, train, test, optimizer=OPTIMIZERS["adam"](), epochs=1) >= 0.975
