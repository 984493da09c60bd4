package icecat

// The first two tables are those of pyiceberg's SqlCatalog, so that it can open
// the catalog; the others are ours, and are kept by the same transactions.
var schema = []string{
	`CREATE TABLE IF NOT EXISTS iceberg_tables (
		catalog_name VARCHAR(255) NOT NULL, table_namespace VARCHAR(255) NOT NULL, table_name VARCHAR(255) NOT NULL,
		metadata_location VARCHAR(1000), previous_metadata_location VARCHAR(1000), iceberg_type VARCHAR(5),
		PRIMARY KEY (catalog_name, table_namespace, table_name))`,
	`CREATE TABLE IF NOT EXISTS iceberg_namespace_properties (
		catalog_name VARCHAR(255) NOT NULL, namespace VARCHAR(255) NOT NULL,
		property_key VARCHAR(255) NOT NULL, property_value VARCHAR(1000),
		PRIMARY KEY (catalog_name, namespace, property_key))`,
	// What listings show of a table, as of one metadata location. Where
	// iceberg_tables has another, somebody else committed since.
	`CREATE TABLE IF NOT EXISTS partd_tables (
		uuid TEXT PRIMARY KEY, namespace TEXT NOT NULL, name TEXT NOT NULL, metadata_location TEXT NOT NULL,
		rows INTEGER NOT NULL, bytes INTEGER NOT NULL, files INTEGER NOT NULL, version INTEGER NOT NULL,
		updated_ms INTEGER NOT NULL, metadata TEXT NOT NULL, UNIQUE (namespace, name)) WITHOUT ROWID`,
	// Every file that we wrote for a commit, with its checksum.
	`CREATE TABLE IF NOT EXISTS partd_files (
		path TEXT PRIMARY KEY, uuid TEXT NOT NULL, size INTEGER NOT NULL, xxh3 BLOB NOT NULL) WITHOUT ROWID`,
	`CREATE INDEX IF NOT EXISTS partd_files_uuid ON partd_files (uuid)`,
	// The ids of puts that were applied.
	`CREATE TABLE IF NOT EXISTS partd_puts (
		uuid TEXT NOT NULL, id TEXT NOT NULL, at_ms INTEGER NOT NULL, PRIMARY KEY (uuid, id)) WITHOUT ROWID`,
	// Files that were found to be of no use, and when first.
	`CREATE TABLE IF NOT EXISTS partd_orphans (path TEXT PRIMARY KEY, seen_ms INTEGER NOT NULL) WITHOUT ROWID`,
	// Newest metadata whose files were not synced.
	`CREATE TABLE IF NOT EXISTS partd_light (location TEXT PRIMARY KEY, metadata BLOB NOT NULL) WITHOUT ROWID`,
	`CREATE TABLE IF NOT EXISTS partd_info (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID`,
}

const (
	// Name is the catalog's name in its own tables: what pyiceberg's
	// load_catalog must be given.
	Name = "partd"

	selectLocation = `SELECT metadata_location FROM iceberg_tables
		WHERE catalog_name='` + Name + `' AND table_namespace=? AND table_name=?`
	selectTables = `SELECT t.table_namespace, t.table_name, t.metadata_location,
			p.uuid, p.metadata_location, p.rows, p.bytes, p.files, p.version, p.updated_ms, p.metadata
		FROM iceberg_tables t LEFT JOIN partd_tables p ON p.namespace=t.table_namespace AND p.name=t.table_name
		WHERE t.catalog_name='` + Name + `'`
	insertTable = `INSERT INTO iceberg_tables VALUES ('` + Name + `',?,?,?,NULL,'TABLE') ON CONFLICT DO NOTHING`
	updateTable = `UPDATE iceberg_tables SET metadata_location=?, previous_metadata_location=?
		WHERE catalog_name='` + Name + `' AND table_namespace=? AND table_name=? AND metadata_location=?`
	deleteTable = `DELETE FROM iceberg_tables
		WHERE catalog_name='` + Name + `' AND table_namespace=? AND table_name=? AND metadata_location=?`
	insertNamespace = `INSERT INTO iceberg_namespace_properties VALUES ('` + Name + `',?,'exists','true') ON CONFLICT DO NOTHING`
	deleteNamespace = `DELETE FROM iceberg_namespace_properties WHERE catalog_name='` + Name + `' AND namespace=?1
		AND NOT EXISTS (SELECT 1 FROM iceberg_tables WHERE catalog_name='` + Name + `' AND table_namespace=?1)`
	upsertInfo = `INSERT OR REPLACE INTO partd_tables VALUES (?,?,?,?,?,?,?,?,?,?)`
)
