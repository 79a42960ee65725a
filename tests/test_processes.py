"""The model in several processes."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys

import pytest

CODE = """
import multiprocessing, sys
import torch
torch.set_num_threads(2)
from grepq_iqa import GRepQ

model, photo = GRepQ.from_pretrained(sys.argv[1], device="cpu", dtype="float32"), sys.argv[2]
alone = float(model.score(photo))

def score(path):
    return float(model.score(path))

with multiprocessing.get_context("fork").Pool(2) as pool:
    together = pool.map_async(score, [photo] * 4).get(timeout=60)
assert max(abs(score - alone) for score in together) < 1e-5, (alone, together)
"""


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork")
def test_a_pool_that_forks_after_the_model_was_used_does_not_hang(tiny_model, photos):
    command = [sys.executable, "-c", CODE, str(tiny_model), str(photos[0])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
