"""What is written down of an encoder beside its weights, so that the same network can be built again."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from isosphere.errors import RunError

Stem = Literal["small", "full"]
"""``small``: a residual network's 3x3 convolution of stride 1 without max-pool; ``full``: its own."""
CropMode = Literal["center", "squash", "border"]
"""What timm's evaluation transform does with a picture that is no square."""

_Text = Annotated[str, Field(min_length=1, max_length=200)]
_Side = Annotated[int, Field(ge=8, le=4096)]


class _Closed(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


class Arguments(_Closed):
    """What timm's constructor was given of the size of the images, and of the network where a description on the Hub
    or a configuration says it; nothing else may be passed on from a file.
    """

    model_config = ConfigDict(extra="forbid")

    img_size: _Side | None = None
    dynamic_img_size: bool | None = None
    strict_img_size: bool | None = None

    patch_size: Annotated[int, Field(ge=1, le=128)] | None = None
    embed_dim: Annotated[int, Field(ge=1, le=8192)] | None = None
    depth: Annotated[int, Field(ge=1, le=128)] | None = None
    num_heads: Annotated[int, Field(ge=1, le=128)] | None = None
    mlp_ratio: Annotated[float, Field(gt=0, le=16)] | None = None
    init_values: Annotated[float, Field(ge=0, le=10)] | None = None
    reg_tokens: Annotated[int, Field(ge=0, le=64)] | None = None
    global_pool: Annotated[str, Field(max_length=32)] | None = None
    class_token: bool | None = None
    no_embed_class: bool | None = None
    qkv_bias: bool | None = None
    pre_norm: bool | None = None
    fc_norm: bool | None = None
    drop_path_rate: Annotated[float, Field(ge=0, lt=1)] | None = None

    def given(self) -> dict[str, Any]:
        """Those that are given, as keywords."""
        return self.model_dump(exclude_none=True)

    @property
    def of_the_network(self) -> dict[str, Any]:
        """Those that no size of the images decides."""
        return {key: value for key, value in self.given().items() if not key.endswith("img_size")}


class PretrainedCfg(_Closed):
    """What timm calls `pretrained_cfg`: the pixels that weights were made for, and whose they are."""

    model_config = ConfigDict(extra="ignore")

    architecture: _Text | None = None
    tag: _Text | None = None
    input_size: Annotated[list[Annotated[int, Field(ge=1, le=4096)]], Field(min_length=3, max_length=3)]
    interpolation: _Text = "bicubic"
    crop_pct: Annotated[float, Field(gt=0, le=1)] = 0.875
    crop_mode: CropMode = "center"
    mean: Annotated[list[float], Field(min_length=1, max_length=1024)]
    std: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1, max_length=1024)]
    license: _Text | None = None

    @classmethod
    def of(cls, cfg: Mapping[str, Any]) -> Self | None:
        """That of a mapping of timm's, None if it tells too little. Raises: ValidationError."""
        plain = {key: list(x) if isinstance(x, tuple) else x for key, x in cfg.items() if x is not None}
        if isinstance(plain.get("crop_pct"), float):  # 1.15 of VOLO's largest: bars around the whole picture
            plain["crop_pct"] = min(plain["crop_pct"], 1.0)
        return cls.model_validate(plain) if {"input_size", "mean", "std"} <= plain.keys() else None

    @property
    def name(self) -> str:
        """Such as ``resnet18.a1_in1k``."""
        return ".".join(filter(None, [self.architecture, self.tag]))

    @property
    def size(self) -> int:
        """Side of the images, in pixels."""
        return self.input_size[-1]

    def as_mapping(self) -> dict[str, Any]:
        """As timm has it."""
        return self.model_dump(exclude_none=True)


class EncoderRecord(_Closed):
    """The content of ``encoder.json``. `stem` and `arguments` are absent in files of earlier versions, which decided
    them by name and size; `start` is the digest of the weights that a training from given ones began with,
    `pretrained_cfg` what was said of them, or `assumed` of their architecture. With `crop_pct` pictures are read by
    timm's evaluation transform: that of the weights that the network began with.
    """

    name: _Text
    image_size: _Side
    in_chans: Annotated[int, Field(ge=1, le=1024)]
    feature_dim: Annotated[int, Field(ge=1, le=2**20)]
    mean: Annotated[list[float], Field(min_length=1, max_length=1024)]
    std: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1, max_length=1024)]
    interpolation: _Text = "bicubic"
    crop_pct: Annotated[float, Field(gt=0, le=1)] | None = None
    crop_mode: CropMode | None = None
    stem: Stem | None = None
    arguments: Arguments | None = None
    start: _Text | None = None
    pretrained_cfg: PretrainedCfg | None = None
    assumed: bool | None = None
    weights: _Text = "student"
    seed: int = 0
    step: Annotated[int, Field(ge=0)] = 0

    @classmethod
    def parse(
        cls, spec: Mapping[str, Any], where: object = "the description of the encoder"
    ) -> "EncoderRecord":
        """The record in a mapping, such as ``encoder.json`` holds. Raises: RunError in one sentence if it is none."""
        try:
            record = cls.model_validate(spec)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(map(str, first["loc"])) or "it"
            got = "" if first["type"] == "missing" else f" (got {str(first['input'])[:60]!r})"
            said = first["msg"][:1].lower() + first["msg"][1:]
            raise RunError(f"{where} is damaged: {key}: {said}{got}.") from None
        if not len(record.mean) == len(record.std) == record.in_chans:
            raise RunError(
                f"{where} is damaged: mean has {len(record.mean)} and std {len(record.std)} values, and there are "
                f"{record.in_chans} channels."
            )
        return record

    def as_spec(self) -> dict[str, Any]:
        """What describes the network, as plain values; `weights`, `seed` and `step` are of a training."""
        return self.model_dump(mode="json", exclude_none=True, exclude={"weights", "seed", "step"})
