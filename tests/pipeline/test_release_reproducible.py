"""The same commit and bundles give the same image content."""

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from image.image_models import write_models

from release.image import build_image

HOUSE = Path(__file__).parents[2]
pytestmark = [pytest.mark.real("docker"), pytest.mark.timeout(900), pytest.mark.xdist_group("docker")]

Entry = tuple[bytes, int, int, int, str]


@pytest.fixture
def engine() -> None:
    if subprocess.run(["docker", "version"], check=False, capture_output=True).returncode == 0:
        return
    if os.environ.get("REAL_PARTS") == "1":
        pytest.fail("no Docker Engine answers")
    pytest.skip("no Docker Engine answers")


def test_two_builds_without_a_cache_between_them_have_the_same_content(
    engine: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_models(tmp_path / "model")
    first = build_image("HEAD", tmp_path / "model", name="frontrow-first", folder=HOUSE)
    use_docker_without_a_cache(tmp_path / "bin", monkeypatch)
    second = build_image("HEAD", tmp_path / "model", name="frontrow-second", folder=HOUSE)
    try:
        (files, settings), (files_again, settings_again) = content(first, tmp_path), content(second, tmp_path)
    finally:
        subprocess.run(["docker", "rmi", "--force", first, second], check=True, capture_output=True)

    assert len(files) > 1_000
    assert {name for name in files | files_again if files.get(name) != files_again.get(name)} == set()
    assert settings == settings_again


def use_docker_without_a_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker = shutil.which("docker")
    folder.mkdir()
    script = folder / "docker"
    script.write_text(
        f'#!/bin/sh\n[ "$1" != build ] || {{ shift; set -- build --no-cache "$@"; }}\nexec {docker} "$@"\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def content(tag: str, folder: Path) -> tuple[dict[str, Entry], dict[str, Any]]:
    """Every path of all layers with its kind, mode, owner and digest, and the image's settings; times do not count."""
    saved = folder / "image.tar"
    subprocess.run(["docker", "save", "--output", str(saved), tag], check=True, timeout=300)
    files: dict[str, Entry] = {}
    with tarfile.open(saved) as image:
        (manifest,) = json.load(member(image, "manifest.json"))
        for name in manifest["Layers"]:
            with tarfile.open(fileobj=member(image, name)) as layer:
                for one in layer:
                    inside = hashlib.sha256(member(layer, one).read()).hexdigest() if one.isfile() else one.linkname
                    files[one.name] = (one.type, one.mode, one.uid, one.gid, inside)
        settings = json.load(member(image, manifest["Config"]))["config"]
    return files, {name: value for name, value in settings.items() if name != "Image"}  # of the classic builder


def member(archive: tarfile.TarFile, name: str | tarfile.TarInfo) -> Any:
    file = archive.extractfile(name)
    assert file is not None
    return file
