"""Do scores order distortions of unlike kinds across contents, as TID2013 asks?

That set's pictures are not to be had here, so its 24 kinds are imitated on the middles (512 x 384) of twelve clean
photographs, shrunk to 60 %, each at a PSNR of 33, 27 and 21 dB or as near as it comes. The mean rank of five
full-reference measures (VSI, FSIM, MDSI, HaarPSI, MS-SSIM; `pip install piq`) stands in for opinions; each alone agrees
with TID2013's by .8 to .9. Printed: the median SRCC over 40 draws of three scenes, and what each kind is called.

Run: python studies/unlike_distortions.py PRISTINE [--held-out studies/reasons_held_out.txt] [--model NAME] [--kinds]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from held_out import photographs_of
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from grepq_iqa import GRepQ
from grepq_iqa.metrics import srcc
from grepq_iqa.training.data.distortions import Picture, through_file
from grepq_iqa.training.data.pictures import clean_start

Kind = Callable[[Picture, float, np.random.Generator], NDArray[np.floating]]

WIDTH, HEIGHT, SHRINK = 512, 384, 0.6
SCENES, DRAWS, DRAWN = 12, 40, 3
PSNR = (33, 27, 21)
LEAST, MOST, HALVINGS, NEAR = 0.0005, 0.3, 9, 0.4
KINDS: dict[str, Kind] = {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--held-out", type=Path, help="SHA-256 of the photographs to take, one a line")
    parser.add_argument("--model")
    parser.add_argument("--engine", default="torch", choices=("torch", "onnx"))
    parser.add_argument("--kinds", action="store_true", help="print each kind's mean ranks, too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    paths = photographs_of(options.paths, options.held_out)
    starts = [middle for path in paths if (middle := middle_of(clean_start(path, SHRINK))) is not None]
    model = GRepQ.from_pretrained(options.model, engine=options.engine, device="cpu")
    rows, scores, opinions = [], [], []
    for scene, clean in enumerate(starts[:: max(1, len(starts) // SCENES)][:SCENES]):
        for name, kind in KINDS.items():
            copies = [distorted(clean, kind, psnr, 2 * number) for number, psnr in enumerate(PSNR)]
            rows += [(scene, name, psnr) for psnr in PSNR]
            found = model.score([np.round(copy * 255).astype(np.uint8) for copy in copies])
            scores += [(one.score, one.low_level, one.high_level) for one in found]
            opinions.append(likeness(clean, copies))
    scene_of = np.array([row[0] for row in rows])
    opinion = ranks(np.concatenate(opinions)).mean(axis=1)
    rng = np.random.default_rng(0)
    parts = [np.isin(scene_of, rng.permutation(SCENES)[:DRAWN]) for _ in range(DRAWS)]
    for name, values in zip(("Q", "Q_L", "Q_H"), np.array(scores).T, strict=True):
        print(f"{name} {np.median([srcc(values[part], opinion[part]) for part in parts]):.3f}")
    if options.kinds:
        of_q = ranks(np.array(scores)[:, :1])[:, 0]
        for name in KINDS:
            line = [f"{name:18s}"]
            for psnr in PSNR:
                its = [i for i, row in enumerate(rows) if row[1:] == (name, psnr)]
                line.append(f"{psnr} dB: {of_q[its].mean():.2f}, opinion {opinion[its].mean():.2f}")
            print("  ".join(line))


def middle_of(picture: Picture) -> Picture | None:
    top, left = (picture.shape[0] - HEIGHT) // 2, (picture.shape[1] - WIDTH) // 2
    return None if min(top, left) < 0 else picture[top : top + HEIGHT, left : left + WIDTH]


def distorted(clean: Picture, kind: Kind, psnr: float, seed: int) -> Picture:
    """A copy with as much of a kind as makes the PSNR, found by halving, or the nearest there is."""
    low, high, best = LEAST, MOST, (np.inf, clean)
    for _ in range(HALVINGS):
        amount = (low * high) ** 0.5
        copy = (np.round(np.clip(kind(clean, amount, np.random.default_rng(seed)), 0, 1) * 255) / 255).astype(
            np.float32
        )
        found = -10 * np.log10(max(1e-9, float(((clean - copy) ** 2).mean())))
        best = min(best, (abs(found - psnr), copy), key=lambda pair: pair[0])
        if best[0] < NEAR:
            break
        low, high = (amount, high) if found > psnr else (low, amount)
    return best[1]


def likeness(clean: Picture, copies: list[Picture]) -> NDArray[np.float64]:
    """Five measures ``(n, 5)``, higher is better."""
    import piq

    shown = torch.from_numpy(np.stack(copies)).permute(0, 3, 1, 2)
    start = torch.from_numpy(clean).permute(2, 0, 1)[None].expand_as(shown)
    measures = [piq.vsi, piq.fsim, piq.haarpsi, piq.multi_scale_ssim]
    found = [measure(shown, start, reduction="none") for measure in measures]
    return torch.stack([*found, -piq.mdsi(shown, start, reduction="none")], dim=1).double().numpy()


def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks of every column, 0 to 1."""
    order: NDArray[np.float64] = values.argsort(axis=0).argsort(axis=0) / len(values)
    return order


