r"""FSIM-c between all pairs of distorted copies of one photograph.

Zhang, Zhang, Mou and Zhang, "FSIM: A Feature Similarity Index for Image Quality Assessment", IEEE TIP 20(8), 2011.

The costly part, phase congruency, depends on one copy only, so nine copies need nine maps and not the 72 that
36 independent calls compute. Constants and rounding follow ``piq.fsim`` (data range 1), to which the result is equal.

Example:
    >>> import torch
    >>> fsim_matrix(torch.rand(9, 3, 256, 256)).shape
    torch.Size([9, 9])
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

SCALES, ORIENTATIONS = 4, 4
MIN_WAVELENGTH, MULTIPLIER, SIGMA_F, DELTA_THETA, NOISE_K = 6, 2, 0.55, 1.2, 2.0
T_PHASE, T_GRADIENT, T_CHROMA, CHROMA_EXPONENT = 0.85, 160.0, 200.0, 0.03
RGB_TO_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


def fsim_matrix(copies: Tensor) -> Tensor:
    """Symmetric ``(V, V)`` matrix of FSIM-c between the copies ``(V, 3, H, W)``, RGB in [0, 1]; ones on its diagonal.

    Raises:
        ValueError: the tensor is not ``(V, 3, H, W)``.
    """
    if copies.ndim != 4 or copies.shape[1] != 3:
        raise ValueError(f"expected copies of shape (V, 3, H, W), got {tuple(copies.shape)}")
    x = F.avg_pool2d(copies.float() * 255, max(1, round(min(copies.shape[-2:]) / 256)))
    y, i, q = torch.einsum("kc,vchw->kvhw", x.new_tensor(RGB_TO_YIQ), x)
    phase = torch.stack([phase_congruency(plane) for plane in y])
    gradient = _scharr_magnitude(y)

    count = len(x)
    matrix = torch.eye(count, dtype=x.dtype)
    for a in range(count - 1):
        b = slice(a + 1, count)
        weight = torch.maximum(phase[a], phase[b])
        chroma = _similarity(i[a], i[b], T_CHROMA) * _similarity(q[a], q[b], T_CHROMA)
        local = _similarity(phase[a], phase[b], T_PHASE) * _similarity(gradient[a], gradient[b], T_GRADIENT)
        local = local * chroma.abs() ** CHROMA_EXPONENT
        matrix[a, b] = matrix[b, a] = (local * weight).sum((1, 2)) / weight.sum((1, 2))
    return matrix


def phase_congruency(luma: Tensor) -> Tensor:
    """Phase congruency map of one luma plane ``(H, W)`` in [0, 255] (Kovesi's PC_2 with noise compensation)."""
    filters, filter_power, noise_gain = _log_gabor_bank(*luma.shape)
    spectrum = torch.fft.fft2(luma)
    eps = torch.finfo(luma.dtype).eps
    energy_sum, amplitude_sum = torch.zeros_like(luma), torch.zeros_like(luma)
    for orientation in range(ORIENTATIONS):
        response = torch.fft.ifft2(spectrum * filters[orientation])  # even part real, odd part imaginary
        amplitude = response.abs()
        total = response.sum(0)
        aligned = response * (total / (total.abs() + eps)).conj()
        energy = (aligned.real - aligned.imag.abs()).sum(0)

        median = (amplitude[0] ** 2).flatten().median()
        noise_power = -median / math.log(0.5) / filter_power[orientation]
        tau = torch.sqrt(noise_power * noise_gain[orientation] / 2)
        threshold = (tau * math.sqrt(math.pi / 2) + NOISE_K * tau * math.sqrt(2 - math.pi / 2)) / 1.7

        energy_sum += (energy - threshold).clamp_min(0)
        amplitude_sum += amplitude.sum(0)
    return (energy_sum + eps) / (amplitude_sum + eps)


@lru_cache(maxsize=8)
def _log_gabor_bank(height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Filters ``(orientations, scales, H, W)``, power of the finest scale and noise gain, both ``(orientations,)``."""
    u, v = torch.meshgrid(_frequencies(height), _frequencies(width), indexing="ij")
    radius, theta = torch.sqrt(u**2 + v**2), torch.atan2(-u, v)
    low_pass = torch.fft.ifftshift(1 / (1 + (radius / 0.45) ** 30))
    radius, theta = torch.fft.ifftshift(radius), torch.fft.ifftshift(theta)
    radius[0, 0] = 1  # its logarithm is taken; the gain there is set to zero below

    radial = []
    for scale in range(SCALES):
        center = 1 / (MIN_WAVELENGTH * MULTIPLIER**scale)
        gain = torch.exp(-(torch.log(radius / center) ** 2) / (2 * math.log(SIGMA_F) ** 2)) * low_pass
        gain[0, 0] = 0
        radial.append(gain)

    theta_sigma = math.pi / (ORIENTATIONS * DELTA_THETA)
    angular = []
    for orientation in range(ORIENTATIONS):
        difference = theta - orientation * math.pi / ORIENTATIONS
        distance = torch.atan2(torch.sin(difference), torch.cos(difference)).abs()
        angular.append(torch.exp(-(distance**2) / (2 * theta_sigma**2)))
    bank = torch.stack(angular)[:, None] * torch.stack(radial)[None]

    impulse = torch.fft.ifft2(bank).real * math.sqrt(height * width)
    noise_gain = 2 * (impulse.sum(1) ** 2).sum((1, 2))  # = 2 sum_i A_i^2 + 4 sum_{i<j} A_i A_j
    return bank, (bank[:, 0] ** 2).sum((1, 2)), noise_gain


def _frequencies(size: int) -> Tensor:
    """Centered frequency axis, as MATLAB's FSIM builds it: odd sizes span [-1/2, 1/2]."""
    if size % 2:
        return torch.arange(-(size - 1) / 2, size / 2) / (size - 1)
    return torch.arange(-size / 2, size / 2) / size


def _similarity(a: Tensor, b: Tensor, constant: float) -> Tensor:
    return (2 * a * b + constant) / (a**2 + b**2 + constant)


def _scharr_magnitude(planes: Tensor) -> Tensor:
    kernel = planes.new_tensor([[-3.0, 0.0, 3.0], [-10.0, 0.0, 10.0], [-3.0, 0.0, 3.0]]) / 16
    kernels = torch.stack([kernel, kernel.T])[:, None]
    result: Tensor = torch.linalg.vector_norm(F.conv2d(planes[:, None], kernels, padding=1), dim=1)
    return result
