"""The testbed's image: one Dockerfile, a Debian release as argument, built once for each state of its files."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from mailtls_nb.errors import SetUpError
from mailtls_nb.testbed import debian
from mailtls_nb.testbed.engine import Engine
from mailtls_nb.testbed.lock import locked
from mailtls_nb.testbed.progress import run_stage, say

IMAGE_DIRECTORY = Path(__file__).parent / "image"
_PULL_TIMEOUT_S = 120


def image_name(release: str) -> str:
    """The image's name; its tag holds a digest over the Dockerfile and the files that it copies."""
    digest = hashlib.sha256()
    for path in sorted(IMAGE_DIRECTORY.iterdir()):
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return f"mailtls-nb-testbed:{release}-{digest.hexdigest()[:12]}"


def ensure_image(engine: Engine, release: str) -> str:
    """Build the image where it is not there yet and return its name. Raises SetUpError."""
    name = image_name(release)
    if _exists(engine, name):
        return name
    with locked(_lock_path(), "builds the testbed's image"):
        if not _exists(engine, name):
            base = _base(engine, release)
            run_stage(
                (*engine.argv, "build", "-t", name, "--build-arg", f"BASE={base}", *_proxies(), str(IMAGE_DIRECTORY)),
                f"building the image for {release} (a minute or two, once)",
                do="look at the lines above: the build installs Debian packages, so it needs Debian's mirror",
            )
    return name


def _exists(engine: Engine, name: str) -> bool:
    return engine.attempt("image", "inspect", name).returncode == 0


def _base(engine: Engine, release: str) -> str:
    """Debian's own image, pulled; where no registry answers, a base that mmdebstrap makes from Debian's packages."""
    made_here = f"mailtls-nb-base:{release}"
    official = f"docker.io/library/debian:{release}-slim"
    for name in (made_here, official):
        if _exists(engine, name):
            return name
    say(f"pulling {official}")
    try:
        if engine.attempt("pull", "-q", official, timeout_s=_PULL_TIMEOUT_S).returncode == 0:
            return official
    except SetUpError:
        pass  # too slow is as good as no answer
    _make_base(engine, release, made_here)
    return made_here


def _make_base(engine: Engine, release: str, name: str) -> None:
    if shutil.which("mmdebstrap") is None:
        if not debian.can_install():
            raise SetUpError(
                "no image registry answers, and there is no mmdebstrap to make the Debian base image here: install "
                "it (apt-get install mmdebstrap debian-archive-keyring), or run this where a registry answers"
            )
        debian.install(("mmdebstrap", "debian-archive-keyring"), "no image registry answers")
    with tempfile.TemporaryDirectory(prefix="mailtls-nb-") as scratch:
        archive = f"{scratch}/base.tar"
        run_stage(
            ("mmdebstrap", "--variant=minbase", release, archive),
            f"no image registry answers: making the Debian base image for {release} with mmdebstrap",
        )
        engine.run("import", archive, name, doing="importing the Debian base image", timeout_s=300)


def _proxies() -> list[str]:
    # Named without a value: the engine takes it from its environment, so that no password stands in an argv.
    names = ("http_proxy", "https_proxy", "no_proxy")
    return [word for name in names if name in os.environ for word in ("--build-arg", name)]


def _lock_path() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "mailtls-nb" / "image.lock"
