"""Ray Data: sets that no machine holds are embedded by any number of workers (extra ``ray``)."""

from isosphere.ray._embed import Embed
from isosphere.ray._parts import embed_parts, require_ray

__all__ = ["Embed", "embed_parts", "require_ray"]
