// Package postgres lets programs store the catalog of their tables in PostgreSQL. If a program imports it, package
// tables accepts a catalog at postgres://HOST/DATABASE.
//
//	import _ "github.com/go-partd/partd/tables/postgres"
package postgres

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/internal/files/icecat"
)

func init() { icecat.OpenPostgres = open }

// open opens the database at url twice, for writing and for reading. The connections rewrite the SQLite placeholders in
// the catalog's SQL and, like SQLite, allow only one writing transaction at a time. If the server's response to a
// COMMIT is lost, the connections find out whether the transaction was committed.
func open(url string, readOnly bool) (writes, reads *sql.DB, err error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, nil, err // pgx removes the password from the error
	}
	for name, value := range map[string]string{
		"application_name": "partd-tables", "synchronous_commit": "on",
		// A writer that hangs must not block others forever.
		"lock_timeout": "60s", "idle_in_transaction_session_timeout": "60s",
	} {
		if _, isSet := config.RuntimeParams[name]; !isSet {
			config.RuntimeParams[name] = value
		}
	}
	if readOnly {
		config.RuntimeParams["default_transaction_read_only"] = "on"
	}
	config.ConnectTimeout = cmp.Or(config.ConnectTimeout, 10*time.Second)
	config.DialFunc = (&net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 15 * time.Second, Count: 3}}).DialContext
	connector := stdlib.GetConnector(*config)
	return sql.OpenDB(&pgConnector{connector, config, true}), sql.OpenDB(&pgConnector{connector, config, false}), nil
}

type pgConnector struct {
	driver.Connector
	config *pgx.ConnConfig
	writes bool
}

func (c *pgConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &pgConn{conn.(*stdlib.Conn), c}, nil
}

// pgConn translates the catalog's statements for PostgreSQL.
type pgConn struct {
	*stdlib.Conn
	connector *pgConnector
}

func (c *pgConn) PrepareContext(ctx context.Context, q string) (driver.Stmt, error) {
	return c.Conn.PrepareContext(ctx, numberPlaceholders(q))
}

func (c *pgConn) ExecContext(ctx context.Context, q string, args []driver.NamedValue) (driver.Result, error) {
	return c.Conn.ExecContext(ctx, numberPlaceholders(q), args)
}

func (c *pgConn) QueryContext(ctx context.Context, q string, args []driver.NamedValue) (driver.Rows, error) {
	rows, err := c.Conn.QueryContext(ctx, numberPlaceholders(q), args)
	if err != nil && !c.connector.writes && ctx.Err() == nil && c.Conn.Conn().IsClosed() {
		return nil, driver.ErrBadConn // database/sql then retries on another connection, for example after a server restart
	}
	return rows, err
}

// numberPlaceholders replaces SQLite's placeholders, such as ? and ?2, with PostgreSQL's, such as $1 and $2. q must not
// contain other question marks.
func numberPlaceholders(q string) string {
	var b strings.Builder
	for n := 1; ; n++ {
		before, after, found := strings.Cut(q, "?")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		b.WriteByte('$')
		if after == "" || after[0] < '0' || after[0] > '9' {
			b.WriteString(strconv.Itoa(n))
		}
		q = after
	}
}

// lockCatalog waits until no other transaction writes to the catalog and returns the ID of this transaction, and the time
// when the server was started.
const lockCatalog = `SELECT pg_advisory_xact_lock(hashtext('partd-tables'), hashtext(current_schema()))::text, pg_current_xact_id()::text, pg_postmaster_start_time()::text`

// BeginTx begins a transaction. On a connection for writing, it also acquires the catalog's lock.
func (c *pgConn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	tx, err := c.Conn.BeginTx(ctx, o)
	if err == nil && c.connector.writes {
		t := &pgTx{Tx: tx, config: c.connector.config}
		err = c.Conn.Conn().QueryRow(ctx, lockCatalog).Scan(new(string), &t.id, &t.serverStart)
		if err == nil {
			return t, nil
		}
		err = errors.Join(err, tx.Rollback())
	}
	if err != nil && ctx.Err() == nil && c.Conn.Conn().IsClosed() {
		return nil, driver.ErrBadConn // database/sql then retries on another connection: safe, because nothing was written
	}
	return tx, err
}

type pgTx struct {
	driver.Tx
	config *pgx.ConnConfig
	id     string

	serverStart string // when the server was started
}

// Commit commits the transaction. If the server's response is lost, Commit finds out whether the transaction was
// committed.
func (t *pgTx) Commit() error {
	err := t.Tx.Commit()
	if err == nil {
		return nil
	}
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	if errors.Is(err, pgx.ErrTxCommitRollback) || ok && pgErr.Severity == "ERROR" {
		return fmt.Errorf("%w: %w", icecat.ErrRolledBack, err)
	}
	return t.findOutcome(err)
}

const outcomeTimeout = time.Minute

// findOutcome waits until the transaction has ended. It returns nil if the transaction was committed, and otherwise an
// error that wraps cause.
func (t *pgTx) findOutcome(cause error) error {
	ctx, cancel := context.WithTimeout(context.Background(), outcomeTimeout)
	defer cancel()
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		status, hasRestarted, err := t.status(ctx)
		switch {
		case err == nil && hasRestarted && status != "aborted": // after a crash, another transaction can get the same ID
			return cause
		case status == "committed":
			return nil
		case status == "aborted":
			return fmt.Errorf("%w: %w", icecat.ErrRolledBack, cause)
		case err == nil && status == "": // the server no longer knows the outcome, because the transaction is too old
			return cause
		}
		if canceled.Wait(ctx, time.After(wait)) != nil {
			return errors.Join(cause, err)
		}
	}
}

// status returns the status of the transaction with t's ID, and reports whether the server has been restarted since t began.
func (t *pgTx) status(ctx context.Context) (text string, hasRestarted bool, err error) {
	conn, err := pgx.ConnectConfig(ctx, t.config.Copy())
	if err != nil {
		return "", false, err
	}
	defer conn.Close(ctx) //nolint:errcheck // the result has been read
	var status sql.NullString
	err = conn.QueryRow(ctx, `SELECT pg_xact_status($1::text::xid8), pg_postmaster_start_time()::text <> $2`, t.id, t.serverStart).Scan(&status, &hasRestarted)
	return status.String, hasRestarted, err
}
