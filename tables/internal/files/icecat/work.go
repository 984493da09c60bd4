package icecat

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
)

// transaction runs the statements of a database transaction. After a statement has failed, further calls do nothing.
type transaction struct {
	ctx context.Context
	tx  *sql.Tx
	err error
}

func (w *transaction) exec(q string, args ...any) (rows int64) {
	if w.err != nil {
		return 0
	}
	var res sql.Result
	if res, w.err = w.tx.ExecContext(w.ctx, q, args...); w.err == nil {
		rows, w.err = res.RowsAffected()
	}
	return rows
}

func (w *transaction) strings(q string, args ...any) (column []string) {
	if w.err == nil {
		if column, w.err = stringsOf(w.ctx, w.tx, q, args...); w.err != nil {
			return nil // not the rows before the error
		}
	}
	return column
}

func (c *Catalog) begin(ctx context.Context) (*sql.Tx, error) {
	if c.readOnly {
		return nil, ErrReadOnly
	}
	return c.writes.BeginTx(ctx, nil)
}

// inTx runs f in a transaction, and commits the transaction unless a statement fails.
func (c *Catalog) inTx(ctx context.Context, f func(w *transaction)) (err error) {
	defer func() { err = canceled.Explain(ctx, err) }()
	c.committing(false)
	defer c.committing(true)
	tx, err := c.begin(ctx)
	if err != nil {
		return err
	}
	w := &transaction{ctx, tx, nil}
	if f(w); w.err != nil {
		return errors.Join(w.err, tx.Rollback())
	}
	return commit(tx)
}

type querier interface {
	QueryContext(ctx context.Context, q string, args ...any) (*sql.Rows, error)
}

func query(ctx context.Context, db querier, scan func(*sql.Rows) error, q string, args ...any) (err error) {
	defer func() { err = canceled.Explain(ctx, err) }()
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

func (c *Catalog) strings(ctx context.Context, q string, args ...any) ([]string, error) {
	return stringsOf(ctx, c.reads, q, args...)
}

// firstString returns the first string in a query's result, or "" if it is empty.
func (c *Catalog) firstString(ctx context.Context, q string, args ...any) (string, error) {
	column, err := c.strings(ctx, q, args...)
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

// commit commits a transaction. If the outcome is unknown, the error wraps partd.ErrUnknownOutcome. If the context was canceled,
// package sql has already rolled back.
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
