"The session's settings, its jars and class archive, and the lock on its state folder."

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from boathouse.workspace.spark import class_archive as archive
from boathouse.workspace.spark import jars, session
from boathouse.workspace.spark.lock import lock, unlock


def test_a_second_process_on_one_state_is_told_who_has_it(tmp_path):
    lock(tmp_path)
    try:
        code = "import sys; from pathlib import Path; from boathouse.workspace.spark.lock import lock; lock(Path(sys.argv[1]))"
        other = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
        assert other.returncode == 1
        assert f"WorkspaceLocked: {tmp_path} is in use by process {os.getpid()}" in other.stderr
    finally:
        unlock(tmp_path)
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, check=False).returncode == 0


def test_taking_a_lock_again_in_the_same_process_is_harmless(tmp_path):
    assert lock(tmp_path) is lock(tmp_path)
    unlock(tmp_path)


def test_a_new_state_begins_with_a_copy_of_the_empty_metastore_and_a_default_schema_of_its_own(spark, state):
    assert archive.empty_metastore(jars.jars()).is_dir()
    assert not (state / session.NEW_METASTORE).exists()
    facts = dict(spark.sql("describe schema default").collect())
    assert facts["Location"] == f"file:{state}/warehouse"
    spark.sql("create table default.at_home (n int)")
    assert spark.sql("describe detail default.at_home").first().location == f"file:{state}/warehouse/at_home"
    spark.sql("drop table default.at_home")


def test_tables_have_three_part_names_and_lie_in_the_state_folder(spark, state):
    spark.sql("create schema if not exists spark_catalog.session_test")
    spark.range(3).write.format("delta").mode("overwrite").saveAsTable("spark_catalog.session_test.t")
    location = spark.sql("describe detail spark_catalog.session_test.t").first().location
    assert location.startswith(f"file:{state}/warehouse/session_test.db")
    spark.sql("drop schema spark_catalog.session_test cascade")


def test_a_query_takes_parameters_although_delta_parses_it(spark):
    assert spark.sql("select :a + 1 as b", args={"a": 1}).first().b == 2


def test_instants_are_utc_wherever_the_machine_stands(spark):
    assert str(spark.sql("select timestamp'2013-10-01T00:00:00Z' as t").first().t) == "2013-10-01 00:00:00"


def test_nothing_of_the_jvm_listens_to_the_world(spark):
    import psutil

    jvm = psutil.Process(spark.sparkContext._gateway.proc.pid)
    addresses = {connection.laddr.ip for connection in jvm.net_connections("tcp") if connection.status == psutil.CONN_LISTEN}
    assert addresses <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_the_jars_are_looked_for_in_the_named_folder_only_if_one_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("BOATHOUSE_JARS", str(tmp_path))
    assert jars.folders() == [tmp_path]


def test_the_project_of_the_working_directory_comes_first(monkeypatch, tmp_path):
    monkeypatch.delenv("BOATHOUSE_JARS", raising=False)
    (tmp_path / "databricks.yml").write_text("")
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    assert jars.folders()[0].is_relative_to(tmp_path / ".boathouse" / "jars")


def test_a_folder_that_lacks_a_jar_is_not_complete(tmp_path):
    for jar in jars.jars():
        shutil.copy(jar, tmp_path)
    assert jars.is_complete(tmp_path)
    next(tmp_path.glob("*storage*")).unlink()
    assert not jars.is_complete(tmp_path)


def test_a_resolution_that_fails_leaves_no_folder_and_says_what_to_do(monkeypatch, tmp_path):
    settings = tmp_path / "ivysettings.xml"
    settings.write_text("<ivysettings><settings defaultResolver='none'/><resolvers><filesystem name='none'>"
                        f"<artifact pattern='{tmp_path}/nothing/[artifact].jar'/></filesystem></resolvers></ivysettings>")  # fmt: skip
    monkeypatch.setenv("BOATHOUSE_IVY_SETTINGS", str(settings))
    with pytest.raises(jars.JarsError, match=r"(?s)BOATHOUSE_IVY_SETTINGS.*(unresolved|not found)"):
        jars.resolve_jars(tmp_path / "jars")
    assert not (tmp_path / "jars").exists()
    assert not list(tmp_path.glob(".resolving-*"))


def _copied(tmp_path: Path) -> list[Path]:
    return [Path(shutil.copy(jar, tmp_path)) for jar in jars.jars()]


def test_a_truncated_archive_is_not_used(tmp_path):
    found = _copied(tmp_path)
    file = archive.archive_file(found)
    file.write_bytes(b"x" * 100)
    file.with_suffix(".size").write_text("100")
    assert archive.archive_options(found)[0] == f"-XX:SharedArchiveFile={file}"
    file.write_bytes(b"x" * 99)
    assert archive.archive_options(found) == []


