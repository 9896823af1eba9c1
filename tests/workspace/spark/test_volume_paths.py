"""Paths below `/Volumes`, given to Spark or to Python: refused by name with the remedy; nothing is written into this machine's root folder."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path

import pytest

from boathouse.workspace.spark import volume_paths as volumepaths
from boathouse.workspace.spark.volume_paths import VolumePathError, disks, refuse_path

pytestmark = pytest.mark.skipif(
    Path("/Volumes").exists() and sys.platform != "darwin", reason="an earlier version has left a folder /Volumes here"
)

IN_SPARK = {
    "read csv": "spark.read.csv('/Volumes/dev/raw/landing/in')",
    "read a pattern": "spark.read.json('/Volumes/dev/raw/landing/*/a.json')",
    "read delta": "spark.read.load('/Volumes/dev/raw/landing/in')",
    "read two": "spark.read.parquet('here', 'file:/Volumes/dev/raw/landing/in')",
    "read with a schema": "spark.read.schema('a int').text('/Volumes/dev/raw/landing/in').count()",
    "read dbfs": "spark.read.text('dbfs:/Volumes/dev/raw/landing/in')",
    "read binary": "spark.read.format('binaryFile').load('/Volumes/dev/raw/landing/in').count()",
    "write parquet": "spark.range(3).write.parquet('/Volumes/dev/raw/landing/in')",
    "write delta": "spark.range(3).write.mode('overwrite').save('/Volumes/dev/raw/landing/in')",
    "write by dots": "spark.range(3).write.mode('append').csv('/tmp/../Volumes/dev/raw/landing/in')",
    "write dbfs": "spark.range(3).write.json('dbfs:/Volumes/dev/raw/landing/in')",
    "write fuse": "spark.range(3).write.orc('/dbfs/Volumes/dev/raw/landing/in')",
    "write text": "spark.range(3).selectExpr('string(id)').write.text('file:///Volumes/dev/raw/landing/in')",
    "save an RDD": "spark.sparkContext.parallelize(['a']).saveAsTextFile('/Volumes/dev/raw/landing/in')",
    "sql select": "spark.sql('SELECT * FROM csv.`/Volumes/dev/raw/landing/in`')",
    "sql delta": "spark.sql('SELECT * FROM delta.`/Volumes/dev/raw/landing/in`').count()",
    "sql directory": "spark.sql(\"INSERT OVERWRITE DIRECTORY '/Volumes/dev/raw/landing/in' USING csv SELECT 1\")",
    "sql table": "spark.sql(\"CREATE TABLE volumepaths_t (a int) USING delta LOCATION '/Volumes/dev/raw/landing/in'\")",
    "sql table as": "spark.sql(\"CREATE TABLE volumepaths_t USING delta LOCATION '/Volumes/dev/raw/landing/in' AS SELECT 1 AS a\")",
    "sql csv table": "spark.sql(\"CREATE TABLE volumepaths_t (a int) USING csv LOCATION '/Volumes/dev/raw/landing/in'\")",
    "sql schema": "spark.sql(\"CREATE SCHEMA volumepaths_s LOCATION '/Volumes/dev/raw/landing/in'\")",
    "table with a path": "spark.range(3).write.option('path', '/Volumes/dev/raw/landing/in').saveAsTable('volumepaths_t')",
    "writer v2": "spark.range(3).writeTo('volumepaths_t').using('delta').tableProperty('location', '/Volumes/dev/raw/landing/in').create()",
    "delta table": "DeltaTable.forPath(spark, '/Volumes/dev/raw/landing/in')",
    "delta builder": "DeltaTable.create(spark).location('/Volumes/dev/raw/landing/in').addColumn('a', 'int').execute()",
    "read stream": "spark.readStream.schema('a int').csv('/Volumes/dev/raw/landing/in').writeStream.format('memory').queryName('q').start().awaitTermination()",
    "write stream": "run(rate.option('checkpointLocation', here + '/c1').format('parquet').option('path', '/Volumes/dev/raw/landing/in'))",
    "write delta stream": "run(rate.option('checkpointLocation', here + '/c2').format('delta').option('path', '/Volumes/dev/raw/landing/in'))",
    "checkpoint": "run(rate.option('checkpointLocation', '/Volumes/dev/raw/landing/in').format('memory').queryName('p'))",
}
SPARK = """
    import os
    from delta.tables import DeltaTable
    here = os.getcwd()
    rate = spark.readStream.format("rate").load().writeStream.trigger(availableNow=True)

    def run(query):
        query.start().awaitTermination()

    said = {{}}
    for name, code in {cases!r}.items():
        try:
            exec(code)
            said[name] = "nothing"
        except BaseException as error:
            said[name] = f"{{type(error).__name__}}: {{error}}"
    import json
    print(json.dumps(said))
    """

IN_PYTHON = {
    "read": "open('/Volumes/dev/raw/landing/in')",
    "write": "open('/Volumes/dev/raw/landing/in', 'w')",
    "bytes": "open(b'/Volumes/dev/raw/landing/in', 'wb')",
    "path": "Path('/Volumes/dev/raw/landing/in').write_text('x')",
    "dots": "open('/etc/../Volumes/dev/raw/landing/in')",
    "slashes": "open('//Volumes/dev/raw/landing/in')",
    "fuse": "open('/dbfs/Volumes/dev/raw/landing/in', 'a')",
    "makedirs": "os.makedirs('/Volumes/dev/raw/landing/in', exist_ok=True)",
    "mkdir": "Path('/Volumes/dev/raw/landing/in').mkdir(parents=True, exist_ok=True)",
    "listdir": "os.listdir('/Volumes/dev/raw/landing/in')",
    "walk": "list(os.walk('/Volumes/dev/raw/landing/in'))",
    "glob": "glob.glob('/Volumes/dev/raw/landing/in/*.csv')",
    "path glob": "list(Path('/Volumes/dev/raw/landing/in').glob('*.csv'))",
    "iterdir": "list(Path('/Volumes/dev/raw/landing/in').iterdir())",
    "copy": "shutil.copy(here, '/Volumes/dev/raw/landing/in')",
    "copytree": "shutil.copytree(os.getcwd(), '/Volumes/dev/raw/landing/in')",
    "move": "shutil.move(here, '/Volumes/dev/raw/landing/in')",
    "rmtree": "shutil.rmtree('/Volumes/dev/raw/landing/in', ignore_errors=True)",
    "rename": "os.replace(here, '/Volumes/dev/raw/landing/in')",
    "remove": "os.remove('/Volumes/dev/raw/landing/in')",
    "pandas reads csv": "pandas.read_csv('/Volumes/dev/raw/landing/in')",
    "pandas reads parquet": "pandas.read_parquet('/Volumes/dev/raw/landing/in')",
    "sqlite": "sqlite3.connect('/Volumes/dev/raw/landing/in')",
    "command": "subprocess.run(['mkdir', '-p', '/Volumes/dev/raw/landing/in'])",
    "shell": "subprocess.run('echo x > /Volumes/dev/raw/landing/in', shell=True)",
    "system": "os.system('mkdir -p /Volumes/dev/raw/landing/in')",
}
PYTHON = """
    import glob, json, os, shutil, sqlite3, subprocess
    from pathlib import Path
    import pandas
    here = __file__
    said = {{}}
    for name, code in {cases!r}.items():
        try:
            exec(code)
            said[name] = "nothing"
        except BaseException as error:
            said[name] = f"{{type(error).__name__}}: {{error}}"
    print(json.dumps(said))
    """
REMEDY = "Pass ${resources.volumes.<key>.volume_path} to the task as a parameter, or use dbutils.fs."


@pytest.fixture
def no_root():
    "No test may leave a folder in the root of this machine."
    yield
    assert sys.platform == "darwin" or not Path("/Volumes").exists()
    assert not Path("/dbfs/Volumes").exists()


def test_spark_refuses_a_path_of_a_volume_in_readers_writers_streams_and_sql(project, state, no_root) -> None:
    result, log = project.run(code=textwrap.dedent(SPARK).format(cases=IN_SPARK))
    assert result.state == "SUCCESS", result.error
    said = json.loads(log.splitlines()[-1])
    assert {
        name: text
        for name, text in said.items()
        if f"which Spark cannot open on this machine: the volume lies in {state}/volumes/dev/raw/landing/" not in text or REMEDY not in text
    } == {}
    kinds = ("IllegalArgumentException: ", "StreamingQueryException: ")
    assert {name: text.split(":")[0] for name, text in said.items() if not text.startswith(kinds)} == {}


def test_python_refuses_a_path_of_a_volume_in_a_task(project, state, no_root) -> None:
    result, log = project.run(code=textwrap.dedent(PYTHON).format(cases=IN_PYTHON))
    assert result.state == "SUCCESS", result.error
    said = json.loads(log.splitlines()[-1])
    named = f"is a path of a volume, which Python cannot open on this machine: the volume lies in {state}/volumes/dev/raw/landing/in"
    makes = {"makedirs"}  # it begins with /Volumes itself
    assert {
        name: text for name, text in said.items() if name not in makes and (named not in text or not text.startswith("VolumePathError: "))
    } == {}
    assert (
        said["makedirs"]
        == f"VolumePathError: /Volumes is a path of a volume, which Python cannot open on this machine: the volume lies in {state}/volumes. {REMEDY}"
    )
    assert {text[-len(REMEDY) :] for text in said.values()} == {REMEDY}


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("pandas.DataFrame({'a': [1]}).to_csv('/Volumes/dev/raw/landing/in')", "OSError: Cannot save file into a non-existent directory"),
        (
            "pandas.DataFrame({'a': [1]}).to_parquet('/Volumes/dev/raw/landing/in')",
            "OSError: Cannot save file into a non-existent directory",
        ),
        ("parquet.read_table('/Volumes/dev/raw/landing')", "FileNotFoundError: /Volumes/dev/raw/landing"),
        ("os.stat('/Volumes/dev/raw/landing')", "FileNotFoundError: [Errno 2] No such file or directory: '/Volumes/dev/raw/landing'"),
    ],
)
def test_an_error_of_a_library_that_looked_for_the_file_itself_is_explained(project, state, no_root, code: str, says: str) -> None:
    result, _ = project.run(code=f"import os, pandas\nfrom pyarrow import parquet\n{code}")
    named = f" /Volumes/dev/raw/landing is a path of a volume, which Python cannot open on this machine: the volume lies in {state}/volumes/dev/raw/landing. {REMEDY}"
    assert result.state == "FAILED"
    assert result.error.startswith(says)
    assert result.error.endswith(named)


def test_a_notebook_refuses_it_too_and_names_the_cell(project, state, no_root) -> None:
    file = project.write("n.py", "# Databricks notebook source\n# MAGIC %sh mkdir -p /Volumes/dev/raw/landing/in\n")
    result, _ = project.run("notebook", file=file)
    said = f"/Volumes/dev/raw/landing/in is a path of a volume, which Python cannot open on this machine: the volume lies in {state}/volumes/dev/raw/landing/in. {REMEDY}"
    assert (result.state, result.error) == ("FAILED", f"VolumePathError: {said} (n.py:2, cell 1)")


def test_the_folder_of_a_volume_and_dbutils_work(project, state) -> None:
    folder = f"{state}/volumes/dev/raw/volumepaths"
    code = f"""
        import json, os, pandas
        dbutils.fs.put("/Volumes/dev/raw/volumepaths/in/a.csv", "1\\n2\\n", True)
        pandas.DataFrame({{"a": [3]}}).to_csv("{folder}/in/b.csv", index=False, header=False)
        spark.read.csv("file:{folder}/in").write.mode("overwrite").parquet("{folder}/out")
        stream = spark.readStream.schema("a int").csv("{folder}/in").writeStream.format("parquet").trigger(availableNow=True)
        stream.option("checkpointLocation", "{folder}/checkpoint").start("{folder}/streamed").awaitTermination()
        os.system("cat {folder}/in/a.csv; echo https://example.org/Volumes/x ./Volumes")
        print(sorted(r[0] for r in spark.read.parquet("{folder}/out").collect()), spark.read.parquet("{folder}/streamed").count())
        """
    result, log = project.run(code=code)
    assert (result.state, result.error) == ("SUCCESS", None)
    assert log.splitlines() == ["1", "2", "https://example.org/Volumes/x ./Volumes", "['1', '2', '3'] 3"]


def test_a_disk_of_this_machine_below_volumes_is_no_volume(monkeypatch: pytest.MonkeyPatch) -> None:
    assert disks("/Volumes/Stick/bundle/.boathouse/dev", "/Volumes/Macintosh HD/x", "/home/me", "/Volumes") == {"Stick", "Macintosh HD"}
    refuse_path("/Volumes/Stick/bundle/a.csv", Path("/s/volumes"), disks("/Volumes/Stick/bundle"))
    with pytest.raises(VolumePathError, match=r"/Volumes/stick/a.csv is a path of a volume"):
        refuse_path("/Volumes/stick/a.csv", Path("/s/volumes"), disks("/Volumes/Stick/bundle"))
    monkeypatch.setattr(volumepaths.sys, "platform", "darwin")
    monkeypatch.setattr(volumepaths.os.path, "isdir", lambda path: path in ("/Volumes/Stick", "/Volumes/"))
    monkeypatch.setattr(volumepaths.os, "listdir", lambda path: ["Stick", "Macintosh HD"])
    for path in ("/Volumes/Stick/a.csv", "/Volumes/Macintosh\\", "/Volumes/Macintosh"):
        refuse_path(path, Path("/s/volumes"), ())
    refuse_path("/Volumes", Path("/s/volumes"), ())
    with pytest.raises(VolumePathError, match=r"the volume lies in /s/volumes/dev/raw/landing/a.csv"):
        refuse_path("/Volumes/dev/raw/landing/a.csv", Path("/s/volumes"), ())


@pytest.mark.parametrize("path", ["/home/me/Volumes/a", "/Volumesx/a", "Volumes/a", "/data/Volumes", "x"])
def test_a_path_that_only_looks_like_one_is_none(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refuse_path(path, Path("/s/volumes"), ())
