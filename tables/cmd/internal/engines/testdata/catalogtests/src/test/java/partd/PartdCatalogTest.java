package partd;

import java.util.HashMap;
import java.util.Map;
import org.apache.iceberg.catalog.CatalogTests;
import org.apache.iceberg.catalog.Namespace;
import org.apache.iceberg.catalog.TableIdentifier;
import org.apache.iceberg.rest.RESTCatalog;
import org.junit.jupiter.api.BeforeEach;

/** Runs Iceberg's tests of catalogs against the catalog at the URL in the property "uri". */
public class PartdCatalogTest extends CatalogTests<RESTCatalog> {
  private RESTCatalog catalog;

  @BeforeEach
  void empty() {
    catalog = initCatalog("partd", Map.of());
    for (Namespace n : catalog.listNamespaces()) {
      catalog.listTables(n).forEach(catalog::dropTable);
      catalog.dropNamespace(n);
    }
  }

  @Override
  protected RESTCatalog catalog() {
    return catalog;
  }

  @Override
  protected RESTCatalog initCatalog(String name, Map<String, String> more) {
    Map<String, String> properties = new HashMap<>();
    properties.put("uri", System.getProperty("uri"));
    properties.put("io-impl", PartdFileIO.class.getName());
    // The suite expects these defaults of the catalog.
    properties.put("table-default.default-key1", "catalog-default-key1");
    properties.put("table-default.default-key2", "catalog-default-key2");
    properties.put("table-default.override-key3", "catalog-default-key3");
    properties.put("table-override.override-key3", "catalog-override-key3");
    properties.put("table-override.override-key4", "catalog-override-key4");
    properties.putAll(more);
    RESTCatalog made = new RESTCatalog();
    made.initialize(name, properties);
    return made;
  }

  /** Requests no location: the catalog chooses it. */
  @Override
  protected String baseTableLocation(TableIdentifier table) {
    return null;
  }

  @Override
  protected boolean overridesRequestedLocation() {
    return true;
  }

  @Override
  protected boolean requiresNamespaceCreate() {
    return true;
  }

  @Override
  protected boolean supportsServerSideRetry() {
    return true;
  }
}
