"""What a report shows."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sft_diversity.core.config import Config
from sft_diversity.core.corpus import Component


class ReportConfig(Config):
    """What a report shows."""

    title: str | None = Field(
        default=None, min_length=1, description="of the page; default: the names of the folders"
    )
    layout: Literal["tsne", "pca", "none"] = Field(
        default="tsne",
        description="how the map is laid out: tsne (neighbours stay together; the last digits may "
        "differ between machines), pca (linear, instant, blurred) or none",
    )
    component: Component | None = Field(
        default=None, description="whose embeddings the map shows; default: the strategy's"
    )
    map_points: int = Field(
        default=2_500, ge=100, le=20_000, description="corpus samples that make the map"
    )
    map_picks: int = Field(
        default=600, ge=10, le=5_000, description="samples of each subset drawn on the map"
    )
    samples: int = Field(
        default=8, ge=0, le=100, description="samples to read of each sort; 0 leaves texts out"
    )
    characters: int = Field(
        default=1_200, ge=50, le=20_000, description="of each text that is shown"
    )
    seed: int = Field(default=0, ge=0, description="of all that is drawn for the page")
