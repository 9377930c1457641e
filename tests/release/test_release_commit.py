"""What git says of a commit."""

from pathlib import Path

import pytest
from git_houses import GitHouse

from release.commit import read_commit, unpack
from release.errors import CommitError


@pytest.fixture
def house(tmp_path: Path) -> GitHouse:
    house = GitHouse(tmp_path)
    house.commit("First\n\n[train]", app__routes_py="1", training__train_py="1")
    return house


def test_the_first_commit_touches_all_its_files(house: GitHouse) -> None:
    commit = read_commit("HEAD", folder=house.folder)

    assert set(commit.paths) == {"app/routes.py", "training/train.py"}
    assert (commit.subject, commit.message) == ("First", "First\n\n[train]")
    assert commit.revision == house.git("rev-parse", "HEAD")[:12]


def test_a_commit_touches_what_differs_from_its_parent(house: GitHouse) -> None:
    house.commit("Second", app__routes_py="2")

    assert read_commit("HEAD", folder=house.folder).paths == ("app/routes.py",)


def test_a_merge_touches_all_that_it_brings_in(house: GitHouse) -> None:
    house.git("checkout", "--quiet", "-b", "branch")
    house.commit("On the branch", app__b_py="1")
    house.commit("Once more", app__c_py="1")
    house.git("checkout", "--quiet", "main")
    house.commit("Meanwhile", docs__page="1")
    house.git("merge", "--quiet", "--no-ff", "--message", "Merge [hotfix]", "branch")

    merge = read_commit("HEAD", folder=house.folder)

    assert set(merge.paths) == {"app/b.py", "app/c.py"}
    assert merge.message == "Merge [hotfix]"


def test_a_push_of_several_commits_touches_what_differs_from_before_it(house: GitHouse) -> None:
    before = house.commit("Before", app__a_py="1")
    house.commit("One", app__b_py="1")
    house.commit("Two", docs__page="1")

    assert set(read_commit("HEAD", since=before, folder=house.folder).paths) == {"app/b.py", "docs/page"}


def test_a_moved_file_touches_both_its_places(house: GitHouse) -> None:
    house.commit("Move", app__routes_py=None, docs__routes_py="1")

    assert set(read_commit("HEAD", folder=house.folder).paths) == {"app/routes.py", "docs/routes.py"}


def test_a_path_is_told_as_it_is_spelled(house: GitHouse) -> None:
    (house.folder / "app" / "zürich é.py").write_text("1")
    house.commit("Umlauts")

    assert read_commit("HEAD", folder=house.folder).paths == ("app/zürich é.py",)


@pytest.mark.parametrize("name", ["no-such-branch", "--help", ""])
def test_a_commit_that_git_does_not_know_is_refused(house: GitHouse, name: str) -> None:
    with pytest.raises(CommitError, match="git knows no commit"):
        read_commit(name, folder=house.folder)


def test_a_folder_without_git_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommitError):
        read_commit("HEAD", folder=tmp_path)


def test_what_is_unpacked_is_the_commit_and_not_the_work_tree(house: GitHouse, tmp_path: Path) -> None:
    (house.folder / "app" / "routes.py").write_text("not committed")
    (house.folder / "stray.py").write_text("not committed")

    unpack("HEAD", tmp_path / "out", folder=house.folder)

    files = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert files == {"app/routes.py", "training/train.py"}
    assert (tmp_path / "out" / "app" / "routes.py").read_text() == "1"
