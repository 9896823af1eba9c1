"""Extend a session here beyond Spark: named catalogs, `USE CATALOG`, and a check of each plan.

Spark finds a catalog by its class. Only its own catalog holds Delta tables, views and functions without a separate server.
So named catalogs are other names of that one catalog: their class delegates to it.
Janino compiles the class, as it compiles Spark's queries: in 0.05 s, without a compiler on the machine.
The check refuses paths of volumes (`volume_paths`) and schemas that belong to another catalog (`schema_owners`).
"""

from __future__ import annotations

import sys
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from boathouse.workspace.spark import local_disk as localdisk
from boathouse.workspace.spark import schema_owners as schemaowners
from boathouse.workspace.spark import volume_paths as volumepaths

JAR = "boathouse.jar"
OWN = "spark_catalog"
CLASS, EXTENSION = "boathouse.Catalog", "boathouse.Extensions"
SOURCE = r"""
import java.util.regex.Pattern;
import org.apache.spark.sql.SparkSessionExtensions;
import org.apache.spark.sql.catalyst.FunctionIdentifier;
import org.apache.spark.sql.catalyst.TableIdentifier;
import org.apache.spark.sql.catalyst.analysis.Analyzer;
import org.apache.spark.sql.catalyst.expressions.Expression;
import org.apache.spark.sql.catalyst.expressions.PlanExpression;
import org.apache.spark.sql.catalyst.parser.ParameterContext;
import org.apache.spark.sql.catalyst.parser.ParseException;
import org.apache.spark.sql.catalyst.parser.ParserInterface;
import org.apache.spark.sql.catalyst.plans.logical.LocalRelation;
import org.apache.spark.sql.catalyst.plans.logical.LogicalPlan;
import org.apache.spark.sql.catalyst.rules.Rule;
import org.apache.spark.sql.catalyst.trees.TreeNode;
import org.apache.spark.sql.classic.SparkSession;
import org.apache.spark.sql.connector.catalog.Identifier;
import org.apache.spark.sql.connector.catalog.Table;
import org.apache.spark.sql.types.DataType;
import org.apache.spark.sql.types.StructType;
import org.apache.spark.sql.util.CaseInsensitiveStringMap;

public class Catalog extends org.apache.spark.sql.delta.catalog.DeltaCatalog {
  public String alias;
  public void initialize(String name, CaseInsensitiveStringMap options) {
    alias = name;
    setDelegateCatalog(SparkSession.active().sessionState().catalogManager().v2SessionCatalog());
  }
  public Table loadTable(Identifier table) {
    Schemas.use(SparkSession.active(), alias, table);
    return super.loadTable(table);
  }
}

public class Extensions extends scala.runtime.AbstractFunction1 {
  public Object apply(Object extensions) {
    ((SparkSessionExtensions) extensions).injectParser(new Around());
    ((SparkSessionExtensions) extensions).injectResolutionRule(new Starts());
    return scala.runtime.BoxedUnit.UNIT;
  }
}

public class Starts extends scala.runtime.AbstractFunction1 {
  public Object apply(Object session) { return new Start((SparkSession) session); }
}

// The first analysis of a session puts `Check` before all later ones; the parser does so before it returns the first name.
public class Start extends Rule {
  private final SparkSession session;
  private boolean done;
  public Start(SparkSession session) { this.session = session; }
  public TreeNode apply(TreeNode plan) {
    if (!done) Check.install(session);
    done = true;
    return plan;
  }
}

// Sees each plan as it is written, in SQL or in Python, before its names are resolved; what is analysed already is left out. Spark calls such
// rules hint resolution rules, and its session with a Hive metastore takes none from an extension: hence the reflection.
public class Check extends Rule {
  private final SparkSession session;
  public Check(SparkSession session) { this.session = session; }
  public static void install(SparkSession session) {
    try {
      java.lang.reflect.Field rules = Analyzer.class.getDeclaredField("hintResolutionRules");
      rules.setAccessible(true);
      scala.collection.immutable.Seq before = (scala.collection.immutable.Seq) rules.get(session.sessionState().analyzer());
      for (scala.collection.Iterator known = before.iterator(); known.hasNext();) if (known.next() instanceof Check) return;
      rules.set(session.sessionState().analyzer(), before.appended(new Check(session)));
    } catch (ReflectiveOperationException error) {
      throw new IllegalStateException("boathouse cannot check plans with this version of Spark", error);
    }
  }
  public TreeNode apply(TreeNode plan) {
    visit(plan);
    return plan;
  }
  private void visit(Object node) {
    if (node instanceof LogicalPlan) {
      LogicalPlan plan = (LogicalPlan) node;
      if (plan.analyzed() || plan instanceof LocalRelation) return;  // the latter has rows, as many as they may be, and no names
      VolumePaths.refuse(plan);
      Schemas.use(session, plan);
      // Not the children alone: the table that a plan writes to is none of them.
      for (scala.collection.Iterator parts = plan.productIterator(); parts.hasNext();) visit(parts.next());
    } else if (node instanceof Expression) {
      Schemas.use(session, node);
      if (node instanceof PlanExpression) visit(((PlanExpression) node).plan());
      for (scala.collection.Iterator parts = ((Expression) node).children().iterator(); parts.hasNext();) visit(parts.next());
    } else if (node instanceof scala.collection.Seq || node instanceof scala.Option) {
      for (scala.collection.Iterator parts = ((scala.collection.IterableOnce) node).iterator(); parts.hasNext();) visit(parts.next());
    }
  }
}

public class Around extends scala.runtime.AbstractFunction2 {
  public Object apply(Object session, Object parser) { return new Parser((SparkSession) session, (ParserInterface) parser); }
}

public class Parser implements ParserInterface {
  private static final Pattern USE = Pattern.compile("^(\\s*)(?:USE|SET)\\s+CATALOG\\s", Pattern.CASE_INSENSITIVE);
  private final SparkSession session;
  private final ParserInterface next;
  private boolean checks;
  public Parser(SparkSession session, ParserInterface next) {
    this.session = session;
    this.next = next;
  }
  private ParserInterface next() {
    if (!checks) Check.install(session);
    checks = true;
    return next;
  }
  private static String spark(String sql) { return USE.matcher(sql).replaceFirst("$1USE "); }
  public LogicalPlan parsePlan(String sql) throws ParseException { return next().parsePlan(spark(sql)); }
  public LogicalPlan parsePlanWithParameters(String sql, ParameterContext given) throws ParseException { return next().parsePlanWithParameters(spark(sql), given); }
  public LogicalPlan parseQuery(String sql) throws ParseException { return next().parseQuery(sql); }
  public Expression parseExpression(String sql) throws ParseException { return next.parseExpression(sql); }
  public TableIdentifier parseTableIdentifier(String sql) throws ParseException { return next.parseTableIdentifier(sql); }
  public FunctionIdentifier parseFunctionIdentifier(String sql) throws ParseException { return next.parseFunctionIdentifier(sql); }
  public scala.collection.immutable.Seq parseMultipartIdentifier(String sql) throws ParseException {
    scala.collection.immutable.Seq name = next().parseMultipartIdentifier(sql);
    // Some of Python's calls look a table up before any plan has its name.
    if (name.size() == 3) Schemas.use(session, new UnresolvedIdentifier(name, false));
    return name;
  }
  public StructType parseRoutineParam(String sql) throws ParseException { return next.parseRoutineParam(sql); }
  public StructType parseTableSchema(String sql) throws ParseException { return next.parseTableSchema(sql); }
  public DataType parseDataType(String sql) throws ParseException { return next.parseDataType(sql); }
}
"""


