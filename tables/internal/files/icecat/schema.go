package icecat

import (
	"context"
	"database/sql"
	"slices"
	"strings"
)

// schema contains the statements that create the database's tables. The first two tables are those of pyiceberg's
// SqlCatalog, so that pyiceberg can open the catalog. The other tables are our own and change in the same transactions.
var schema = []string{
	`CREATE TABLE IF NOT EXISTS iceberg_tables (
		catalog_name VARCHAR(255) NOT NULL, table_namespace VARCHAR(255) NOT NULL, table_name VARCHAR(255) NOT NULL,
		metadata_location VARCHAR(1000), previous_metadata_location VARCHAR(1000), iceberg_type VARCHAR(5),
		PRIMARY KEY (catalog_name, table_namespace, table_name))`,
	`CREATE TABLE IF NOT EXISTS iceberg_namespace_properties (
		catalog_name VARCHAR(255) NOT NULL, namespace VARCHAR(255) NOT NULL,
		property_key VARCHAR(255) NOT NULL, property_value VARCHAR(1000),
		PRIMARY KEY (catalog_name, namespace, property_key))`,
	// Listings of tables, each for one metadata location. If iceberg_tables has another location for a table, another
	// engine has committed since.
	`CREATE TABLE IF NOT EXISTS partd_tables (
		uuid TEXT PRIMARY KEY, namespace TEXT NOT NULL, name TEXT NOT NULL, metadata_location TEXT NOT NULL,
		rows INTEGER NOT NULL, bytes INTEGER NOT NULL, files INTEGER NOT NULL, version INTEGER NOT NULL,
		updated_ms INTEGER NOT NULL, metadata TEXT NOT NULL, UNIQUE (namespace, name)) WITHOUT ROWID`,
	// Files that were written for commits, with their checksums.
	`CREATE TABLE IF NOT EXISTS partd_files (
		path TEXT PRIMARY KEY, uuid TEXT NOT NULL, size INTEGER NOT NULL, xxh3 BLOB NOT NULL) WITHOUT ROWID`,
	`CREATE INDEX IF NOT EXISTS partd_files_uuid ON partd_files (uuid)`,
	`CREATE INDEX IF NOT EXISTS partd_files_xxh3 ON partd_files (xxh3)`,
	`CREATE TABLE IF NOT EXISTS partd_copies (location TEXT PRIMARY KEY, source TEXT NOT NULL) WITHOUT ROWID`,
	// IDs of puts that are committed. version is the number of the first metadata file with the put, and discarded the
	// number of the restore that discarded it, or 0 if the table contains the put.
	`CREATE TABLE IF NOT EXISTS partd_ids (
		uuid TEXT NOT NULL, id TEXT NOT NULL, at_ms INTEGER NOT NULL, version INTEGER NOT NULL, discarded INTEGER NOT NULL,
		PRIMARY KEY (uuid, id, discarded)) WITHOUT ROWID`,
	// Files that nothing refers to, with the time of the first Sweep that found them.
	`CREATE TABLE IF NOT EXISTS partd_orphans (path TEXT PRIMARY KEY, seen_ms INTEGER NOT NULL) WITHOUT ROWID`,
	// Current metadata of tables whose metadata files were not synced.
	`CREATE TABLE IF NOT EXISTS partd_light (location TEXT PRIMARY KEY, metadata BLOB NOT NULL) WITHOUT ROWID`,
	// An index of tables by metadata. It may contain outdated names and values.
	`CREATE TABLE IF NOT EXISTS partd_meta (
		namespace TEXT NOT NULL, key TEXT NOT NULL, hash INTEGER NOT NULL, name TEXT NOT NULL,
		PRIMARY KEY (namespace, key, hash, name)) WITHOUT ROWID`,
	// Tables that other engines created or renamed. Their metadata is not in partd_meta.
	`CREATE TABLE IF NOT EXISTS partd_unlisted (namespace TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (namespace, name)) WITHOUT ROWID`,
	// Snapshots of namespaces, and the metadata locations that they pin. The listings at that time are included if they
	// were known.
	`CREATE TABLE IF NOT EXISTS partd_snapshots (
		namespace TEXT NOT NULL, snapshot TEXT NOT NULL, made_us INTEGER NOT NULL, tables INTEGER NOT NULL,
		metadata TEXT NOT NULL, PRIMARY KEY (namespace, snapshot)) WITHOUT ROWID`,
	`CREATE TABLE IF NOT EXISTS partd_snapshot_tables (
		namespace TEXT NOT NULL, snapshot TEXT NOT NULL, name TEXT NOT NULL, metadata_location TEXT NOT NULL,
		uuid TEXT, rows INTEGER, bytes INTEGER, files INTEGER, version INTEGER, updated_ms INTEGER, metadata TEXT,
		PRIMARY KEY (namespace, snapshot, name)) WITHOUT ROWID`,
	`CREATE TABLE IF NOT EXISTS partd_info (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID`,
	// Idempotency keys. Each scope numbers its keys.
	`CREATE TABLE IF NOT EXISTS partd_keys (
		id TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, scope TEXT NOT NULL, number INTEGER NOT NULL, at_ms INTEGER NOT NULL,
		status INTEGER NOT NULL, answer TEXT NOT NULL, uuid TEXT NOT NULL, location TEXT NOT NULL) WITHOUT ROWID`,
	`CREATE INDEX IF NOT EXISTS partd_keys_number ON partd_keys (scope, number)`,
	`CREATE INDEX IF NOT EXISTS partd_keys_time ON partd_keys (at_ms)`,
}

