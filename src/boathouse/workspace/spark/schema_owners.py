"""Record which catalog of a target a schema belongs to, and refuse any other catalog.

All catalogs of a target share the schemas of this machine. A schema belongs to the catalog under which a session first creates or finds it.
`schemas.properties` in the state folder records that. An entry whose schema no longer exists has no effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

FILE = "schemas.properties"
SETTING = "spark.boathouse.catalog"  # session setting: the name of its current catalog
PROPERTY = "boathouse.schemas"  # system property of the JVM: the name of the file
SOURCE = r"""
import java.io.File;
import java.io.FileReader;
import java.io.FileWriter;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.Properties;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.spark.sql.catalyst.analysis.AnalysisContext;
import org.apache.spark.sql.catalyst.analysis.UnresolvedFunction;
import org.apache.spark.sql.catalyst.analysis.UnresolvedFunctionName;
import org.apache.spark.sql.catalyst.analysis.UnresolvedIdentifier;
import org.apache.spark.sql.catalyst.analysis.UnresolvedNamespace;
import org.apache.spark.sql.catalyst.analysis.UnresolvedRelation;
import org.apache.spark.sql.catalyst.analysis.UnresolvedTable;
import org.apache.spark.sql.catalyst.analysis.UnresolvedTableOrView;
import org.apache.spark.sql.catalyst.analysis.UnresolvedView;
import org.apache.spark.sql.catalyst.plans.logical.CreateNamespace;
import org.apache.spark.sql.catalyst.plans.logical.SetCatalogAndNamespace;
import org.apache.spark.sql.classic.SparkSession;
import org.apache.spark.sql.connector.catalog.CatalogPlugin;
import org.apache.spark.sql.connector.catalog.Identifier;
import org.apache.spark.sql.execution.datasources.v2.DataSourceV2Relation;

public class Schemas {
  private static final ConcurrentHashMap owners = new ConcurrentHashMap();

  public static void use(SparkSession session, Object node) {
    if (node instanceof CreateNamespace) {
      Object name = ((CreateNamespace) node).name();
      if (name instanceof UnresolvedNamespace) namespace(session, ((UnresolvedNamespace) name).multipartIdentifier(), true);
    } else if (node instanceof SetCatalogAndNamespace && ((SetCatalogAndNamespace) node).child() instanceof UnresolvedNamespace) {
      scala.collection.immutable.Seq name = ((UnresolvedNamespace) ((SetCatalogAndNamespace) node).child()).multipartIdentifier();
      if (!name.isEmpty() && isCatalog(session, (String) name.head())) change(session, (String) name.head());
    } else if (node instanceof UnresolvedNamespace) {
      namespace(session, ((UnresolvedNamespace) node).multipartIdentifier(), false);
    } else if (node instanceof UnresolvedRelation) {
      object(session, ((UnresolvedRelation) node).multipartIdentifier(), true);
    } else if (node instanceof UnresolvedTable) {
      object(session, ((UnresolvedTable) node).multipartIdentifier(), true);
    } else if (node instanceof UnresolvedView) {
      object(session, ((UnresolvedView) node).multipartIdentifier(), true);
    } else if (node instanceof UnresolvedTableOrView) {
      object(session, ((UnresolvedTableOrView) node).multipartIdentifier(), true);
    } else if (node instanceof UnresolvedIdentifier) {
      object(session, ((UnresolvedIdentifier) node).nameParts(), true);
    } else if (node instanceof UnresolvedFunctionName) {
      object(session, ((UnresolvedFunctionName) node).multipartIdentifier(), false);
    } else if (node instanceof UnresolvedFunction) {
      object(session, ((UnresolvedFunction) node).nameParts(), false);
    } else if (node instanceof DataSourceV2Relation) {
      DataSourceV2Relation table = (DataSourceV2Relation) node;
      if (table.catalog().isDefined() && table.identifier().isDefined() && table.catalog().get() instanceof Catalog) {
        use(session, ((Catalog) table.catalog().get()).alias, (Identifier) table.identifier().get());
      }
    }
  }

  public static void use(SparkSession session, String catalog, Identifier table) {
    if (table.namespace().length == 1 && !isPath(table.name())) use(session, catalog, table.namespace()[0], false);
  }