def install_dialect(jvm: Any, state: Path) -> None:
    "Compile the classes in a JVM that has no session yet, and add them to its class path as a jar in the state folder."
    loader = jvm.java.lang.Thread.currentThread().getContextClassLoader()
    with zipfile.ZipFile(state / JAR, "w") as members:
        compiler = jvm.org.codehaus.janino.SimpleCompiler()
        compiler.setParentClassLoader(loader)
        compiler.cook(_one_unit(SOURCE, localdisk.SOURCE, volumepaths.SOURCE, schemaowners.SOURCE))
        for name, code in compiler.getBytecodes().items():
            members.writestr(name.replace(".", "/") + ".class", bytes(code))
    loader.addURL(jvm.java.io.File(str(state / JAR)).toURI().toURL())
    jvm.java.lang.System.setProperty(schemaowners.PROPERTY, str(state / schemaowners.FILE))
    jvm.java.lang.System.setProperty(volumepaths.VOLUMES, str(state / "volumes"))
    jvm.java.lang.System.setProperty(volumepaths.DISKS, ",".join(volumepaths.disks(state, sys.prefix, tempfile.gettempdir())))
    jvm.org.apache.hadoop.fs.FileSystem.closeAll()  # a file system opened before the classes existed would stay in use


def _one_unit(*sources: str) -> str:
    "Return the classes of all sources as one unit, because Java requires the imports first."
    lines = [line for source in sources for line in source.splitlines()]
    imports = dict.fromkeys(line for line in lines if line.startswith("import "))
    return "\n".join(["package boathouse;", *imports, *(line for line in lines if line not in imports)])


def catalog_settings(names: Iterable[str]) -> dict[str, str]:
    "Return the settings of a session in which SQL can name these catalogs."
    return {f"spark.sql.catalog.{name}": CLASS for name in names if name != OWN}
