"`dbutils` as Databricks has it, over a folder of volumes."

from __future__ import annotations

import pytest

from boathouse.workspace.worker.dbutils.utilities import DbUtils, NotebookExit, TaskValues, Widgets
from boathouse.workspace.worker.dbutils.widgets import InputWidgetNotDefined


@pytest.fixture
def dbutils(tmp_path):
    return DbUtils.make(tmp_path / "volumes", {"month": "2013-10"}, TaskValues({"train": {"version": 3, "none": None}}, in_job=True))


def test_a_passed_widget_wins_over_the_notebooks_default(dbutils):
    dbutils.widgets.text("month", "2013-01")
    dbutils.widgets.dropdown("dirt", "1", ["0", "1"])
    assert (dbutils.widgets.get("month"), dbutils.widgets.get("dirt")) == ("2013-10", "1")
    assert dbutils.widgets.getAll() == {"month": "2013-10", "dirt": "1"}
    dbutils.widgets.removeAll()
    assert dbutils.widgets.getArgument("dirt", "0") == "0"


def test_an_undefined_widget_is_an_error_that_lists_the_others(dbutils):
    with pytest.raises(ValueError, match=r"No input widget named year is defined. There are: month."):
        dbutils.widgets.get("year")


def test_a_default_that_is_no_choice_or_too_long_is_refused():
    with pytest.raises(ValueError, match=r"must be one of its choices \(a, b\), got 'c'"):
        Widgets({}).dropdown("x", "c", ["a", "b"])
    with pytest.raises(ValueError, match="2048 bytes"):
        Widgets({}).text("x", "é" * 1025)


@pytest.mark.parametrize("value", [1, 1.5, "x", True, None, [1, {"a": None}], {"k": [1]}])
def test_a_task_value_is_kept_as_json_has_it(dbutils, value):
    dbutils.jobs.taskValues.set("k", value)
    assert dbutils.jobs.taskValues.set_here == {"k": value}


@pytest.mark.parametrize(("value", "reason"), [({1, 2}, "not JSON"), (float("nan"), "not JSON"), ("x" * (48 * 1024 - 1), "49153 bytes")])
def test_a_task_value_that_is_no_json_or_too_long_is_refused(dbutils, value, reason):
    with pytest.raises(ValueError, match=reason):
        dbutils.jobs.taskValues.set("k", value)


def test_the_longest_task_value_is_accepted(dbutils):
    dbutils.jobs.taskValues.set("k", "x" * (48 * 1024 - 2))


def test_the_first_definition_of_a_widget_keeps_its_value_until_it_is_removed(dbutils):
    dbutils.widgets.text("root", "potato")
    dbutils.widgets.text("root", "yam")
    assert dbutils.widgets.get("root") == "potato"
    dbutils.widgets.remove("root")
    with pytest.raises(InputWidgetNotDefined, match="No input widget named root"):
        dbutils.widgets.remove("root")
    dbutils.widgets.combobox("root", "yam", ["potato"])
    dbutils.widgets.multiselect("days", "Tuesday", ["Monday", "Tuesday"], "Days")
    assert dbutils.widgets.getAll() == {"month": "2013-10", "root": "yam", "days": "Tuesday"}


def test_a_task_value_is_read_from_the_task_that_set_it(dbutils):
    values = dbutils.jobs.taskValues
    assert values.get("train", "version", default=9, debugValue=8) == 3
    assert values.get("train", "none", default=9) is None
    assert values.get("train", "auc", default=0.5) == 0.5
    with pytest.raises(
        ValueError, match=r"the task 'train' set no task value 'auc', and there is no default. Its task values are: none, version."
    ):
        values.get("train", "auc")
    with pytest.raises(ValueError, match=r"no task 'score' is upstream of this one. Upstream tasks are: train."):
        values.get("score", "auc", default=0.5)


def test_outside_a_job_a_task_value_is_its_debug_value(tmp_path):
    values = DbUtils.make(tmp_path).jobs.taskValues
    assert values.get("train", "version", debugValue=1) == 1
    with pytest.raises(TypeError, match="debugValue"):
        values.get("train", "version", default=1)
    values.set("version", 1)
    assert values.set_here == {}


def test_an_iteration_of_a_loop_may_not_set_task_values():
    values = TaskValues({}, in_job=True, loop="each")
    with pytest.raises(ValueError, match="set in an iteration of the for_each_task"):
        values.set("version", 1)
    assert values.set_here == {}


@pytest.mark.parametrize("prefix", ["/Volumes", "dbfs:/Volumes"])
def test_volumes_lie_in_the_workspace(dbutils, tmp_path, prefix):
    folder = f"{prefix}/dev/bronze/landing"
    dbutils.fs.put(f"{folder}/day/a.csv", "x,y")
    assert (tmp_path / "volumes/dev/bronze/landing/day/a.csv").read_text() == "x,y"
    assert dbutils.fs.head(f"{folder}/day/a.csv", 1) == "x"
    (day,) = dbutils.fs.ls(folder)
    assert (day.path, day.name, day.isDir()) == (f"{folder}/day/", "day/", True)
    (file,) = dbutils.fs.ls(f"{folder}/day/")
    assert (file.path, file.size, file.isFile()) == (f"{folder}/day/a.csv", 3, True)
    dbutils.fs.cp(folder, f"{folder}2", recurse=True)
    dbutils.fs.mv(f"{folder}2/day/a.csv", f"{folder}2/b.csv")
    assert [entry.name for entry in dbutils.fs.ls(f"{folder}2")] == ["b.csv", "day/"]
    assert dbutils.fs.rm(f"{folder}2", recurse=True)
    assert not dbutils.fs.rm(f"{folder}2")