var sqliteTriggers = []string{
	`CREATE TRIGGER IF NOT EXISTS partd_made AFTER INSERT ON iceberg_tables BEGIN
		INSERT OR IGNORE INTO partd_unlisted VALUES (new.table_namespace, new.table_name); END`,
	`CREATE TRIGGER IF NOT EXISTS partd_renamed AFTER UPDATE OF table_namespace, table_name ON iceberg_tables BEGIN
		INSERT OR IGNORE INTO partd_unlisted VALUES (new.table_namespace, new.table_name); END`,
}

const (
	// Name is the catalog's name in its own tables, and the name to pass to pyiceberg's load_catalog.
	Name = "partd"

	// RulesProperty is the namespace property that Lookup returns.
	RulesProperty = "partd.rules"

	selectLocation = `SELECT COALESCE(metadata_location, ''), (SELECT property_value FROM iceberg_namespace_properties
			WHERE catalog_name='` + Name + `' AND namespace=table_namespace AND property_key='` + RulesProperty + `')
		FROM iceberg_tables WHERE catalog_name='` + Name + `' AND table_namespace=? AND table_name=?`
	selectTables = `SELECT t.table_namespace, t.table_name, COALESCE(t.metadata_location, ''),
			p.uuid, p.metadata_location, p.rows, p.bytes, p.files, p.version, p.updated_ms, p.metadata
		FROM iceberg_tables t LEFT JOIN partd_tables p ON p.namespace=t.table_namespace AND p.name=t.table_name
		WHERE t.catalog_name='` + Name + `'`
	insertTable = `INSERT INTO iceberg_tables VALUES ('` + Name + `',?,?,?,NULL,'TABLE') ON CONFLICT DO NOTHING`
	updateTable = `UPDATE iceberg_tables SET metadata_location=?, previous_metadata_location=?
		WHERE catalog_name='` + Name + `' AND table_namespace=? AND table_name=? AND COALESCE(metadata_location, '')=?`
	deleteTable = `DELETE FROM iceberg_tables
		WHERE catalog_name='` + Name + `' AND table_namespace=? AND table_name=? AND COALESCE(metadata_location, '')=?`
	selectNamespaces = `SELECT table_namespace FROM iceberg_tables WHERE catalog_name='` + Name + `'
		UNION SELECT namespace FROM iceberg_namespace_properties WHERE catalog_name='` + Name + `'`
	selectNamespace = `SELECT 1 WHERE EXISTS (SELECT 1 FROM iceberg_tables WHERE catalog_name='` + Name + `' AND table_namespace=?1)
		OR EXISTS (SELECT 1 FROM iceberg_namespace_properties WHERE catalog_name='` + Name + `' AND namespace=?1)`
	insertNamespace  = `INSERT INTO iceberg_namespace_properties VALUES ('` + Name + `',?,'exists','true') ON CONFLICT DO NOTHING`
	selectProperties = `SELECT property_key, property_value FROM iceberg_namespace_properties WHERE catalog_name='` + Name + `' AND namespace=?`
	selectProperty   = `SELECT property_value FROM iceberg_namespace_properties WHERE catalog_name='` + Name + `' AND namespace=? AND property_key=?`
	insertProperty   = `INSERT INTO iceberg_namespace_properties VALUES ('` + Name + `',?,?,?)`
	deleteProperty   = `DELETE FROM iceberg_namespace_properties WHERE catalog_name='` + Name + `' AND namespace=? AND property_key=?`
	deleteNamespace  = `DELETE FROM iceberg_namespace_properties WHERE catalog_name='` + Name + `' AND namespace=?1
		AND NOT EXISTS (SELECT 1 FROM iceberg_tables WHERE catalog_name='` + Name + `' AND table_namespace=?1)
		AND NOT EXISTS (SELECT 1 FROM partd_snapshots WHERE namespace=?1)`
	insertPins = `INSERT INTO partd_snapshot_tables
		SELECT ?1, ?2, t.table_name, COALESCE(t.metadata_location, ''), p.uuid, p.rows, p.bytes, p.files, p.version, p.updated_ms, p.metadata
		FROM iceberg_tables t LEFT JOIN partd_tables p
			ON p.namespace=t.table_namespace AND p.name=t.table_name AND p.metadata_location=t.metadata_location
		WHERE t.catalog_name='` + Name + `' AND t.table_namespace=?1 ORDER BY t.table_name`
	selectPins = `SELECT namespace, name, metadata_location, uuid, CASE WHEN uuid IS NULL THEN NULL ELSE metadata_location END,
			rows, bytes, files, version, updated_ms, metadata
		FROM partd_snapshot_tables WHERE namespace=? AND snapshot=?`
	currentTables  = `SELECT table_name, COALESCE(metadata_location, '') AS metadata_location FROM iceberg_tables WHERE catalog_name='` + Name + `' AND table_namespace=?1`
	pinnedTables   = `SELECT name, metadata_location FROM partd_snapshot_tables WHERE namespace=?1 AND snapshot=?2`
	stateSeparator = "\x01" // separates a location from the rest of the row
	selectStates   = `SELECT metadata_location || '` + stateSeparator + `' || MAX(alive) || table_name
		FROM (SELECT t.*, 1 AS alive FROM (` + currentTables + `) AS t
		UNION SELECT name, metadata_location, 0 FROM partd_snapshot_tables WHERE namespace=?1) AS states
		GROUP BY table_name, metadata_location ORDER BY table_name, MAX(alive) DESC, metadata_location`
	selectChanged = `SELECT table_name FROM (` + currentTables + ` EXCEPT ` + pinnedTables + `) AS made
		UNION SELECT name FROM (` + pinnedTables + ` EXCEPT ` + currentTables + `) AS gone ORDER BY 1`
	// Snapshots may need inline metadata. While there are snapshots, only Sweep deletes it.
	deleteInline = `DELETE FROM partd_light WHERE location=? AND NOT EXISTS (SELECT 1 FROM partd_snapshots)`
	unusedInline = ` FROM partd_light WHERE location NOT IN (SELECT metadata_location FROM iceberg_tables WHERE metadata_location IS NOT NULL)
		AND location NOT IN (SELECT metadata_location FROM partd_snapshot_tables)`
	sweepCopies = `DELETE FROM partd_copies WHERE location NOT IN (SELECT metadata_location FROM iceberg_tables WHERE metadata_location IS NOT NULL)
		AND location NOT IN (SELECT metadata_location FROM partd_snapshot_tables)`
	deleteInfo = `DELETE FROM partd_tables WHERE uuid=? OR namespace=? AND name=?`
	// A negative number of rows, -1-n, means that the table has at most n rows.
	insertInfo = `INSERT INTO partd_tables VALUES (?,?,?,?,?,?,?,?,?,?)`
	selectKey  = `SELECT fingerprint, scope, status, CASE WHEN fingerprint=?2 THEN answer ELSE '' END, uuid, location FROM partd_keys WHERE id=?1`
	insertKey  = `INSERT INTO partd_keys VALUES (?1,?2,?3,(SELECT COALESCE(MAX(number), 0)+1 FROM partd_keys WHERE scope=?3),?4,?5,?6,?7,?8) ON CONFLICT DO NOTHING`
	// The limit keeps a transaction short after a pause in which many keys expired.
	forgetKeys = `DELETE FROM partd_keys WHERE id IN (SELECT id FROM partd_keys WHERE at_ms<? ORDER BY at_ms LIMIT 100)`
	trimKeys   = `DELETE FROM partd_keys WHERE scope=?1 AND number<=(SELECT MAX(number) FROM partd_keys WHERE scope=?1)-?2`
	// A restore of version ?2, as version ?3, discards later puts, and brings back puts that other restores discarded.
	discardPuts = `UPDATE partd_ids SET discarded=?3 WHERE uuid=?1 AND discarded=0 AND version>?2`
	revivePuts  = `INSERT INTO partd_ids SELECT uuid, id, at_ms, CAST(?3 AS BIGINT), 0 FROM partd_ids WHERE uuid=?1 AND version<=?2 AND discarded>?2`
	upsertFile  = `INSERT INTO partd_files VALUES (?,?,?,?)
		ON CONFLICT (path) DO UPDATE SET uuid=excluded.uuid, size=excluded.size, xxh3=excluded.xxh3`
)

