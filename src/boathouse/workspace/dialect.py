"""Two things that a session here understands beyond Spark's own: catalogs that are other names of its one catalog, and `USE CATALOG`.

Spark finds a catalog by its class, and only its own catalog holds Delta tables, views and functions without a server beside it. So the class
of a named catalog answers with Spark's own. Janino compiles it, as it compiles Spark's queries: in 0.05 s, without a compiler on the machine.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from boathouse.workspace import localdisk

OWN = "spark_catalog"
CLASS, EXTENSION = "boathouse.Catalog", "boathouse.Extensions"
SOURCE = r"""
package boathouse;

import java.util.regex.Pattern;
import org.apache.spark.sql.SparkSessionExtensions;
import org.apache.spark.sql.catalyst.FunctionIdentifier;
import org.apache.spark.sql.catalyst.TableIdentifier;
import org.apache.spark.sql.catalyst.expressions.Expression;
import org.apache.spark.sql.catalyst.parser.ParameterContext;
import org.apache.spark.sql.catalyst.parser.ParseException;
import org.apache.spark.sql.catalyst.parser.ParserInterface;
import org.apache.spark.sql.catalyst.plans.logical.LogicalPlan;
import org.apache.spark.sql.classic.SparkSession;
import org.apache.spark.sql.types.DataType;
import org.apache.spark.sql.types.StructType;
import org.apache.spark.sql.util.CaseInsensitiveStringMap;

public class Catalog extends org.apache.spark.sql.delta.catalog.DeltaCatalog {
  public void initialize(String name, CaseInsensitiveStringMap options) {
    setDelegateCatalog(SparkSession.active().sessionState().catalogManager().v2SessionCatalog());
  }
}

public class Extensions extends scala.runtime.AbstractFunction1 {
  public Object apply(Object extensions) {
    ((SparkSessionExtensions) extensions).injectParser(new Around());
    return scala.runtime.BoxedUnit.UNIT;
  }
}

public class Around extends scala.runtime.AbstractFunction2 {
  public Object apply(Object session, Object parser) { return new Parser((ParserInterface) parser); }
}

public class Parser implements ParserInterface {
  private static final Pattern USE = Pattern.compile("^(\\s*)(?:USE|SET)\\s+CATALOG\\s", Pattern.CASE_INSENSITIVE);
  private final ParserInterface next;
  public Parser(ParserInterface next) { this.next = next; }
  private static String spark(String sql) { return USE.matcher(sql).replaceFirst("$1USE "); }
  public LogicalPlan parsePlan(String sql) throws ParseException { return next.parsePlan(spark(sql)); }
  public LogicalPlan parsePlanWithParameters(String sql, ParameterContext given) throws ParseException { return next.parsePlanWithParameters(spark(sql), given); }
  public LogicalPlan parseQuery(String sql) throws ParseException { return next.parseQuery(sql); }
  public Expression parseExpression(String sql) throws ParseException { return next.parseExpression(sql); }
  public TableIdentifier parseTableIdentifier(String sql) throws ParseException { return next.parseTableIdentifier(sql); }
  public FunctionIdentifier parseFunctionIdentifier(String sql) throws ParseException { return next.parseFunctionIdentifier(sql); }
  public scala.collection.immutable.Seq parseMultipartIdentifier(String sql) throws ParseException { return next.parseMultipartIdentifier(sql); }
  public StructType parseRoutineParam(String sql) throws ParseException { return next.parseRoutineParam(sql); }
  public StructType parseTableSchema(String sql) throws ParseException { return next.parseTableSchema(sql); }
  public DataType parseDataType(String sql) throws ParseException { return next.parseDataType(sql); }
}
"""


def teach(jvm: Any, folder: Path) -> None:
    "Compiles the classes in a JVM that has no session yet, and puts them on its class path as a jar in `folder`."
    loader = jvm.java.lang.Thread.currentThread().getContextClassLoader()
    compiler = jvm.org.codehaus.janino.SimpleCompiler()
    compiler.setParentClassLoader(loader)
    compiler.cook(SOURCE + localdisk.SOURCE)
    jar = folder / "boathouse.jar"
    with zipfile.ZipFile(jar, "w") as members:
        for name, code in compiler.getBytecodes().items():
            members.writestr(name.replace(".", "/") + ".class", bytes(code))
    loader.addURL(jvm.java.io.File(str(jar)).toURI().toURL())


def catalog_settings(names: Iterable[str]) -> dict[str, str]:
    "The settings of a session in which these catalogs can be named."
    return {f"spark.sql.catalog.{name}": CLASS for name in names if name != OWN}