def test_plain_paths_and_file_uris_mean_this_machine(dbutils, tmp_path):
    dbutils.fs.mkdirs(str(tmp_path / "plain"))
    dbutils.fs.put(f"file:{tmp_path}/plain/a", "1")
    dbutils.fs.put(f"file://{tmp_path}/plain/b", "2")
    assert [entry.name for entry in dbutils.fs.ls(str(tmp_path / "plain"))] == ["a", "b"]


def test_the_dbfs_root_is_not_this_machines_disk(dbutils, tmp_path):
    (tmp_path / "precious").touch()
    with pytest.raises(ValueError, match="DBFS root, which the local workspace lacks: it must be in a volume"):
        dbutils.fs.rm(f"dbfs:{tmp_path}", recurse=True)
    assert (tmp_path / "precious").exists()


def test_a_file_copied_onto_a_folder_goes_into_it(dbutils):
    dbutils.fs.put("/Volumes/c/s/v/a", "1")
    dbutils.fs.mkdirs("/Volumes/c/s/v/into")
    dbutils.fs.cp("/Volumes/c/s/v/a", "/Volumes/c/s/v/into")
    assert dbutils.fs.head("/Volumes/c/s/v/into/a") == "1"


def test_files_are_not_overwritten_folders_not_removed_and_volumes_not_left_unasked(dbutils):
    dbutils.fs.put("/Volumes/c/s/v/a", "1")
    with pytest.raises(FileExistsError):
        dbutils.fs.put("/Volumes/c/s/v/a", "2")
    assert dbutils.fs.put("/Volumes/c/s/v/a", "3", overwrite=True)
    with pytest.raises(IsADirectoryError, match="recurse"):
        dbutils.fs.rm("/Volumes/c/s/v")
    with pytest.raises(ValueError, match="leaves the volumes"):
        dbutils.fs.ls("/Volumes/../../etc")
    with pytest.raises(ValueError, match="has the scheme s3: it must be in a volume"):
        dbutils.fs.ls("s3://bucket/key")
    with pytest.raises(FileNotFoundError, match="/Volumes/c/s/none"):
        dbutils.fs.ls("/Volumes/c/s/none")


def test_secrets_that_were_read_are_redacted_the_longer_first_and_empty_ones_never(dbutils, monkeypatch):
    for key, value in (("SHORT", "oar"), ("LONG", "oars"), ("UNREAD", "rudder"), ("NONE", "")):
        monkeypatch.setenv(f"BOATHOUSE_SECRET_MAIL_{key}", value)
    redacted = dbutils.secrets._redacted
    assert redacted("oar oars rudder") == "oar oars rudder"
    for key in ("short", "long", "none"):
        dbutils.secrets.get("mail", key)
    assert redacted("oar oars rudder") == "[REDACTED] [REDACTED] rudder"
    monkeypatch.setenv("BOATHOUSE_SECRET_MAIL_ODD", "<a>\n'b'")
    odd = dbutils.secrets.get("mail", "odd")
    assert redacted(f"{odd} {[odd]} &lt;a&gt;\n&#x27;b&#x27;") == '[REDACTED] ["[REDACTED]"] [REDACTED]'


def test_secrets_come_from_the_environment_and_a_missing_one_names_its_variable(dbutils, monkeypatch):
    monkeypatch.setenv("BOATHOUSE_SECRET_MAIL_API_KEY", "s3")
    assert dbutils.secrets.get("mail", "api-key") == "s3"
    assert dbutils.secrets.getBytes("mail", "api-key") == b"s3"
    assert [secret.key for secret in dbutils.secrets.list("mail")] == ["api_key"]
    assert [scope.name for scope in dbutils.secrets.listScopes()] == ["mail"]
    with pytest.raises(ValueError, match="BOATHOUSE_SECRET_MAIL_TOKEN"):
        dbutils.secrets.get("mail", "token")


def test_exit_is_not_caught_by_except_exception(dbutils):
    with pytest.raises(NotebookExit) as ended:
        dbutils.notebook.exit(3)
    assert ended.value.value == "3"
    assert not isinstance(ended.value, Exception)


def test_every_module_explains_itself_and_names_what_it_lacks(dbutils, capsys):
    dbutils.help()
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        "widgets",
        "jobs",
        "fs",
        "notebook",
        "secrets",
        "library",
    ]
    dbutils.fs.help()
    assert "head(file, maxBytes=65536) -> The first bytes of a file as text." in capsys.readouterr().out
    dbutils.widgets.help("get")
    assert "get(name) -> The value of a widget." in capsys.readouterr().out
    with pytest.raises(ValueError, match="there is no command 'got'"):
        dbutils.widgets.help("got")
    with pytest.raises(AttributeError, match="fs has no 'mount' in the local workspace; it has: cp, head"):
        dbutils.fs.mount("s3://bucket", "/mnt/x")
    with pytest.raises(AttributeError, match="dbutils has no 'credentials'"):
        dbutils.credentials.assumeRole("x")
    assert dbutils.library.restartPython() is None


def test_running_a_notebook_outside_one_is_refused(dbutils):
    with pytest.raises(RuntimeError, match="notebook tasks only"):
        dbutils.notebook.run("other", 60, {})