// postgresTypes replaces SQLite's types with PostgreSQL's. The collation "C" compares names byte by byte, as SQLite
// does.
var postgresTypes = strings.NewReplacer("VARCHAR(255)", `TEXT COLLATE "C"`, "VARCHAR(1000)", `TEXT COLLATE "C"`, "TEXT", `TEXT COLLATE "C"`,
	"INTEGER", "BIGINT", "BLOB", "BYTEA", " WITHOUT ROWID", "")

var postgresTriggers = []string{
	`CREATE FUNCTION partd_unlist() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		INSERT INTO partd_unlisted VALUES (new.table_namespace, new.table_name) ON CONFLICT DO NOTHING; RETURN NULL; END $$`,
	`CREATE TRIGGER partd_made AFTER INSERT ON iceberg_tables FOR EACH ROW EXECUTE FUNCTION partd_unlist()`,
	`CREATE TRIGGER partd_renamed AFTER UPDATE OF table_namespace, table_name ON iceberg_tables FOR EACH ROW EXECUTE FUNCTION partd_unlist()`,
}

// postgresSchema returns the statements that create the tables, or none if the tables exist.
func postgresSchema(ctx context.Context, tx *sql.Tx) ([]string, error) {
	var exists bool
	if err := tx.QueryRowContext(ctx, `SELECT to_regclass('partd_info') IS NOT NULL`).Scan(&exists); exists || err != nil {
		return nil, err
	}
	statements := slices.Concat(schema, postgresTriggers)
	for i, q := range statements {
		statements[i] = postgresTypes.Replace(q)
	}
	return statements, nil
}
