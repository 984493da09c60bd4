//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package duck

import (
	"context"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables"
)

// runner runs one statement: in a database of this process, or in a process of its
// own.
type runner interface {
	lives() bool
	heed(ctx context.Context) // ends the statement with ctx, until finish
	names(sql string) ([]name, error)
	describe(*job) (*tables.QueryDescription, error)
	start(context.Context, *job) (rows, error)
	finish()                           // it reads no file any more
	renew(o *Options, dir string) bool // it is ready for another statement
	close()
}

// job is a statement whose names are known to be tables'.
type job struct {
	SQL        string
	Setup      []string // makes the tables known, and takes all else away
	Memory     int64
	parameters arrow.RecordBatch
}

// rows are a result.
type rows interface {
	schema() *arrow.Schema
	next() (arrow.RecordBatch, error) // nil at the end
	end()
}

func (d *database) lives() bool { return true }

func (d *database) renew(*Options, string) bool { return false }

func (d *database) heed(ctx context.Context) { d.calm = interruptWith(ctx, d.conn) }

// ready prepares a job's statement.
func (d *database) ready(j *job) error {
	if err := d.execute(j.Setup...); err != nil {
		return err
	}
	return d.prepare(j.SQL)
}

func (d *database) describe(j *job) (*tables.QueryDescription, error) {
	if err := d.ready(j); err != nil {
		return nil, err
	}
	parameters, err := d.parameters()
	if err != nil {
		return nil, err
	}
	result, err := d.resultSchema()
	if err != nil {
		return nil, err
	}
	return &tables.QueryDescription{Result: withIntegers(result, d.resultTypes()), Parameters: parameters}, nil
}

func (d *database) start(ctx context.Context, j *job) (rows, error) {
	if err := d.ready(j); err != nil {
		return nil, err
	}
	if err := d.bind(j.SQL, j.parameters); err != nil {
		return nil, err
	}
	return d.stream(ctx, j.SQL)
}
