"""Compiling and caching: never stale, silent but for one line, never in the way; and life without the JIT."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _helpers import run_python

import fastfnn_kernels
from fastfnn_kernels import _cache, _config

ANNOUNCEMENT = (
    "fastfnn: compiling kernels for this machine (probe), a few seconds each, once; "
    "later runs load them from the cache\n"
)

HELPER = """
from fastfnn_kernels._config import helper


@helper
def scaled(x):
    return x * 2
"""

KERNEL = """
from fastfnn_kernels import reference
from fastfnn_kernels._config import kernel
from fastfnn_kernels.probe_helper import scaled


@kernel(reference.relu)
def probe(out, x, tid, n_threads):
    for i in range(x.size):
        out[i] = scaled(x[i])
"""

RUN_PROBE = """
import numpy as np
from fastfnn_kernels.probe import probe

out = np.empty(3)
probe(out, np.arange(3.0))
print(out.tolist(), sum(probe.jitted.stats.cache_hits.values()))
"""


@pytest.fixture
def copied_package(tmp_path: Path) -> Path:
    """A copy of the kernels with one small kernel more, whose helper is in another file."""
    copy = tmp_path / "fastfnn_kernels"
    shutil.copytree(Path(fastfnn_kernels.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "probe_helper.py").write_text(HELPER, "utf-8")
    (copy / "probe.py").write_text(KERNEL, "utf-8")
    return copy


def run_copy(copy: Path, code: str, *flags: str, cache: Path | None = None) -> Any:
    cache = cache or copy.parent / "cache"
    done = run_python(code, *flags, cwd=copy.parent, PYTHONPATH=str(copy.parent), NUMBA_CACHE_DIR=str(cache))
    assert done.returncode == 0, done.stderr
    return done


def test_the_first_process_says_that_it_compiles_and_the_second_loads_and_is_silent(copied_package: Path) -> None:
    first = run_copy(copied_package, RUN_PROBE)
    assert (first.stdout, first.stderr) == ("[0.0, 2.0, 4.0] 0\n", ANNOUNCEMENT)
    second = run_copy(copied_package, RUN_PROBE)
    assert (second.stdout, second.stderr) == ("[0.0, 2.0, 4.0] 1\n", "")


def test_an_edit_in_a_helpers_file_reaches_the_cached_kernel(copied_package: Path) -> None:
    """numba alone would go on giving the old answer: the kernel's own file has not changed."""
    assert run_copy(copied_package, RUN_PROBE).stdout == "[0.0, 2.0, 4.0] 0\n"
    (copied_package / "probe_helper.py").write_text(HELPER.replace("x * 2", "x * 5"), "utf-8")
    edited = run_copy(copied_package, RUN_PROBE)
    assert (edited.stdout, edited.stderr) == ("[0.0, 5.0, 10.0] 0\n", ANNOUNCEMENT)


