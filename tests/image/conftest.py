import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from image_containers import CODE_VERSION, Container, Image, docker, running
from image_models import write_models

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def engine() -> None:
    """A Docker Engine that answers. Without one: no test on a laptop, a failure where the real parts are promised."""
    if shutil.which("docker") and docker("version", check=False).returncode == 0:
        return
    missing = "no Docker Engine answers; `.ci/docker-engine start` starts one"
    if os.environ.get("CI") and os.environ.get("REAL_PARTS") == "1":
        pytest.fail(missing)
    pytest.skip(missing)


@pytest.fixture(scope="session")
def image(engine: None) -> Iterator[Image]:
    """The image of this work tree and two small models, built as `make image` builds it."""
    bundles = ROOT / "build" / "model-under-test"
    shutil.rmtree(bundles, ignore_errors=True)
    write_models(bundles)
    _build("base-image")
    tag = _build("build-image", "frontrow-under-test", str(bundles.relative_to(ROOT)))
    yield Image(tag, bundles)
    docker("rmi", "--force", "--no-prune", tag)
    shutil.rmtree(bundles)


def _build(script: str, *arguments: str) -> str:
    environment = os.environ | {"CODE_VERSION": CODE_VERSION, "SOURCE_DATE_EPOCH": "1767225600"}
    command = [str(ROOT / ".ci" / script), *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=540, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="session")
def container(image: Image) -> Iterator[Container]:
    """A container that is ready and has no network at all."""
    with running(image.tag, "--health-interval", "1s") as container:
        container.ask("/readyz", until=200)
        yield container