def registered(function: Kind) -> Kind:
    KINDS[function.__name__] = function
    return function


def normal(x: Picture, rng: np.random.Generator) -> Picture:
    return rng.standard_normal(x.shape).astype(np.float32)


def blurred(x: Picture, sigma: float) -> Picture:
    found: Picture = ndimage.gaussian_filter(x, (sigma, sigma, 0))
    return found


def to_pil(x: Picture) -> Image.Image:
    return Image.fromarray(np.clip(np.round(x * 255), 0, 255).astype(np.uint8))


def from_pil(image: Image.Image) -> Picture:
    return np.asarray(image.convert("RGB"), np.float32) / 255


def to_ycc(x: Picture) -> Picture:
    return np.asarray(to_pil(x).convert("YCbCr"), np.float32) / 255


def from_ycc(y: NDArray[np.floating]) -> Picture:
    return from_pil(Image.fromarray(np.clip(np.round(y * 255), 0, 255).astype(np.uint8), "YCbCr"))


def through_jpeg2000(x: Picture, ratio: float) -> Picture:
    return through_file(x, "JPEG2000", quality_mode="rates", quality_layers=[ratio])


@registered
def gaussian_noise(x, a, rng):
    return x + a * normal(x, rng)


@registered
def color_noise(x, a, rng):
    return from_ycc(to_ycc(x) + a * normal(x, rng) * [0.3, 1, 1])


@registered
def correlated_noise(x, a, rng):
    noise = blurred(normal(x, rng), 1.2)
    return x + a * noise / noise.std()


@registered
def masked_noise(x, a, rng):
    detail = blurred(np.abs(x - blurred(x, 2)), 3)
    return x + a * normal(x, rng) * detail / detail.mean()


@registered
def high_frequency_noise(x, a, rng):
    noise = normal(x, rng)
    noise -= blurred(noise, 1)
    return x + a * noise / noise.std()


@registered
def impulse_noise(x, a, rng):
    hit = rng.random(x.shape) < a * a
    return np.where(hit, rng.random(x.shape) < 0.5, x)


@registered
def quantization(x, a, rng):
    step = a * 12**0.5
    return np.round(x / step) * step


@registered
def gaussian_blur(x, a, rng):
    return blurred(x, 40 * a)


@registered
def denoising(x, a, rng):
    return blurred(ndimage.median_filter(x + min(0.18, 1.5 * a) * normal(x, rng), (3, 3, 1)), 15 * a)


@registered
def jpeg(x, a, rng):
    return through_file(x, "JPEG", quality=int(np.clip(100 - 800 * a, 1, 98)))


@registered
def jpeg2000(x, a, rng):
    return through_jpeg2000(x, 4 + 1500 * a)