def test_the_cache_folder_depends_on_every_source_and_on_its_name(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    hashes = []
    for name, text in (("a.py", "1"), ("a.py", "2"), ("deep/b.py", "2"), ("deep/c.py", "2")):
        (tmp_path / name).write_text(text)
        hashes.append(_cache.source_hash(tmp_path))
    assert len(set(hashes)) == len(hashes)
    (tmp_path / "notes.txt").write_text("no source")
    assert _cache.source_hash(tmp_path) == hashes[-1]


def test_where_no_cache_can_be_written_everything_works_with_one_warning(copied_package: Path) -> None:
    in_the_way = copied_package.parent / "a_file"
    in_the_way.write_text("not a folder")
    code = RUN_PROBE + "\nfrom fastfnn_kernels.activations import relu\nrelu(out, -np.ones(3))\nprint(out.tolist())\n"
    done = run_copy(copied_package, code, "-W", "always", cache=in_the_way / "cache")
    assert done.stdout == "[0.0, 2.0, 4.0] 0\n[0.0, 0.0, 0.0]\n"
    assert done.stderr.count("RuntimeWarning: fastfnn compiles its kernels anew in every process") == 1
    assert done.stderr.count("Warning:") == 1
    said = [line for line in done.stderr.splitlines() if line.startswith("fastfnn: compiling")]
    assert said == [
        "fastfnn: compiling kernels for this machine (probe), a few seconds each",
        "fastfnn: compiling kernels for this machine (activations), a few seconds each",
    ], "no word of a cache that there is not"
    assert in_the_way.read_text() == "not a folder"


def test_importing_fastfnn_does_not_import_numba() -> None:
    code = """
import sys
import fastfnn
model = fastfnn.Sequential(fastfnn.Linear(3, 2), fastfnn.ReLU(), seed=0)
print(sorted({name.split(".")[0] for name in sys.modules} & {"numba", "llvmlite"}))
"""
    done = run_python(code)
    assert (done.stdout, done.stderr) == ("[]\n", "")


# Without the JIT ------------------------------------------------------------------------------------------------------


def test_without_the_jit_there_is_nothing_to_warm_up():
    done = run_python("import fastfnn as ff; print(ff.warmup(('float32', 'float64')) < 60)", NUMBA_DISABLE_JIT="1")
    assert done.stdout.strip() == "True", done.stderr


EVERYTHING = """
import json
import numpy as np
import fastfnn as ff
import fastfnn.functional as F
from fastfnn_kernels import _config

rng = np.random.default_rng(0)
x, g = rng.normal(size=(2, 5, 3)).astype(DTYPE)
a, b, bias = (rng.normal(size=shape).astype(DTYPE) for shape in ((4, 5), (5, 3), 3))
p, t = rng.uniform(0.1, 0.9, (2, 5, 3)).astype(DTYPE)
labels = np.array([0, 2, 1, 1, 0])
out = {
    "matmul": F.matmul(a, b),
    "matmul_backward": F.matmul_backward(g[:4], a, b),
    "linear": F.linear(a, b, bias),
    "linear_backward": F.linear_backward(g[:4], a, b),
    "log": F.log(p),
    "log_backward": F.log_backward(g, p),
    "leaky_relu": F.leaky_relu(x, 0.1),
    "leaky_relu_backward": F.leaky_relu_backward(g, x, 0.1),
}
for name in ("relu", "sigmoid", "tanh", "softmax", "log_softmax"):
    y = out[name] = getattr(F, name)(x)
    out[name + "_backward"] = getattr(F, name + "_backward")(g, y)
for reduction in ("mean", "sum", "none"):
    for name, prediction, targets in (
        ("nll_loss", -p, (labels, t)),
        ("cross_entropy", x, (labels, t)),
        ("binary_cross_entropy", p, (t,)),
        ("binary_cross_entropy_with_logits", x, (t,)),
        ("mse_loss", x, (t,)),
    ):
        for i, target in enumerate(targets):
            out[f"{name} {reduction} {i}"] = getattr(F, name)(prediction, target, reduction)
            out[f"{name}_backward {reduction} {i}"] = getattr(F, name + "_backward")(prediction, target, reduction)
out["smoothed"] = F.cross_entropy(x, labels, label_smoothing=0.1)

images, classes = rng.integers(0, 256, (40, 4, 4)).astype(np.uint8), rng.integers(0, 3, 40)
for name, optimizer in (("SGD", ff.SGD(lr=0.1, momentum=0.9, nesterov=True)), ("Adam", ff.Adam(lr=0.01))):
    model = ff.Sequential(
        ff.Flatten(), ff.Normalize(mean=0.5, std=0.3, scale=1 / 255), ff.Linear(16, 8), ff.ReLU(), ff.Linear(8, 6),
        ff.Tanh(), ff.Linear(6, 3), dtype=DTYPE, seed=0)
    history = ff.fit(model, images, classes, loss=ff.CrossEntropyLoss(), optimizer=optimizer, epochs=10,
                     batch_size=None, seed=0, progress=False)
    out[f"loss trace {name}"] = history.loss
    out[f"parameters {name}"] = model.parameters
    out[f"probabilities {name}"] = ff.predict_proba(model, images)

flat = lambda v: [e for part in v for e in flat(part)] if isinstance(v, tuple) else np.ravel(v).tolist()
print(json.dumps({"jit": _config.JIT, **{name: flat(value) for name, value in out.items()}}))
"""


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 1e-4)])
def test_without_the_jit_everything_gives_the_same_from_the_references(dtype: str, tolerance: float) -> None:
    """Every public function, and ten steps of two optimizers."""
    results = []
    for disabled in ("0", "1"):
        done = run_python(EVERYTHING.replace("DTYPE", repr(dtype)), NUMBA_DISABLE_JIT=disabled)
        assert done.returncode == 0, done.stderr
        results.append(json.loads(done.stdout))
    compiled, plain = results
    assert (compiled.pop("jit"), plain.pop("jit")) == (True, False)
    assert compiled.keys() == plain.keys()
    for name, values in compiled.items():
        np.testing.assert_allclose(values, plain[name], rtol=tolerance, atol=tolerance, err_msg=name)
    for name in ("loss trace SGD", "loss trace Adam"):
        assert len(compiled[name]) == 10
        assert compiled[name][-1] < 0.9 * compiled[name][0], "a trace of no training would prove nothing"


TRAINED = """
import hashlib, os
import numpy as np
import fastfnn as ff

if hasattr(os, "sched_getaffinity"):
    os.sched_getaffinity = lambda pid: {0}
os.cpu_count = lambda: 1  # one process compiles all that it runs
rng = np.random.default_rng(0)
x, y = rng.normal(size=(100, 37)), rng.integers(0, 5, 100)
layers = ff.Linear(37, 19), ff.BatchNorm1d(19), ff.Tanh(), ff.Linear(19, 5), ff.LogSoftmax()
model, optimizer = ff.Sequential(*layers, seed=0, dtype="float64"), ff.AdamW(0.01, weight_decay=0.1, clip_norm=0.5)
ff.fit(model, x, y, loss=ff.NLLLoss(), optimizer=optimizer, epochs=3, batch_size=32, seed=1, progress=False)
print(hashlib.sha256(model.parameters.tobytes()).hexdigest())
"""


@pytest.mark.skipif(not _config.JIT, reason="nothing is compiled")
def test_a_first_run_gives_the_bits_of_those_that_load_from_the_cache(tmp_path: Path) -> None:
    """What is compiled with a program is not what else the process has compiled of the same functions."""
    first, second = (run_python(TRAINED, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2))
    said = r"fastfnn: compiling kernels for this machine \((.*)\), about \d+ s, once; later runs load .* the cache\n"
    assert (found := re.fullmatch(said, first.stderr)), first.stderr
    assert found[1].split(", ") == ["dense", "normalization", "activations", "losses", "optimizers"]
    assert second.stderr == ""
    assert first.stdout == second.stdout != ""
