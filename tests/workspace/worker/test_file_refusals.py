"""`dbutils.fs` changes files in the state of the target and in the bundle, and nowhere else on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from boathouse.workspace.worker.dbutils.utilities import DbUtils


class Place:
    "A bundle with the state of a target, beside a folder that is neither; `fs` is that of a task of the bundle."

    def __init__(self, root: Path) -> None:
        self.bundle, self.outside = root / "bundle", root / "outside"
        self.state = self.bundle / ".boathouse" / "dev"
        for file in (self.outside / "victim" / "a.csv", self.bundle / "src" / "a.py", self.state / "volumes" / "c" / "s" / "v" / "a.csv"):
            file.parent.mkdir(parents=True)
            file.write_text("kept")
        self.fs = DbUtils.make(self.state / "volumes", project=self.bundle).fs

    def files(self) -> list[str]:
        "All files and links of both, from the folder above them."
        above = self.bundle.parent
        return sorted(str(file.relative_to(above)) for file in above.rglob("*") if file.is_file() or file.is_symlink())


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


@pytest.mark.parametrize(
    ("command", "does"),
    [
        (lambda fs, path: fs.rm(path, True), "rm cannot remove"),
        (lambda fs, path: fs.rm(f"{path}/victim/a.csv"), "rm cannot remove"),
        (lambda fs, path: fs.rm(f"{path}/none"), "rm cannot remove"),
        (lambda fs, path: fs.rm(f"file:{path}", recurse=True), "rm cannot remove"),
        (lambda fs, path: fs.put(f"{path}/victim/a.csv", "lost", True), "put cannot write to"),
        (lambda fs, path: fs.put(f"file://{path}/new", "x"), "put cannot write to"),
        (lambda fs, path: fs.mkdirs(f"{path}/new"), "mkdirs cannot write to"),
        (lambda fs, path: fs.cp("/Volumes/c/s/v/a.csv", f"{path}/victim/a.csv"), "cp cannot write to"),
        (lambda fs, path: fs.cp("/Volumes/c/s/v", f"{path}/victim", True), "cp cannot write to"),
        (lambda fs, path: fs.mv("/Volumes/c/s/v/a.csv", f"{path}/victim"), "mv cannot write to"),
        (lambda fs, path: fs.mv(f"{path}/victim/a.csv", "/Volumes/c/s/v/b.csv"), "mv cannot remove"),
    ],
)
@pytest.mark.parametrize("way", ["plain", "dots", "link"])
def test_nothing_outside_the_state_and_the_bundle_is_changed(place, command, does, way):
    (place.bundle / "link").symlink_to(place.outside)
    path = {"plain": str(place.outside), "dots": f"{place.state}/volumes/../../../../outside", "link": f"{place.bundle}/link"}[way]
    before = place.files()
    with pytest.raises(PermissionError) as refused:
        command(place.fs, path)
    message = str(refused.value)
    assert message.startswith(f"dbutils.fs.{does} ")
    assert message.endswith(
        f": on this machine it changes nothing outside the state of the target ({place.state}) or the bundle ({place.bundle}). "
        "Use the path of a volume: /Volumes/<catalog>/<schema>/<volume>/..."
    )
    assert (f" (which is {place.outside}" in message) == (way != "plain")
    assert place.files() == before
    assert (place.outside / "victim" / "a.csv").read_text() == "kept"


@pytest.mark.parametrize("path", ["/", "file:/", "/..", "file:/tmp", "/tmp/boathouse-test-none", "/etc/hosts", "..", "../../x"])
def test_the_root_of_this_machine_and_its_temporary_folder_are_refused(place, path):
    for refuse, command in (
        (place.fs._written, "put"),
        (place.fs._removed, "rm"),
    ):  # not the commands: one that errs would delete this machine
        with pytest.raises(PermissionError, match=f"fs.{command} cannot .* changes nothing outside"):
            refuse(path, command)


def test_the_state_its_volumes_and_the_bundle_are_not_removed_as_a_whole(place):
    for path in (
        place.bundle,
        f"{place.bundle}/",
        place.bundle / ".boathouse",
        place.state,
        place.state / "volumes",
        "/Volumes",
        place.bundle / "src" / "..",
    ):
        with pytest.raises(PermissionError, match=r"rm cannot remove .* Name a file or folder below that"):
            place.fs.rm(str(path), recurse=True)
        with pytest.raises(PermissionError, match=r"mv cannot remove .* Name a file or folder below that"):
            place.fs.mv(str(path), f"{place.bundle}/elsewhere", recurse=True)
    assert len(place.files()) == 3


def test_a_folder_is_not_copied_through_a_link_that_leads_outside(place):
    (place.state / "volumes/c/s/v/victim").mkdir()
    place.fs.put("/Volumes/c/s/v/victim/a.csv", "lost")
    place.fs.mkdirs(f"{place.bundle}/into")
    (place.bundle / "into" / "victim").symlink_to(place.outside / "victim")
    (place.bundle / "into" / "a.csv").symlink_to(place.outside / "victim" / "a.csv")
    for source, recurse in (("/Volumes/c/s/v", True), ("/Volumes/c/s/v/a.csv", False)):
        with pytest.raises(PermissionError, match="cp cannot write to"):
            place.fs.cp(source, f"{place.bundle}/into", recurse)
    assert (place.outside / "victim" / "a.csv").read_text() == "kept"


def test_files_of_the_state_and_the_bundle_are_written_and_removed(place):
    place.fs.put(f"{place.bundle}/out/a.txt", "1")
    place.fs.cp(f"{place.bundle}/out/a.txt", f"file:{place.state}/b.txt")
    place.fs.mv(f"{place.state}/b.txt", "/Volumes/c/s/v")
    (place.bundle / "link").symlink_to(place.bundle / "out")
    place.fs.rm(f"{place.bundle}/link")
    assert place.fs.head(f"{place.bundle}/out/a.txt") == place.fs.head("/Volumes/c/s/v/b.txt") == "1"
    place.fs.rm(f"{place.bundle}/out", recurse=True)
    assert [name for name in place.files() if "src" not in name] == [
        f"bundle/.boathouse/dev/volumes/c/s/v/{n}.{e}" for n, e in (("a", "csv"), ("b", "txt"))
    ] + ["outside/victim/a.csv"]


def test_files_outside_the_state_and_the_bundle_are_read(place):
    assert [entry.name for entry in place.fs.ls(str(place.outside))] == ["victim/"]
    assert place.fs.head(f"file:{place.outside}/victim/a.csv") == "kept"
    place.fs.cp(str(place.outside), "/Volumes/c/s/v/copied", recurse=True)
    assert place.fs.head("/Volumes/c/s/v/copied/victim/a.csv") == "kept"


def test_volumes_that_lie_on_another_disk_are_written_to(place, tmp_path):
    (place.state / "volumes").rename(tmp_path / "disk")
    (place.state / "volumes").symlink_to(tmp_path / "disk")
    fs = DbUtils.make(place.state / "volumes", project=place.bundle).fs
    fs.put("/Volumes/c/s/v/b.csv", "2")
    assert (tmp_path / "disk/c/s/v/b.csv").read_text() == "2"
