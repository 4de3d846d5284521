"""One schema of a run: every flag of the command line is an alias of one of these keys."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from isosphere.addresses import public
from isosphere.data import AUTO, CLASS_LIST, Channels, Opening, Reading, ViewRecipe, ground_of
from isosphere.errors import UsageError, nearest, option
from isosphere.methods import DISTILLATION

FLAGS = {
    "data": "data.source",
    "image_size": "data.image_size",
    "strict": "data.strict",
    "method": "method.name",
    "discrepancy": "method.discrepancy",
    "ema": "method.ema",
    "distill": "method.distill",
    "encoder": "model.encoder",
    "init": "model.init",
    "epochs": "train.epochs",
    "minutes": "train.minutes",
    "batch_size": "train.batch_size",
    "seed": "train.seed",
    "profile": "train.profile",
    "device": "train.device",
    "devices": "train.devices",
    "nodes": "train.nodes",
    "max_restarts": "train.max_restarts",
}
"""Settings that have a flag, or a keyword, of their own, with their keys."""


Family = Literal["cloud", "disk", "flake", "wood", "all"]
"""Of procedural textures."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataConfig(_Section):
    """What is learned from."""

    source: str | None = Field(
        default=None,
        description="folder, zip, .npz, .h5, shards (.tar), an address (s3://, https://), textures:FAMILY, digits, "
        "torchvision:NAME:PATH",
    )
    family: Family | None = Field(
        default=None,
        description="of textures, in place of that in the source; with the source's number and size",
    )
    classes: str | None = Field(
        default=None,
        description="file that lists classes, one a line: use these alone; short for SOURCE?classes=FILE",
    )
    image_size: int | None = Field(
        default=None, ge=8, le=1024, description="side of a view in pixels; empty: from the images"
    )
    canvas_size: int | None = Field(
        default=None, ge=8, le=2048, description="short side at which images are kept; empty: chosen"
    )
    crop_from: Literal["whole", "square"] | None = Field(
        default=None,
        description="random crops are drawn over the whole picture, or over its central square; empty: whole",
    )
    white: float | None = Field(
        default=None,
        gt=0.0,
        description="number shown as white where images have over 8 bits; empty: from them",
    )
    ground: str = Field(
        default=AUTO, description="under transparency: auto, white, black or a colour as #ff8800"
    )
    page: int | None = Field(default=None, ge=1, description="of files of several pages; empty: the first")
    max_pixels: int | None = Field(
        default=None,
        ge=1,
        description="largest picture that is decoded, a JPEG at 1/2 to 1/8 beyond; empty: 178,956,970",
    )
    channels: str | None = Field(
        default=None,
        description="rgb, rgba, grey, all, or bands as 4,3,2 (rgb:4,3,2: as colours); empty: from the images",
    )
    mean: tuple[float, ...] | None = Field(
        default=None,
        description="of each channel in [0, 1]; empty: the encoder's, of others than colours the images'",
    )
    std: tuple[Annotated[float, Field(gt=0.0)], ...] | None = Field(
        default=None, description="of each channel, with data.mean"
    )
    limit: int | None = Field(
        default=None, ge=2, description="use this many images, drawn by the seed; empty: all"
    )
    epoch_images: int | None = Field(
        default=None, ge=2, description="images of an epoch, at most all; the next epoch goes on; empty: all"
    )
    held_out: int | None = Field(
        default=None,
        ge=2,
        description="images left out of training, for the monitor; empty: 4 per dimension if that is at most 2 %",
    )
    strict: bool = Field(default=False, description="refuse unreadable images instead of skipping them")
    workers: int = Field(default=2, ge=0, le=128, description="processes that decode images")
    cache: float | None = Field(
        default=None,
        ge=0.0,
        description="GiB on the disk for decoded images that memory does not hold; 0: none; empty: a quarter of what "
        "is free, 32 at most",
    )

    @model_validator(mode="before")
    @classmethod
    def _classes_within_the_source(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not (values.get("classes") and values.get("source")):
            return values
        return {**values, "source": f"{values['source']}{CLASS_LIST}{values['classes']}", "classes": None}

    @model_validator(mode="before")
    @classmethod
    def _family_within_the_source(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("family") not in get_args(Family):
            return values
        kind, _, rest = str(values.get("source") or "textures:").partition(":")
        if kind != "textures":
            raise ValueError(
                f"family is that of textures, and the images are {values['source']}: leave one of them out"
            )
        query = rest.partition("?")[2]
        source = f"textures:{values['family']}" + (f"?{query}" if query else "")
        return {**values, "source": source, "family": None}

    @field_validator("source")
    @classmethod
    def _without_secrets(cls, value: str | None) -> str | None:
        return value and public(value)

    @field_validator("ground")
    @classmethod
    def _a_colour(cls, value: str) -> str:
        ground_of(value)
        return value

    @field_validator("channels", mode="before")
    @classmethod
    def _one_spelling(cls, value: Any) -> Any:
        if value is None:
            return None
        return str(Channels.parse(",".join(map(str, value)) if isinstance(value, list | tuple) else value))

    @model_validator(mode="after")
    def _a_mean_and_a_std(self) -> Self:
        count, given = (
            self.taken and self.taken.number,
            [len(x) for x in (self.mean, self.std) if x is not None],
        )
        if given and (len(given) < 2 or len({*given, count or given[0]}) > 1):
            raise ValueError(
                f"got {len(self.mean or ())} means and {len(self.std or ())} standard deviations, expected one of each "
                "for each channel: data.mean and data.std"
            )
        return self

    @property
    def taken(self) -> Channels | None:
        """Which channels are taken of a picture."""
        return None if self.channels is None else Channels.parse(self.channels)

    @property
    def in_chans(self) -> int:
        """How many channels the network takes."""
        return (self.taken and self.taken.number) or 3

    @property
    def whole(self) -> bool:
        """Whether pictures keep their shape for random crops; an earlier version, which did not ask, cut squares."""
        return self.crop_from == "whole"

    @property
    def reading(self) -> Reading:
        """How pictures become squares."""
        bars = None if self.mean is None else tuple(round(255 * x) for x in self.mean)
        opening = Opening.of(self.page, self.ground, self.max_pixels)
        return Reading(white=self.white, opening=opening, channels=self.taken, bars=bars)


class ViewsConfig(_Section):
    """How a view is drawn from an image; ``views.rotation`` is short for ``views.overrides.rotation``."""

    recipe: str | None = Field(
        default=None, description="crops, lejepa, dino, byol, simsiam, textures, ...; empty: by the data"
    )
    progressive: bool = Field(
        default=False,
        description="progressive resizing: half, then three quarters of the side in the first two thirds",
    )
    overrides: dict[str, Any] = Field(
        default_factory=dict, description="fields of the recipe, e.g. rotation: 18"
    )

    @model_validator(mode="before")
    @classmethod
    def _fields_of_the_recipe(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(values.get("overrides", {}), dict):
            return values
        short = {
            key: value for key, value in values.items() if key in ViewRecipe.model_fields and key != "size"
        }
        rest = {key: value for key, value in values.items() if key not in short}
        return {**rest, "overrides": {**rest.get("overrides", {}), **short}}

    @field_validator("overrides")
    @classmethod
    def _size_elsewhere(cls, value: dict[str, Any]) -> dict[str, Any]:
        if "size" in value:
            raise ValueError(
                f"the side of the views is the key data.image_size ({option('image_size')}), not one of the recipe's"
            )
        return value


class ModelConfig(_Section):
    """What learns."""

    model_config = ConfigDict(protected_namespaces=())

    encoder: str | None = Field(
        default=None, description="small-conv or any timm name; empty: by the image size"
    )
    init: str = Field(
        default="random",
        description="random, pretrained, a file of weights, the folder of a run, or hf-hub:OWNER/NAME",
    )
    partial: bool = Field(default=False, description="leave random what the weights of init lack")
    batch_norm: Literal["frozen", "train"] | None = Field(
        default=None,
        description="of the backbone: frozen keeps statistics, scale and shift; empty: frozen with weights, else train",
    )
    freeze: int = Field(
        default=0, ge=0, description="first stages of the backbone, with the stem, that keep their weights"
    )
    drop_path: float = Field(
        default=0.0, ge=0.0, lt=1.0, description="stochastic depth: branches left out, of networks of timm"
    )
    dim: int | None = Field(
        default=None, ge=2, le=65536, description="dimension of the embedding; empty: the method's"
    )
    hidden: int | None = Field(
        default=None, ge=1, le=65536, description="width of the head's layers; empty: the method's"
    )


OF_METHOD = ("discrepancy", "ema", "regulariser", "weight")
"""Options of methods that are keys of their own."""


class MethodConfig(_Section):
    """What it minimises."""

    name: str = Field(default="kl-vmf", description="see isosphere list methods")
    discrepancy: str | None = Field(
        default=None, description="of a jepa, see isosphere list discrepancies; empty: the method's"
    )
    ema: float | None = Field(
        default=None, ge=0.0, lt=1.0, description="momentum of a slow teacher; empty: the method's, or none"
    )
    regulariser: str | None = Field(
        default=None, description="a discrepancy added to byol, simsiam, vicreg or vje; empty: the method's"
    )
    weight: float | None = Field(
        default=None, ge=0.0, description="weight of the regulariser; empty: by the rule"
    )
    distill: str | None = Field(
        default=None,
        description="network whose features are learned: timm's NAME, NAME@FILE, FILE, or the folder of a run",
    )
    options: dict[str, Any] = Field(default_factory=dict, description="further arguments of the method")

    @model_validator(mode="before")
    @classmethod
    def _the_method_that_distils(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("distill") is None:
            return values
        return {"name": DISTILLATION, **values}

    @model_validator(mode="after")
    def _a_teacher(self) -> Self:
        if self.distill is not None and self.name != DISTILLATION:
            raise ValueError(
                f"distill = {self.distill} is learned by {DISTILLATION}, and {self.name} was asked for: leave one of "
                "them out"
            )
        return self


class OptimConfig(_Section):
    """How it is minimised."""

    name: Literal["adamw", "lars", "sgd"] = Field(
        default="adamw", description="adamw; lars and sgd as in the rivals' papers"
    )
    learning_rate: float = Field(
        default=1e-3,
        gt=0.0,
        le=100.0,
        description="the highest; left out: 2e-3 for small-conv, 5e-4 for a ViT; lars and sgd by the batch",
    )
    backbone_rate: float | None = Field(
        default=None,
        gt=0.0,
        le=100.0,
        description="learning rate of the backbone; empty: that of all, with weights at most 1e-4 (lars, sgd: a tenth)",
    )
    layer_decay: float = Field(
        default=1.0,
        gt=0.0,
        le=1.0,
        description="a layer of the backbone learns at this times the rate of the next; with weights .75 is usual",
    )
    weight_decay: float = Field(
        default=0.05,
        ge=0.0,
        le=10.0,
        description="not applied to norms, biases and scalars; left out: lars 1e-6, sgd 1e-4",
    )
    momentum: float | None = Field(default=None, ge=0.0, lt=1.0, description="of lars and sgd; empty: 0.9")
    warmup_epochs: float = Field(default=1.0, ge=0.0, description="linear rise of the learning rate")
    final_fraction: float = Field(
        default=1e-3, ge=0.0, le=1.0, description="last learning rate over the highest"
    )
    clip: float | None = Field(
        default=None, gt=0.0, description="largest norm of the gradient; empty: no clipping"
    )

    @model_validator(mode="after")
    def _momentum_of_its_own(self) -> "OptimConfig":
        if self.momentum is not None and self.name == "adamw":
            raise ValueError(
                f"momentum = {self.momentum:g} is of lars and sgd, and adamw has none: leave it out, or give "
                f"{option('optim.name', 'sgd')}"
            )
        return self


class TrainConfig(_Section):
    """For how long, and on what."""

    epochs: int | None = Field(
        default=None, ge=0, description="passes over the images (0: the untrained encoder)"
    )
    minutes: float | None = Field(default=None, gt=0.0, description="time of training, instead of epochs")
    head_epochs: int | None = Field(
        default=None,
        ge=0,
        description="the first epochs, in which the head learns on the fixed backbone; empty: 1 with weights, else 0",
    )
    load_best: bool | None = Field(
        default=None,
        description="end with the best of start, kept epochs and mixtures with the end, by views; empty: with weights",
    )
    batch_size: int | None = Field(
        default=None, ge=1, description="images in a step, over all devices; empty: by the data"
    )
    seed: int = Field(default=0, ge=0, lt=2**31)
    micro_batch: int | None = Field(
        default=None,
        ge=2,
        description="images that pass through the network at once, of all ranks together; the loss stays that of the "
        "whole batch; empty: all",
    )
    precision: Literal["auto", "bf16", "fp16", "float32"] = "auto"
    threads: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        default="auto",
        description="of the CPU; auto: all, or fewer where steps are measured to be faster; a number keeps the bits",
    )
    compile: bool | Literal["auto"] = Field(
        default=False, description="networks through torch.compile; auto: on a CUDA GPU"
    )
    deterministic: bool = Field(
        default=False,
        description="the same bits each time on a GPU too: algorithms that add in one order, slower",
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="processes on each host; empty: those of torchrun or srun, else 1",
    )
    nodes: int | None = Field(default=None, ge=1, le=65536, description="hosts; empty: as found, else 1")
    max_restarts: int = Field(
        default=0,
        ge=0,
        description="start the processes again so often after a failure, from the last checkpoint",
    )
    timeout_minutes: float = Field(
        default=10.0, gt=0.0, description="wait so long for another process before giving it up"
    )
    monitor: bool = Field(
        default=True, description="look for collapse after each epoch; never changes training"
    )
    knn_epochs: int = Field(
        default=10,
        ge=0,
        description="k-NN accuracy each so many epochs and at the end, where images have labels; 0: never",
    )
    checkpoint_minutes: float = Field(
        default=1.0, ge=0.0, description="least time between checkpoints; 0: each epoch"
    )
    keep_every: int | None = Field(
        default=None,
        ge=1,
        description="keep the weights of every so many epochs in checkpoints/, to be ranked by evaluate; empty: none",
    )
    log_steps: int = Field(
        default=50, ge=1, description="a row of metrics.csv each so many steps, and after each epoch"
    )
    signal: bool = Field(
        default=False,
        description="with each such row the share of a sliced discrepancy's gradient that is signal",
    )
    tensorboard: bool = Field(
        default=True, description="write TensorBoard events where tensorboard is installed"
    )
    wandb: str | None = Field(
        default=None, description="project of Weights & Biases to send the figures to; empty: nothing leaves"
    )
    profile: bool = Field(
        default=False, description="measure the shares of a step, and count what it launches"
    )

    @field_validator("device", mode="before")
    @classmethod
    def _kind(cls, value: object) -> object:
        kind, colon, number = str(value).partition(":")
        if kind == "cuda" and colon and number.isdigit():
            raise ValueError(
                f"got '{value}', expected a kind of device: a training uses the first that it sees. Give "
                f"{option('train.device', 'cuda')}, and to the program CUDA_VISIBLE_DEVICES={number} in its environment"
            )
        return value

    @field_validator("batch_size")
    @classmethod
    def _more_than_one(cls, value: int | None) -> int | None:
        if value == 1:
            raise ValueError(
                "in a batch of 1 there is nothing to be spread against, and batch norm has no variance: "
                f"expected 2 at the least; 64 to 512 is usual. Give {option('batch_size', 64)}"
            )
        return value

    @model_validator(mode="after")
    def _one_length(self) -> "TrainConfig":
        if self.epochs is not None and self.minutes is not None:
            raise ValueError(
                f"epochs = {self.epochs} and minutes = {self.minutes:g} are both given, and a run has one length: "
                "leave one of them out"
            )
        return self


class Config(_Section):
    """A run, in six sections."""

    data: DataConfig = DataConfig()
    views: ViewsConfig = ViewsConfig()
    model: ModelConfig = ModelConfig()
    method: MethodConfig = MethodConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()

    def replace(self, **sections: Mapping[str, Any]) -> "Config":
        """The same configuration with some keys of some sections replaced, and validated again."""
        values = self.model_dump(exclude_unset=True)  # what was not given stays so
        for section, changes in sections.items():
            values.setdefault(section, {}).update(changes)
        return parse_config(values)

    def as_mapping(self) -> dict[str, Any]:
        """Nested plain values, as they stand in config.yaml."""
        return self.model_dump(mode="json")

    def method_options(self) -> dict[str, Any]:
        """Options of the method from all sections. Raises: UsageError where one is given twice, or is the views'."""
        elsewhere = {
            "dim": ("model.dim", self.model.dim),
            "hidden": ("model.hidden", self.model.hidden),
            **{key: (f"method.{key}", getattr(self.method, key)) for key in OF_METHOD},
        }
        options = {key: value for key, (_, value) in elsewhere.items() if value is not None}
        for key, value in self.method.options.items():
            if key == "global_views":
                raise UsageError(
                    f"method.options.global_views={value}: give {option('views.global_views', value)}"
                )
            if key in options:
                raise UsageError(
                    f"got method.options.{key}={value} and {elsewhere[key][0]}={options[key]}, expected one of them"
                )
            options[key] = value
        return options


def known_keys() -> list[str]:
    """All keys, dotted, in the order of the schema; the fields of a recipe of views are keys of ``views``."""
    keys = []
    for section, field in Config.model_fields.items():
        names = list(field.annotation.model_fields)  # type: ignore[union-attr]
        more = [name for name in ViewRecipe.model_fields if section == "views" and name != "size"]
        keys += [f"{section}.{name}" for name in names + more]
    return keys


def describe_keys() -> list[tuple[str, str, str]]:
    """Every key with its default and what it is for."""
    rows = []
    for key in known_keys():
        section, name = key.split(".")
        own = Config.model_fields[section].annotation.model_fields  # type: ignore[union-attr]
        if name not in own:
            rows.append((key, "-", "of the recipe"))
            continue
        field = own[name]
        default = field.get_default(call_default_factory=True)
        rows.append((key, "-" if default is None else str(default), field.description or ""))
    return rows


def parse_config(values: Mapping[str, Any]) -> Config:
    """Validate nested values.

    Raises: UsageError with one sentence per wrong key.
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        sections = list(Config.model_fields)
        said = [_explained(detail, sections, known_keys()) for detail in error.errors()]
        raise UsageError("\n".join(said)) from None


def _explained(detail: Any, sections: Sequence[str], known: Sequence[str]) -> str:
    """One sentence for one of pydantic's errors, with the nearest of the known sections or keys."""
    key = ".".join(str(part) for part in detail["loc"])
    got = detail["input"]
    if detail["type"] == "extra_forbidden":
        if "." not in key:
            hint = nearest(key, sections)
            return f"There is no section '{key}'.{hint} Known: {', '.join(sections)}."
        section = key.split(".")[0]
        keys = [k for k in known if k.startswith(f"{section}.")]
        hint = nearest(key, keys) or nearest(key.split(".")[-1], [k.split(".")[1] for k in keys])
        return f"There is no key '{key}'.{hint} Known: {', '.join(keys)}."
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "value_error":
        return f"{key}: {message}."
    if detail["type"] == "model_type":
        return f"{key}: got {got!r}, expected a section with keys, for example '{key}: {{...}}' in the file."
    section = key.split(".")[0]
    flag = next(
        (name for name, of in FLAGS.items() if of == key and name != "device"), None
    )  # Python's alone
    give = f"another {option(flag)}" if flag else option(key, ...)
    return f"{key}: got {got!r}; {_lower(message)}. Give {give}, or change it in section {section}."


def _lower(message: str) -> str:
    return (message[:1].lower() + message[1:]).replace("input should", "it should")