def test_java_starts_quietly_on_an_archive_of_rubbish(tmp_path):
    found = _copied(tmp_path)
    file = archive.archive_file(found)
    file.write_bytes(os.urandom(10_000))
    file.with_suffix(".size").write_text("10000")
    java = subprocess.run(["java", *archive.archive_options(found), "-version"], capture_output=True, text=True, check=False)
    assert java.returncode == 0
    assert java.stdout == ""
    assert "rror" not in java.stderr


def test_another_jar_means_another_archive(tmp_path):
    found = _copied(tmp_path)
    before = archive.archive_file(found)
    found[0].write_bytes(b"newer")
    assert archive.archive_file(found) != before


def test_memory_is_the_named_one_or_a_part_of_the_machine(monkeypatch):
    monkeypatch.setenv("BOATHOUSE_DRIVER_MEMORY", "3g")
    assert session.driver_memory() == "3g"
    monkeypatch.delenv("BOATHOUSE_DRIVER_MEMORY")
    assert 512 <= int(session.driver_memory().removesuffix("m")) <= 4096


def test_a_table_whose_creation_was_cut_off_is_cleared_and_can_be_made(spark, state):
    "What a kill leaves between making the folder and the first commit; Delta refuses such a folder."
    spark.sql("CREATE SCHEMA IF NOT EXISTS cut")
    spark.sql("CREATE TABLE cut.whole (n int)")
    folder = state / "warehouse" / "cut.db" / "halfway"
    (folder / "_delta_log" / "_staged_commits").mkdir(parents=True)
    (folder / "_delta_log" / ".00000000000000000000.json.0a1b.tmp").write_text("{")
    with pytest.raises(Exception, match="NON_EMPTY_LOCATION"):
        spark.sql("CREATE TABLE cut.halfway (n int)")
    assert session.clear_cut_off(spark, state / "warehouse") == [folder]
    spark.sql("CREATE TABLE cut.halfway (n int)")
    assert session.clear_cut_off(spark, state / "warehouse") == []
    assert spark.table("cut.whole").count() == 0


def test_a_table_that_is_committed_but_not_registered_is_cleared_only_if_it_has_no_rows(spark, state):
    "What a kill leaves between the first commit and the entry in the metastore."
    spark.sql("CREATE SCHEMA IF NOT EXISTS cut")
    for name, query in (("bare", ""), ("filled", " AS SELECT 1 n")):
        spark.sql(f"CREATE TABLE cut.{name} {'' if query else '(n int)'}{query}")
        folder = state / "warehouse" / "cut.db" / name
        shutil.copytree(folder, folder.with_name("aside"))
        spark.sql(f"DROP TABLE cut.{name}")
        folder.with_name("aside").rename(folder)
    spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()  # as in the JVM of the next run
    with pytest.raises(Exception, match="NON_EMPTY_LOCATION"):
        spark.sql("CREATE TABLE cut.bare (n int)")
    assert session.clear_cut_off(spark, state / "warehouse") == [state / "warehouse" / "cut.db" / "bare"]
    spark.sql("CREATE TABLE cut.bare (n int)")
    assert session.clear_cut_off(spark, state / "warehouse") == []
    assert (state / "warehouse" / "cut.db" / "filled").is_dir()


def test_files_get_the_permissions_that_hadoop_sets_for_batch_and_for_streams(spark, tmp_path):
    jvm, conf = spark._jvm, spark._jsc.hadoopConfiguration()
    (tmp_path / "plain").write_text("x")
    plain = jvm.org.apache.hadoop.fs.Path(f"file:{tmp_path / 'plain'}")
    disk = plain.getFileSystem(conf)
    assert disk.getClass().getName() == "boathouse.LocalFiles"
    for mode in (0o640, 0o755, 0o000, 0o1755):  # the last one has a sticky bit
        disk.setPermission(plain, jvm.org.apache.hadoop.fs.permission.FsPermission(mode))
        assert (tmp_path / "plain").stat().st_mode & 0o7777 == mode
    context = jvm.org.apache.hadoop.fs.FileContext.getFileContext(conf)
    assert context.getDefaultFileSystem().getClass().getName() == "boathouse.LocalFs"
    found = context.getFileLinkStatus(plain)
    assert (found.isSymlink(), found.getLen()) == (False, 1)
    context.setPermission(plain, jvm.org.apache.hadoop.fs.permission.FsPermission(0o600))
    assert (tmp_path / "plain").stat().st_mode & 0o7777 == 0o600


def test_what_is_written_keeps_its_checksum_so_that_a_damaged_file_is_refused(spark, tmp_path):
    spark.range(3).selectExpr("string(id)").coalesce(1).write.text(str(tmp_path / "t"))
    (file,) = (tmp_path / "t").glob("part-*.txt")
    assert (tmp_path / "t" / f".{file.name}.crc").is_file()
    file.write_text("9\n9\n9\n")
    with pytest.raises(Exception, match="Checksum"):
        spark.read.text(str(tmp_path / "t")).collect()
