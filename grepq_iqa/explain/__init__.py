"""Why a picture is poor, and where: measured amounts with sentences, and a map of quality over the picture."""

from grepq_iqa.explain.coloring import overlay

__all__ = ["overlay"]
