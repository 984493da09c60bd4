//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package database

import (
	"fmt"

	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

// KeyedInput is an input of a statement that runs once for each part of its inputs' rows. Rows of all inputs with equal
// values of By are in the same part.
type KeyedInput struct {
	Name    string
	Columns []string // all columns
	By      []string // key columns; as many in each input
}

// ErrNotPerKey is the error of a statement that can have another result if it runs once for each part.
var ErrNotPerKey = sqltext.ErrNotPerKey

// PerKey checks that a statement has the same rows, in any order, whether it runs once for all rows or once for each
// part. Otherwise, it returns an error that wraps ErrNotPerKey and gives the reason. columns are the columns of each
// input that the statement can use, including the key columns; nil means all columns. They are also returned with
// ErrNotPerKey.
func (d *Database) PerKey(sql string, inputs []KeyedInput) (columns [][]string, err error) {
	p, err := d.perKey(sql, inputs)
	return p.Columns, p.error(sql, err)
}

// perKey is the result of PerKey in a form that a process can send.
type perKey struct {
	Columns [][]string
	Refusal string // "" if the statement is per key
	Offset  int    // of the refused part of the statement, in bytes; -1 if unknown
}

func (p *perKey) error(sql string, err error) error {
	if err != nil || p.Refusal == "" {
		return err
	}
	return sqltext.ErrorAt(sql, p.Offset, fmt.Errorf("%w: %s", ErrNotPerKey, p.Refusal))
}

func (d *Database) perKey(sql string, inputs []KeyedInput) (p perKey, err error) {
	if _, err := d.TableNames(sql); err != nil {
		return p, err
	}
	p.Columns = make([][]string, len(inputs))
	return p, nil
}
