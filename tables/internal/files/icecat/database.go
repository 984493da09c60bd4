package icecat

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"slices"

	"github.com/apache/iceberg-go/table"
	"modernc.org/sqlite"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
)

var (
	// ErrConflict means that another commit changed the table after the change was staged. Nothing was committed.
	ErrConflict = fmt.Errorf("another commit changed the table first: %w", table.ErrCommitFailed)

	// ErrNotFound means that the table does not exist.
	ErrNotFound = fmt.Errorf("table not found (%w)", fs.ErrNotExist)

	// ErrExists means that a table or namespace exists. Its text lacks the name, so wrap it as "NAME already exists".
	ErrExists error = existsError{}

	// ErrReadOnly is the error for a change to a catalog that is open only for reading.
	ErrReadOnly = errors.New("the tables are open only for reading")
)

type existsError struct{}

func (existsError) Error() string { return "already exists" }
func (existsError) Unwrap() error { return fs.ErrExist }

// database is the catalog's database, with a pool of a single connection for writing.
type database struct {
	writePool, readPool  *sql.DB
	isPostgres, readOnly bool
	committing           func(done bool) // see Options.Committing
	sealer
}

// transaction runs the statements of a database transaction. After a statement has failed, further calls do nothing.
type transaction struct {
	ctx     context.Context
	tx      *sql.Tx
	changes []*Change // table changes that Catalog.Commit applies
	err     error
}

// openSQLite opens the database in a directory. It returns a pool with one connection for writing, and a pool for
// reading.
func openSQLite(dir string) (writePool, readPool *sql.DB, lookupCache *answers, err error) {
	file := url.URL{Scheme: "file", Path: filepath.Join(dir, "catalog.db")}
	dsn := file.String() + "?_pragma=busy_timeout(60000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"
	// A snapshot of 10,000 tables changes 900 pages: cache_size keeps them in memory until the commit. Because of
	// wal_autocheckpoint(0), only the method checkpoint and the last Close move pages from the log to catalog.db.
	writePool, err = sql.Open(sqliteDriver, dsn+"&_txlock=immediate&_pragma=cache_size(-16384)&_pragma=wal_autocheckpoint(0)")
	if err != nil {
		return nil, nil, nil, err
	}
	readPool, err = sql.Open(sqliteDriver, dsn)
	if err != nil {
		return nil, nil, nil, errors.Join(err, writePool.Close())
	}
	return writePool, readPool, &answers{driver: readPool.Driver(), dsn: dsn}, nil
}

// OpenPostgres opens a PostgreSQL database, with one connection pool for writing and one for reading. If readOnly is
// true, both reject changes. Package tables/postgres sets this variable, so that only programs that import it link the
// client.
var OpenPostgres = func(url string, readOnly bool) (writePool, readPool *sql.DB, err error) {
	return nil, nil, errors.New(`this program contains no PostgreSQL client: add import _ "github.com/go-partd/partd/tables/postgres"`)
}

func (t *transaction) exec(q string, args ...any) (rows int64) {
	if t.err != nil {
		return 0
	}
	var res sql.Result
	res, t.err = t.tx.ExecContext(t.ctx, q, args...)
	if t.err == nil {
		rows, t.err = res.RowsAffected()
	}
	return rows
}

func (t *transaction) queryStrings(q string, args ...any) (column []string) {
	if t.err == nil {
		column, t.err = stringsOf(t.ctx, t.tx, q, args...)
		if t.err != nil {
			return nil // do not return the rows before the error
		}
	}
	return column
}

// TxHook runs in a commit's transaction before the changes. If it fails, the commit fails.
type TxHook func(t *transaction)

func (d *database) begin(ctx context.Context) (*sql.Tx, error) {
	if d.readOnly {
		return nil, ErrReadOnly
	}
	return d.writePool.BeginTx(ctx, nil)
}

// inTx runs f in a transaction and commits the transaction unless a statement fails.
func (d *database) inTx(ctx context.Context, f func(t *transaction)) error {
	err := d.transact(ctx, f)
	if err == nil {
		d.committed()
	}
	return err
}

// transact is like inTx, but the commit causes no checkpoint.
func (d *database) transact(ctx context.Context, f func(t *transaction)) (err error) {
	defer func() { err = explain(ctx, err) }()
	d.committing(false)
	defer d.committing(true)
	tx, err := d.begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // needed only if f panics: otherwise, the transaction has ended
	t := &transaction{ctx: ctx, tx: tx, err: d.Damage()}
	if t.err == nil {
		f(t)
	}
	if t.err == nil {
		return commit(tx)
	}
	if err := tx.Rollback(); err != nil {
		return errors.Join(t.err, err)
	}
	return t.err
}

type querier interface {
	QueryContext(ctx context.Context, q string, args ...any) (*sql.Rows, error)
}

func query(ctx context.Context, db querier, scan func(*sql.Rows) error, q string, args ...any) (err error) {
	defer func() { err = explain(ctx, err) }()
	rows, err := db.QueryContext(ctx, q, args...)
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // rows.Err returns the error
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// explain adds to a statement's error the reason why ctx ended. If SQLite's file could not be read or written or has
// unexpected contents, explain adds the file's name, because SQLite's text has none. After EIO, SQLite calls the file
// malformed.
func explain(ctx context.Context, err error) error {
	err = canceled.Explain(ctx, err)
	const ioError, corrupt, notADatabase = 10, 11, 26
	failure, ok := errors.AsType[*sqlite.Error](err)
	if ok && !errors.As(err, new(*fs.PathError)) && slices.Contains([]int{ioError, corrupt, notADatabase}, failure.Code()&0xff) {
		err = &fs.PathError{Op: "access", Path: "catalog.db", Err: err}
	}
	return err
}

func (d *database) queryStrings(ctx context.Context, q string, args ...any) ([]string, error) {
	return stringsOf(ctx, d.readPool, q, args...)
}

// firstString returns the first string in a query's result, or "" if the result is empty.
func (d *database) firstString(ctx context.Context, q string, args ...any) (string, error) {
	column, err := d.queryStrings(ctx, q, args...)
	if err != nil || len(column) == 0 {
		return "", err
	}
	return column[0], nil
}

func stringsOf(ctx context.Context, db querier, q string, args ...any) (column []string, err error) {
	err = query(ctx, db, func(rows *sql.Rows) error {
		var s string
		err := rows.Scan(&s)
		column = append(column, s)
		return err
	}, q, args...)
	return column, err
}

// ErrRolledBack means that a transaction was rolled back and changed nothing.
var ErrRolledBack = fmt.Errorf("the transaction was rolled back: %w", table.ErrCommitFailed)

// commit commits a transaction. If the outcome is unknown, the error wraps partd.ErrUnknownOutcome. If the context was
// canceled, package sql has already rolled the transaction back.
func commit(tx *sql.Tx) error {
	err := tx.Commit()
	switch {
	case err == nil, errors.Is(err, ErrRolledBack), err == sql.ErrTxDone, err == context.Canceled, err == context.DeadlineExceeded:
		return err
	}
	return fmt.Errorf("commit to the catalog: %w: %w", partd.ErrUnknownOutcome, err)
}

// wrapConflict adds ErrConflict to PostgreSQL's errors for conflicting transactions, which can be retried.
func wrapConflict(err error) error {
	if sqlErr, ok := errors.AsType[interface {
		error
		SQLState() string
	}](err); ok && (sqlErr.SQLState() == "40001" || sqlErr.SQLState() == "40P01") { // serialization failure or deadlock
		return fmt.Errorf("%w: %w", ErrConflict, err)
	}
	return err
}
