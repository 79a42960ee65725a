"""What the API answers, as types: the source of its OpenAPI description. Names are those of the command line's rows."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

Source = Literal["labels", "pairs", "ratings"]


class Row(BaseModel):
    """One picture; ``error`` is null when all went well, and then every number is there."""

    path: str = Field(description="Its name as sent: of the part, or the query's `name`; a label, never a path here.")
    warnings: list[str] = Field(description="Why to trust the numbers less, a sentence each.")
    error: str | None = Field(description="Why the picture cannot be used, else null.")


class ScoreRow(Row):
    """Zero-shot quality; higher is better."""

    score: float | None = Field(description="Q, the sum of the next two, in (0, 1.5).")
    low_level: float | None = Field(description="Q_L, in (0, 0.5].")
    high_level: float | None = Field(description="Q_H, in (0, 1).")
    percentile: float | None = Field(description="Share of in-the-wild photographs that score lower, 0 to 100.")


class PredictRow(Row):
    """Mean opinion score and its interval."""

    mos: float | None = Field(description="Predicted mean opinion score.")
    low: float | None = Field(description="Lower end of the interval; null where too few labels give none.")
    high: float | None = Field(description="Upper end.")


class ReasonOut(BaseModel):
    """One thing that may be wrong with a picture."""

    name: str
    amount: float
    percentile: float
    sentence: str


class ExplainRow(ScoreRow):
    """Why a picture scores as it does."""

    sentence: str | None = Field(description="One line: what is most serious, or that nothing stands out.")
    reasons: list[ReasonOut] = Field(description="What is wrong, the most serious first.")
    amounts: list[ReasonOut] = Field(description="All that was measured, in a fixed order.")
    map: str | None = Field(description="Where: a gray PNG in base64, white is worst; null unless asked for.")


class Answer(BaseModel):
    """Common to all answers with rows."""

    model: str = Field(description="By which.")


class ScoreAnswer(Answer):
    """Answer of `/v1/score`."""

    rows: list[ScoreRow] = Field(description="One for each picture, in their order.")


class PredictAnswer(Answer):
    """Answer of `/v1/predict`."""

    source: Source = Field(description="A fit on your labels or pairs, or others' ratings, from 0 to 100.")
    confidence: float
    rows: list[PredictRow] = Field(description="One for each picture, in their order.")


class ExplainAnswer(Answer):
    """Answer of `/v1/explain`."""

    rows: list[ExplainRow] = Field(description="One for each picture, in their order.")


class ModelOut(BaseModel):
    """The model that is loaded."""

    name: str
    encoder_hash: str = Field(description="64 hex digits that identify encoders and preprocessing.")
    feature_dim: int
    max_side: int | None = Field(description="Longer pictures are shrunk to this side; null: never.")
    max_pixels: int = Field(description="Pictures with more are refused.")
    device: str
    dtype: str
    predicts: Source | None = Field(description="Whence predictions come; null: there are none.")
    lower_is_better: bool = Field(description="Of predictions: labels measured distortion, so the lowest is the best.")
    explains: bool


class ModelsAnswer(BaseModel):
    """Answer of `/v1/models`."""

    version: str = Field(description="Of grepq-iqa.")
    models: list[ModelOut]


class ErrorAnswer(BaseModel):
    """Answer to a request that cannot be served."""

    error: str = Field(description="One sentence: what is wrong and what to do.")


class State(BaseModel):
    """Answer of `/healthz` and `/readyz`."""

    status: Literal["ok", "draining", "dead"]
