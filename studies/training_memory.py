"""What a training step of recipe `paper` takes: parameters, states, activations, arithmetic; by counting, on the CPU.

    python studies/training_memory.py

Activations are the tensors that autograd keeps for the gradients, counted once each for one picture and multiplied by
the batch; arithmetic is torch's own count of floating-point operations, forward and backward. What a GPU's libraries
take beside that (some hundred MB to 1 GB) is not in it, nor what the recomputation of one block takes. No GPU was at
hand where this was written; there bf16 also halves what BatchNorm keeps, which stays float32 on a CPU.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from grepq_iqa.encoders.high_level import HighLevelEncoder
from grepq_iqa.encoders.low_level import LowLevelEncoder
from grepq_iqa.training.high_level.clip_tower import ClipRecipe, checkpoint_tower, clip_config
from grepq_iqa.training.recipe import LowLevelRecipe, load_recipe

COUNTED = 2
"""Pictures of the step that is counted."""


def main() -> None:
    low, high = load_recipe("paper", "low_level", LowLevelRecipe), load_recipe("paper", "high_level", ClipRecipe)
    copies = 1 + low.distortions_per_image * low.levels_per_distortion
    print(f"{'':34} pictures a step  parameters M  states GB  activations GB  TFLOP a step")
    for bf16 in (False, True):
        name = "bf16" if bf16 else "float32"
        report(f"low level, {name}", LowLevelEncoder(), 2 * low.batch_images * copies, bf16)
        for checkpointed in (False, True):
            encoder = HighLevelEncoder(clip_config(high.model))
            if checkpointed:
                checkpoint_tower(encoder)
            report(f"high level, {name}{', checkpointed' if checkpointed else ''}", encoder, high.batch_size, bf16)


def report(name: str, model: nn.Module, batch: int, bf16: bool) -> None:
    kept, flops = count(model.train(), bf16)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    states = 4 * 4 * parameters / 1e9  # float32: weights, gradients, two moments of Adam
    print(
        f"{name:34} {batch:15} {parameters / 1e6:13.1f} {states:10.2f} {kept * batch / 1e9:15.2f} "
        f"{flops * batch / 1e12:13.2f}"
    )


def count(model: nn.Module, bf16: bool) -> tuple[float, float]:
    """Bytes that autograd keeps and floating-point operations, both a picture."""
    pictures = torch.rand(COUNTED, 3, 224, 224)
    seen: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    with FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                found = model(pictures)
            output = found if isinstance(found, torch.Tensor) else found.embedding
            loss = output.float().square().mean()
            kept = sum(size for pointer, size in seen.items() if pointer not in own)
        loss.backward()
    return kept / COUNTED, counter.get_total_flops() / COUNTED


if __name__ == "__main__":
    main()