  private static void namespace(SparkSession session, scala.collection.immutable.Seq name, boolean creates) {
    if (name.isEmpty()) return;
    boolean named = isCatalog(session, (String) name.head());
    if (named && name.size() > 1) use(session, (String) name.head(), (String) name.apply(1), creates);
    if (!named && !inView()) use(session, current(session), (String) name.head(), creates);
  }

  // A table, view or function. Its name begins with a catalog, with a schema of the current one, or is all there is of it.
  private static void object(SparkSession session, scala.collection.immutable.Seq name, boolean unqualified) {
    boolean named = name.size() > 1 && isCatalog(session, (String) name.head());
    if (isPath((String) name.last())) return;
    if (named && name.size() > 2) {
      use(session, (String) name.head(), (String) name.apply(1), false);
    } else if (!named && name.size() > 1) {
      if (!inView()) use(session, current(session), (String) name.head(), false);
    } else if (!named && unqualified && !inView() && !session.sessionState().catalog().isTempView(name)) {
      String[] schema = session.sessionState().catalogManager().currentNamespace();
      if (schema.length == 1) use(session, current(session), schema[0], false);
    }
  }

  private static void use(SparkSession session, String catalog, String schema, boolean creates) {
    String key = schema.toLowerCase(), owner = (String) owners.get(key);
    if (catalog.equalsIgnoreCase(owner)) return;
    synchronized (owners) {
      load();
      owner = (String) owners.get(key);
      if (catalog.equalsIgnoreCase(owner)) return;
      boolean exists = session.sessionState().catalog().databaseExists(schema);
      if (owner != null && exists) throw new IllegalArgumentException(refusal(catalog, schema, owner));
      if (!exists && !creates) return;
      owners.put(key, catalog);
      store();
    }
  }

  private static String refusal(String catalog, String schema, String owner) {
    return "The schema " + catalog + "." + schema + " cannot be used: in this target the schema '" + schema + "' belongs to the catalog '" + owner
      + "', and the catalogs of a target share their schemas on this machine. Rename the schema in one of the two catalogs, or give each catalog "
      + "a target of its own. If the catalog was renamed from '" + owner + "' to '" + catalog + "', delete the line '" + schema.toLowerCase()
      + "' in " + file() + ".";
  }

  private static boolean isCatalog(SparkSession session, String name) {
    return session.sessionState().conf().contains("spark.sql.catalog." + name);
  }

  // A copy of a session, as streams make one, knows the current catalog from the setting alone.
  public static String current(SparkSession session) {
    CatalogPlugin catalog = session.sessionState().catalogManager().currentCatalog();
    return catalog instanceof Catalog ? ((Catalog) catalog).alias : session.sessionState().conf().getConfString("SETTING", "spark_catalog");
  }

  // Spark itself takes the change from one of these catalogs to another for none, since all of them have the name of its own.
  private static void change(SparkSession session, String catalog) {
    if (catalog.equalsIgnoreCase(current(session))) return;
    if (catalog.equals("spark_catalog")) session.sessionState().catalogManager().reset();
    else session.sessionState().catalogManager().setCurrentCatalog(catalog);
    session.sessionState().conf().setConfString("SETTING", catalog);
  }

  // The text of a view is read in the catalog in which it was written, which Spark keeps under the name of its own.
  private static boolean inView() { return AnalysisContext.get().catalogAndNamespace().nonEmpty(); }

  private static boolean isPath(String name) { return name.indexOf('/') >= 0; }

  private static File file() { return new File(System.getProperty("boathouse.schemas")); }

  private static void load() {
    Properties read = new Properties();
    try {
      if (file().isFile()) {
        FileReader reader = new FileReader(file());
        read.load(reader);
        reader.close();
      }
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
    owners.clear();
    owners.putAll(read);
  }

  private static void store() {
    Properties written = new Properties();
    written.putAll(owners);
    File scratch = new File(file().getPath() + ".writing");
    try {
      FileWriter writer = new FileWriter(scratch);
      written.store(writer, null);
      writer.close();
      java.nio.file.Files.move(
        scratch.toPath(), file().toPath(), new java.nio.file.CopyOption[] {java.nio.file.StandardCopyOption.REPLACE_EXISTING}
      );
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }
}
""".replace("SETTING", SETTING)  # fmt: skip


def owners(state: Path) -> Mapping[str, str]:
    "Return the catalog that each schema of a state belongs to, both in lower case."
    file = state / FILE
    lines = file.read_text(encoding="utf-8").lower().splitlines() if file.is_file() else []
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
