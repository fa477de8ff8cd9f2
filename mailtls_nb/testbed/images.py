"""The testbed's images, each built once for each state of its files.

The image of the testbed's own hosts has a Debian release as argument; a guest's is built on it, with the package of
another mail server as argument.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from mailtls_nb.errors import SetUpError
from mailtls_nb.testbed import debian
from mailtls_nb.testbed.engine import Engine
from mailtls_nb.testbed.lock import locked
from mailtls_nb.testbed.progress import run_stage, say

IMAGE_DIRECTORY = Path(__file__).parent / "image"
GUEST_IMAGE_DIRECTORY = Path(__file__).parent / "guest_image"
_PULL_TIMEOUT_S = 120


def image_name(release: str) -> str:
    """The image's name; its tag holds a digest over the Dockerfile and the files that it copies."""
    return f"mailtls-nb-testbed:{release}-{_digest(IMAGE_DIRECTORY)}"


def guest_image_name(release: str, package: str) -> str:
    """The name of the image of a guest that runs this package; its digest is over both Dockerfiles and their files."""
    return f"mailtls-nb-testbed:{release}-{package}-{_digest(IMAGE_DIRECTORY, GUEST_IMAGE_DIRECTORY)}"


def ensure_image(engine: Engine, release: str) -> str:
    """Build the image where it is not there yet and return its name. Raises SetUpError."""
    return _ensure(
        engine,
        image_name(release),
        IMAGE_DIRECTORY,
        lambda: {"BASE": _base(engine, release)},
        f"building the image for {release} (a minute or two, once)",
    )


def ensure_guest_image(engine: Engine, release: str, package: str) -> str:
    """Build the image of a guest that runs this Debian package where it is not there yet. Raises SetUpError."""
    base = ensure_image(engine, release)
    return _ensure(
        engine,
        guest_image_name(release, package),
        GUEST_IMAGE_DIRECTORY,
        lambda: {"BASE": base, "PACKAGE": package},
        f"building the image for {release} with {package} (half a minute, once)",
    )


def _ensure(engine: Engine, name: str, directory: Path, arguments: Callable[[], dict[str, str]], stage: str) -> str:
    if _exists(engine, name):
        return name
    with locked(_lock_path(), "builds the testbed's image"):
        if not _exists(engine, name):
            given = [word for pair in arguments().items() for word in ("--build-arg", "=".join(pair))]
            run_stage(
                (*engine.argv, "build", "-t", name, *given, *_proxies(), str(directory)),
                stage,
                do="look at the lines above: the build installs Debian packages, so it needs Debian's mirror",
            )
    return name


def _digest(*directories: Path) -> str:
    digest = hashlib.sha256()
    for path in (path for directory in directories for path in sorted(directory.iterdir())):
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


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
