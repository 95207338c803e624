"""Fetches the published checkpoints from Hugging Face, and goes on where an earlier try was cut off.

The hub's own download begins anew in each process, so only its single request is used here: it shows the
progress, and goes on by itself when the line is bad.
"""

import hashlib
import re
from pathlib import Path
from typing import Literal

import httpx2
import platformdirs
from huggingface_hub import get_hf_file_metadata, hf_hub_url
from huggingface_hub.file_download import http_get

from jazzd.errors import ModelError
from jazzd.moonbeam import weights

REPOSITORY = "guozixunnicolas/moonbeam-midi-foundation-model"
Name = Literal["moonbeam-839m", "moonbeam-309m"]
FILES: dict[Name, str] = {"moonbeam-839m": "moonbeam_839M.pt", "moonbeam-309m": "moonbeam_309M.pt"}


def folder(name: Name) -> Path:
    """Where a fetched base goes unless the user says otherwise."""
    return platformdirs.user_data_path("jazzd") / "bases" / name


def fetch(name: Name, target: Path) -> str:
    """Make a base folder of a published checkpoint; returns the fingerprint.

    The download waits in the user's cache folder until the base is made. Raises ModelError; then what came of
    it is kept for the next try, unless it turned out to be damaged.
    """
    weights.check_free(target)
    url = hf_hub_url(REPOSITORY, FILES[name])
    try:
        path = _downloaded(url, FILES[name])
    except httpx2.HTTPError as error:
        response = getattr(error, "response", None)
        reason = f"HTTP status {response.status_code}" if response is not None else error
        raise ModelError(
            f"{url} cannot be fetched ({reason}); try again when it can be reached, to go on from here, "
            "or get the file by other means and use `jazzd base convert`"
        ) from None
    except OSError as error:
        raise ModelError(f"{FILES[name]} could not be stored ({error.strerror or error})") from None
    mark = weights.convert(path, target)
    path.unlink()
    return mark


def _downloaded(url: str, file_name: str) -> Path:
    """The file, whole and checked. No token is sent: everybody may have it."""
    told = get_hf_file_metadata(url, token=False)
    if told.size is None or not re.fullmatch("[0-9a-f]{64}", told.etag or ""):
        raise ModelError(f"{url} does not tell its size and hash, so it cannot be checked")
    path = platformdirs.user_cache_path("jazzd") / "downloads" / f"{told.etag}-{file_name}"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        if file.tell() < told.size:
            http_get(
                url,
                file,
                resume_size=file.tell(),
                expected_size=told.size,
                displayed_filename=file_name,
            )
    with path.open("rb") as whole:
        if hashlib.file_digest(whole, "sha256").hexdigest() == told.etag:
            return path
    path.unlink()
    raise ModelError(f"{url} came damaged, its hash is not the one that was announced; fetch it again")
