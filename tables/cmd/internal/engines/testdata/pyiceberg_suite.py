"""Runs pyiceberg's catalog tests, from its source, with our REST catalog."""

import json
import logging
import sys
from unittest import mock

import pytest
from pyiceberg.catalog.rest import RestCatalog

url, basetemp, skipped = sys.argv[1:]
reasons = {name: reason for reason, names in json.loads(skipped).items() for name in names}

# The tests import clients and fakes of other catalogs, which are not installed.
for name in ("boto3", "moto", "moto.server", "pyiceberg.catalog.hive"):
    sys.modules[name] = mock.MagicMock()

sys.path.insert(0, "")  # like python -m pytest
init = RestCatalog.__init__


def init_with_our_url(self, name, **properties):
    properties.update(uri=url, supports_nested_namespaces="false", supports_slash_in_identifier="true")
    init(self, name, **properties)


def empty_catalog(name, _warehouse):
    catalog = RestCatalog(name)
    for namespace in catalog.list_namespaces():
        for table in catalog.list_tables(namespace):
            catalog.drop_table(table)
        catalog.drop_namespace(namespace)
    return catalog


class Ours:
    def pytest_collection_modifyitems(self, config, items):
        for plugin in config.pluginmanager.get_plugins():
            if hasattr(plugin, "_CATALOG_FACTORIES"):
                plugin._CATALOG_FACTORIES["memory"] = empty_catalog
        others = ("sql", "memory_catalog", "hive", "rest_test_catalog", "hierarchical", "fixed_test")  # our namespaces have one level
        for item in list(items):
            _, _, parameters = item.nodeid.partition("[")
            other = any(o in p for o in others for p in parameters.rstrip("]").split("-"))
            reason = reasons.get(item.name) or reasons.get(item.originalname)
            if other or item.get_closest_marker("integration") and "spark" in item.fixturenames:
                items.remove(item)
            elif reason:
                item.add_marker(pytest.mark.xfail(run=False, reason=reason))


RestCatalog.__init__ = init_with_our_url
logging.disable(logging.CRITICAL)
sys.exit(
    pytest.main(
        ["-q", "-p", "no:cacheprovider", "--tb=short", "-W", "ignore", "--basetemp", basetemp]
        + ["tests/catalog/test_catalog_behaviors.py", "tests/integration/test_catalog.py", "tests/integration/test_rest_catalog.py"],
        plugins=[Ours()],
    )
)
