package icecat

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd"
)

// OpenPostgres returns a database of PostgreSQL for whoever writes, and for whoever reads.
// One for reading only changes nothing. Package tables/postgres sets it: who does not import that has no client for it.
var OpenPostgres = func(url string, readOnly bool) (writes, reads *sql.DB, err error) {
	return nil, nil, errors.New(`this program has no client for PostgreSQL: add import _ "github.com/go-partd/partd/tables/postgres" to it`)
}

// ErrRolledBack says that nothing of a transaction was done.
var ErrRolledBack = fmt.Errorf("the transaction was rolled back: %w", table.ErrCommitFailed)

// commit commits, and says what an error means. Where the context of the transaction has
// ended, package sql has rolled it back.
func commit(tx *sql.Tx) error {
	err := tx.Commit()
	switch {
	case err == nil, errors.Is(err, ErrRolledBack), err == sql.ErrTxDone, err == context.Canceled, err == context.DeadlineExceeded:
		return err
	}
	return fmt.Errorf("the catalog: %w: %w", partd.ErrUnknownOutcome, err)
}

// retriable wraps what PostgreSQL says of transactions that met others, and that may
// be tried again.
func retriable(err error) error {
	if said, ok := errors.AsType[interface {
		error
		SQLState() string
	}](err); ok && (said.SQLState() == "40001" || said.SQLState() == "40P01") { // serialization failure, deadlock
		return fmt.Errorf("%w: %w", ErrConflict, err)
	}
	return err
}

// postgresTypes makes PostgreSQL's types of SQLite's. Names are compared by bytes.
var postgresTypes = strings.NewReplacer("VARCHAR(255)", `TEXT COLLATE "C"`, "VARCHAR(1000)", `TEXT COLLATE "C"`, "TEXT", `TEXT COLLATE "C"`,
	"INTEGER", "BIGINT", "BLOB", "BYTEA", " WITHOUT ROWID", "")

var postgresTriggers = []string{
	`CREATE FUNCTION partd_unlist() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		INSERT INTO partd_unlisted VALUES (new.table_namespace, new.table_name) ON CONFLICT DO NOTHING; RETURN NULL; END $$`,
	`CREATE TRIGGER partd_made AFTER INSERT ON iceberg_tables FOR EACH ROW EXECUTE FUNCTION partd_unlist()`,
	`CREATE TRIGGER partd_renamed AFTER UPDATE OF table_namespace, table_name ON iceberg_tables FOR EACH ROW EXECUTE FUNCTION partd_unlist()`,
}

// postgresSchema is what makes the tables where they are missing, all in one
// transaction: nothing where partd_info is there.
func postgresSchema(ctx context.Context, tx *sql.Tx) ([]string, error) {
	var there bool
	if err := tx.QueryRowContext(ctx, `SELECT to_regclass('partd_info') IS NOT NULL`).Scan(&there); err != nil || there {
		return nil, err
	}
	var all []string
	for _, q := range schema {
		all = append(all, postgresTypes.Replace(q))
	}
	return append(all, postgresTriggers...), nil
}
