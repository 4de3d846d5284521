"""Images behind an address: shards, Parquet files, or image files below a folder."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath

from isosphere.addresses import secrets_of
from isosphere.errors import UsageError

from ._encoded import EncodedSource
from ._folder import no_images
from ._layout import arrange, is_ignored, is_image_name
from ._limits import MAX_FILE_BYTES, require_fitting
from ._parquet import ParquetSource
from ._remote import RemoteFile, in_parallel, listed
from ._shards import ShardSource, common_folder, stem_of
from ._source import Origin, Source, Split


def open_address(address: str, *, split: Split = None) -> Source:
    """The images that an address stands for: of tar files, of Parquet files, or the image files below it.

    As in a folder, shards and tables are read where there is no image file beside them.

    Raises: UsageError where there are none, or for a kind of file that is read from a disk alone; RemoteError where
        nobody answers, or access is refused.
    """
    found = listed(address)
    folder = _folder_of(address, found)
    files = [file for file in found if not any(map(is_ignored, file.path.relative_to(folder).parts))]
    images = [file for file in files if is_image_name(file.path.name)]
    suffixes = Counter(file.path.suffix.lower() for file in files)
    name = stem_of(address.rstrip("/")) or folder.name
    if images:
        source: Source = RemoteImages(images, folder, name=name, typed=address, split=split)
    elif suffixes[".tar"]:
        tars = [file for file in files if file.path.suffix.lower() == ".tar"]
        source = ShardSource(tars, folder, name=name.removesuffix(".tar"), typed=address, split=split)
    elif suffixes[".parquet"]:
        tables = [file for file in files if file.path.suffix.lower() == ".parquet"]
        source = ParquetSource(tables, name=name.removesuffix(".parquet"), typed=address, split=split)
    else:
        raise _of_another_kind(address, files, suffixes)
    if secrets_of(address):
        source.notes = (
            *source.notes,
            f"The password or signature of {address} is not kept: a later command needs the whole address again.",
        )
    return source


def _folder_of(address: str, files: Sequence[RemoteFile]) -> PurePosixPath:
    """The folder that was named, or the deepest that all files lie in."""
    named = PurePosixPath(address)
    within = all(named in file.path.parents for file in files)
    return named if within else PurePosixPath(common_folder([file.path for file in files]))


def _of_another_kind(address: str, files: list[RemoteFile], suffixes: Counter[str]) -> UsageError:
    if len(files) == 1:
        return UsageError(
            f"{address} is not a kind of file that is read behind an address; expected .tar shards, .parquet, or "
            "images. Fetch the file (curl -O, aws s3 cp) and give its path."
        )
    return no_images(address, suffixes)


class RemoteImages(EncodedSource):
    """Image files behind an address, laid out as in a folder; those of other endings are not looked into."""

    def __init__(
        self,
        files: Sequence[RemoteFile],
        folder: PurePosixPath,
        *,
        name: str,
        typed: str,
        split: Split = None,
    ) -> None:
        shown = [file.path.relative_to(folder).as_posix() for file in files]
        layout = arrange(shown, split, typed)
        super().__init__(
            name,
            layout.members,
            labels=layout.labels,
            class_names=layout.class_names,
            has_test_split=layout.has_test_split,
            left_out=layout.left_out,
        )
        self._files = [files[i] for i in layout.positions]
        self._ahead: dict[int, bytes] = {}

    def origin(self, i: int) -> Origin:
        file = self._files[i]
        return Origin(file.place, 0, file.size, file.version)

    def body(self, i: int) -> bytes:
        require_fitting(self._files[i].size)
        body = self._ahead.get(i)
        return self._files[i].read() if body is None else body

    @contextmanager
    def ahead(self, positions: Sequence[int]) -> Iterator[None]:
        fitting = [i for i in positions if self._files[i].size <= MAX_FILE_BYTES]
        self._ahead |= zip(fitting, in_parallel(lambda i: self._files[i].read(), fitting), strict=True)
        try:
            yield
        finally:
            for i in fitting:
                self._ahead.pop(i, None)
