"""What a view is: the ranges of its crop, rotation, colours and noise, as one immutable value with a name."""

from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from isosphere.errors import UsageError, nearest

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Share = Annotated[float, Field(gt=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
PerView = Probability | Annotated[tuple[Probability, ...], Field(min_length=1)]


class ViewRecipe(BaseModel):
    """The law from which the views of an image are drawn.

    Geometry. ``placement="inside"`` draws a box anywhere inside the image, as a random resized crop does:
    ``scale`` is the share of the image's *area*, uniform, ``ratio`` its width over height, log-uniform.
    ``"centre"`` is a random affine map about the image's centre: ``scale`` is the share of the image's short
    *side*, uniform, shifted by up to ``translation`` (a share of that side, each way, each axis) and, in an
    image that is not square, anywhere along its long side. Both are
    then turned by up to ``rotation`` degrees each way and sheared by up to ``shear`` degrees; what leaves the
    image is filled according to ``padding``.

    Colour. With probability ``jitter_probability``: brightness, contrast and saturation are multiplied by a
    factor uniform in ``[1 - x, 1 + x]`` (not below 0) and the hue turned by up to ``hue`` of a full turn each
    way. ``grey``, ``blur``, ``solarise`` and ``erase`` are probabilities; ``blur`` and ``solarise`` may be
    tuples, one number per view in order (the last one holds for all further views). ``blur_sigma`` is a share
    of the view's side (2 px at 224 px: 0.0089). ``noise`` is the largest standard deviation of additive
    Gaussian noise on the scale [0, 1]; each view draws its own, uniform from 0; with ``grey_noise``
    the channels share it. ``erase_area`` is the share of the view's area that is blackened.

    Raises: pydantic's ValidationError, naming the field, for a value outside its range or an unknown field.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    global_views: int = Field(default=2, ge=1, le=64)
    local_views: int = Field(default=0, ge=0, le=64)
    size: int = Field(ge=4, le=4096)
    local_size: int | None = Field(default=None, ge=4, le=4096)

    placement: Literal["inside", "centre"] = "inside"
    scale: tuple[Share, Share] = (0.2, 1.0)
    local_scale: tuple[Share, Share] = (0.05, 0.3)
    ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    rotation: float = Field(default=0.0, ge=0.0, le=180.0)
    translation: float = Field(default=0.0, ge=0.0, le=1.0)
    shear: float = Field(default=0.0, ge=0.0, le=60.0)
    horizontal_flip: Probability = 0.5
    vertical_flip: Probability = 0.0
    padding: Literal["zeros", "reflection", "border"] = "zeros"

    jitter_probability: Probability = 0.8
    brightness: float = Field(default=0.4, ge=0.0, le=2.0)
    contrast: float = Field(default=0.4, ge=0.0, le=2.0)
    saturation: float = Field(default=0.2, ge=0.0, le=2.0)
    hue: float = Field(default=0.1, ge=0.0, le=0.5)
    grey: Probability = 0.2
    blur: PerView = 0.0
    blur_sigma: tuple[Positive, Positive] = (0.1 / 224, 2.0 / 224)
    solarise: PerView = 0.0
    solarise_threshold: Probability = 0.5
    noise: float = Field(default=0.0, ge=0.0, le=1.0)
    grey_noise: bool = False
    erase: Probability = 0.0
    erase_area: tuple[Share, Share] = (0.02, 0.2)

    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[Positive, ...] = IMAGENET_STD

    @field_validator("scale", "local_scale", "ratio", "blur_sigma", "erase_area")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError(
                f"got the range {value}; expected the smaller number first: ({value[1]}, {value[0]})"
            )
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.mean) != len(self.std) or not self.mean:
            raise ValueError(
                f"got {len(self.mean)} means and {len(self.std)} standard deviations; "
                "expected one of each for each channel, or 1 of each for all"
            )
        if self.placement == "inside" and self.translation > 0:
            raise ValueError(
                "translation moves a centred box, but placement='inside' already puts it anywhere: "
                "set placement='centre' or translation=0"
            )
        return self

    @property
    def views(self) -> int:
        """The number of views of an image, globals and locals together."""
        return self.global_views + self.local_views

    def is_global(self, view: int) -> bool:
        """Whether this view number is one of the globals, which come first."""
        return view < self.global_views

    def view_size(self, view: int) -> int:
        """The side in pixels of this view number."""
        return self.size if self.is_global(view) else (self.local_size or self.size)

    def view_scale(self, view: int) -> tuple[float, float]:
        """The range of scale of this view number."""
        return self.scale if self.is_global(view) else self.local_scale

    def probability(self, name: Literal["blur", "solarise"], view: int) -> float:
        """The probability of blur or solarisation in this view number."""
        value: float | tuple[float, ...] = getattr(self, name)
        return value if isinstance(value, float | int) else value[min(view, len(value) - 1)]


def _local_size(size: int) -> int:
    """A local view's side, in the proportion 98 : 224, even, not below 16."""
    return max(16, round(size * 7 / 32) * 2)


def _crops(size: int) -> dict[str, Any]:
    """Two random resized crops with colour jitter; no rotation."""
    return {
        "scale": (0.2, 1.0),
        "brightness": 0.4,
        "contrast": 0.4,
        "saturation": 0.2,
        "hue": 0.1,
        "grey": 0.2,
    }


def _lejepa(size: int) -> dict[str, Any]:
    """Two large and six small crops with colour jitter, as LeJEPA draws them."""
    return _crops(size) | {
        "local_views": 6,
        "local_size": _local_size(size),
        "scale": (0.3, 1.0),
        "local_scale": (0.05, 0.3),
        "blur": 0.5,
        "solarise": 0.2,
    }


def _dino(size: int) -> dict[str, Any]:
    """Two large and six small crops, with the blur and solarisation of DINO."""
    return _crops(size) | {
        "local_views": 6,
        "local_size": _local_size(size),
        "scale": (0.4, 1.0),
        "local_scale": (0.05, 0.4),
        "blur": (1.0, 0.1, 0.5),
        "solarise": (0.0, 0.2, 0.0),
    }


def _byol(size: int) -> dict[str, Any]:
    """Two crops with colour jitter; one is always blurred, the other sometimes solarised, as in BYOL."""
    return _crops(size) | {"scale": (0.08, 1.0), "blur": (1.0, 0.1), "solarise": (0.0, 0.2)}


def _simsiam(size: int) -> dict[str, Any]:
    """Two crops with colour jitter and some blur, as in SimSiam."""
    return _crops(size) | {"saturation": 0.4, "blur": 0.5}


def _distillation(size: int) -> dict[str, Any]:
    """One large crop in slightly other colours, for learning from another network."""
    return {
        "global_views": 1,
        "scale": (0.4, 1.0),
        "brightness": 0.3,
        "contrast": 0.3,
        "saturation": 0.2,
        "hue": 0.05,
    }


def _textures(size: int) -> dict[str, Any]:
    """Two crops about the middle in any rotation, for textures without a right way up."""
    return {
        "placement": "centre",
        "scale": (0.7, 0.9),
        "ratio": (1.0, 1.0),
        "rotation": 180.0,
        "translation": 0.1,
        "horizontal_flip": 0.0,
        "brightness": 0.2,
        "contrast": 0.2,
        "saturation": 0.0,
        "hue": 0.0,
        "grey": 0.0,
        "noise": 0.02,
        "grey_noise": True,
        "padding": "zeros",
    }


def _textures_paper(size: int) -> dict[str, Any]:
    """As textures, with the wider scales and shifts of the papers."""
    return _textures(size) | {
        "scale": (0.5, 1.0),
        "translation": 0.2,
        "shear": 10.0,
        "jitter_probability": 1.0,
        "brightness": 0.4,
        "contrast": 0.4,
        "noise": 0.1,
        "erase": 0.5,
        "erase_area": (0.02, 0.2),
    }


RECIPES: dict[str, Callable[[int], dict[str, Any]]] = {
    "crops": _crops,
    "lejepa": _lejepa,
    "dino": _dino,
    "byol": _byol,
    "simsiam": _simsiam,
    "distillation": _distillation,
    "textures": _textures,
    "textures-paper": _textures_paper,
}


def recipe(name: str, size: int, **overrides: Any) -> ViewRecipe:
    """The named recipe for views of ``size`` pixels, with any field overridden.

    ``crops``: two random resized crops with colour jitter. ``lejepa``: two global and six local crops. ``dino``: as
    many, with DINO's crops, blur and solarisation. ``byol``: asymmetric blur and solarisation. ``simsiam``: blur on
    half the views. ``distillation``: one crop of at least two fifths of the area, in other colours or grey, in which
    what a teacher says of the whole picture still holds. ``textures``: full rotation with mild photometry, for images
    without a right way up. ``textures-paper``: the same with the papers' strong affine map, photometry, noise and
    erasing.

    Raises: UsageError for an unknown name (the nearest is offered), an unknown field or a value out of range.
    """
    if name not in RECIPES:
        raise UsageError(
            f"Unknown recipe of views '{name}'.{nearest(name, RECIPES)} Known: {', '.join(RECIPES)}."
        )
    unknown = sorted(set(overrides) - set(ViewRecipe.model_fields))
    if unknown:
        raise UsageError(
            f"A recipe of views has no field '{unknown[0]}'.{nearest(unknown[0], ViewRecipe.model_fields)} "
            f"Known: {', '.join(ViewRecipe.model_fields)}."
        )
    try:
        return ViewRecipe.model_validate({"size": size} | RECIPES[name](size) | overrides)
    except ValueError as error:
        raise UsageError(_explain(error)) from error


def _explain(error: ValueError) -> str:
    """One sentence per wrong field, from pydantic's error."""
    details = error.errors() if hasattr(error, "errors") else []  # type: ignore[attr-defined]
    if not details:
        return str(error)
    return "Wrong recipe of views: " + "; ".join(
        f"{'.'.join(str(part) for part in d['loc']) or 'recipe'}: {d['msg']} (got {d['input']!r})"
        for d in details
    )
