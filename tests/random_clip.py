"""A checkpoint with the layout of open_clip's RN50-quickgelu and random weights, for tests."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor


def random_clip() -> dict[str, Tensor]:
    """State dict of the whole model, float16 as OpenAI's is, scaled so that every layer contributes."""
    import open_clip
    from open_clip.model import CLIP

    with torch.device("meta"):  # names and shapes; 102 million properly initialized numbers would take seconds
        shapes = CLIP(**open_clip.get_model_config("RN50-quickgelu")).state_dict()
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((1 << 20) + 7, generator=generator)

    def normal(shape: torch.Size, std: float) -> Tensor:
        count = shape.numel()
        start = int(torch.randint(len(noise), (1,), generator=generator))
        return (noise.roll(start).repeat(count // len(noise) + 1)[:count] * std).reshape(shape)

    state = {}
    for name, meta in shapes.items():
        if not meta.is_floating_point():
            state[name] = torch.zeros(meta.shape, dtype=meta.dtype)
        elif meta.ndim > 1:
            state[name] = normal(meta.shape, meta[0].numel() ** -0.5)
        elif name.endswith("running_var") or name.endswith("weight"):
            state[name] = 1 + normal(meta.shape, 0.1).clamp(-0.5, 0.5)
        else:
            state[name] = normal(meta.shape, 0.05)
    return {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def write_random_clip(path: Path) -> dict[str, Tensor]:
    """Write ``random_clip()`` as safetensors and return it."""
    from safetensors.torch import save_file

    state = random_clip()
    save_file(state, path)
    return state


def text_reference(state: dict[str, Tensor], sentences: list[str]) -> Tensor:
    """Unit vectors of sentences by open_clip's whole CLIP class, with a toy image tower; ``(n, 1024)``."""
    import open_clip
    from open_clip.model import CLIP

    config = open_clip.get_model_config("RN50-quickgelu")
    model = CLIP(**{**config, "vision_cfg": {**config["vision_cfg"], "layers": [1, 1, 1, 1], "width": 8}}).eval()
    text = {name: tensor.float() for name, tensor in state.items() if not name.startswith("visual.")}
    missing, unexpected = model.load_state_dict(text, strict=False)
    assert not unexpected
    assert all(name.startswith("visual.") for name in missing)
    with torch.no_grad():
        return model.encode_text(open_clip.get_tokenizer("RN50-quickgelu")(sentences), normalize=True)