@registered
def jpeg_transmission(x, a, rng):
    shown = through_file(x, "JPEG", quality=60)
    for _ in range(int(60 * a) + 1):
        top = rng.integers(0, x.shape[0] // 8) * 8
        left, width = rng.integers(0, x.shape[1] // 8 - 6) * 8, rng.integers(4, 40) * 8
        strip = shown[top : top + 8, left : left + width].copy()
        shift = np.roll(strip, rng.integers(8, 40), 1)
        shown[top : top + 8, left : left + width] = shift + rng.uniform(-0.25, 0.25, 3) * min(1, 8 * a)
    return shown


@registered
def jpeg2000_transmission(x, a, rng):
    shown = through_jpeg2000(x, 20)
    for _ in range(int(40 * a) + 1):
        side = int(rng.integers(16, 64))
        top, left = rng.integers(0, x.shape[0] - side), rng.integers(0, x.shape[1] - side)
        part = shown[top : top + side, left : left + side]
        rows, columns = np.mgrid[:side, :side]
        wave = np.sin(rows * rng.uniform(0.1, 0.8) + columns * rng.uniform(0.1, 0.8))[..., None]
        window = np.outer(np.hanning(side), np.hanning(side))[..., None]
        shown[top : top + side, left : left + side] = part * (1 - window) + window * (blurred(part, 3) + 0.15 * wave)
    return shown


@registered
def moved_blocks(x, a, rng):
    shown = x.copy()
    for _ in range(int(9000 * a) + 1):
        top, left = rng.integers(8, x.shape[0] - 23), rng.integers(8, x.shape[1] - 23)
        down, right = rng.integers(-7, 8, 2)
        shown[top : top + 15, left : left + 15] = x[top + down : top + down + 15, left + right : left + right + 15]
    return shown


@registered
def colored_blocks(x, a, rng):
    shown = x.copy()
    for _ in range(int(1500 * a * a) + 1):
        top, left = rng.integers(0, x.shape[0] - 32), rng.integers(0, x.shape[1] - 32)
        shown[top : top + 32, left : left + 32] = rng.random(3)
    return shown


@registered
def mean_shift(x, a, rng):
    return x + a * rng.choice([-1, 1])


@registered
def contrast(x, a, rng):
    return x.mean() + (x - x.mean()) * (max(0.05, 1 - 5 * a) if rng.random() < 0.5 else 1 + 6 * a)


@registered
def desaturation(x, a, rng):
    colors = to_ycc(x)
    colors[..., 1:] = 0.5 + (colors[..., 1:] - 0.5) * (1 - min(1.6, 12 * a))
    return from_ycc(colors)


@registered
def multiplicative_noise(x, a, rng):
    return x * (1 + 2 * a * normal(x, rng))


@registered
def comfort_noise(x, a, rng):
    noise = normal(x, rng)
    noise -= blurred(noise, 2)
    shown = blurred(through_file(x, "JPEG", quality=int(np.clip(90 - 400 * a, 8, 95))), 10 * a)
    return shown + 0.8 * noise * np.abs(x - blurred(x, 2))


@registered
def compressed_noise(x, a, rng):
    return through_jpeg2000(np.clip(x + 0.8 * a * normal(x, rng), 0, 1), 4 + 300 * a)


@registered
def dithering(x, a, rng):
    return from_pil(to_pil(x).quantize(max(2, int(2 ** (7.5 - 55 * a))), dither=Image.Dither.FLOYDSTEINBERG))


@registered
def chromatic_aberration(x, a, rng):
    shift, shown = 1 + 60 * a, x.copy()
    shown[..., 0] = ndimage.shift(x[..., 0], (0.3 * shift, shift), order=1, mode="nearest")
    shown[..., 2] = ndimage.shift(x[..., 2], (-0.3 * shift, -shift), order=1, mode="nearest")
    return blurred(shown, min(1.0, 8 * a))


@registered
def sparse_sampling(x, a, rng):
    image, factor = to_pil(x), 1 + 40 * a
    small = image.resize((max(8, int(WIDTH / factor)), max(8, int(HEIGHT / factor))), Image.Resampling.NEAREST)
    return from_pil(small.resize(image.size, Image.Resampling.BICUBIC))


if __name__ == "__main__":
    main()
