//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package database

import (
	"context"
	"os"
	"regexp"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	duckdb "github.com/duckdb/duckdb-go-bindings"
)

// Runner runs one statement: in a database of this process, or in a process of its
// own.
type Runner interface {
	Lives() bool
	Ready(ctx context.Context) error  // waits until it can begin at once
	Heed(ctx context.Context)         // ends the statement with ctx, until Finish
	Names(sql string) ([]Name, error) // of the tables in it
	Describe(*Job) (result, parameters *arrow.Schema, err error)
	Start(context.Context, *Job) (Rows, error)
	Finish()                           // it reads no file any more
	Again() bool                       // it is ready for another statement of the same Key
	Renew(o *Options, dir string) bool // it is ready for any other statement, in a new database
	Close()
}

// Job is a statement whose names are known to be tables'.
type Job struct {
	SQL        string
	Memory     int64
	Threads    int               // 0: those of the database
	Spills     bool              // it puts what it holds into files from its beginning
	Attach     []string          // Catalogs that it names
	Views      []string          // make the tables known
	Paths      []string          // of their files
	Parameters arrow.RecordBatch `json:"-"`
}

// Key is equal for jobs that differ by no more than their statement and its parameters. "": no
// other job can have the database.
func (j *Job) Key() string {
	if j.Spills { // which is set for a connection
		return ""
	}
	return strings.Join(confinement(j), ";\n")
}

// Rows are a result.
type Rows interface {
	Schema() *arrow.Schema
	Next() (arrow.RecordBatch, error) // nil at the end
	End()
}

func (d *Database) Lives() bool { return true }

func (d *Database) Ready(context.Context) error { return nil }

func (d *Database) Again() bool {
	spilled, _ := os.ReadDir(d.dir) // it is made at need
	if d.confined == "" || d.begun || len(d.unused) == 0 || len(spilled) > 0 {
		return false
	}
	if d.ready != "" { // nothing ran in its connection
		return true
	}
	duckdb.Disconnect(&d.conn)
	last := len(d.unused) - 1
	d.conn, d.unused = d.unused[last], d.unused[:last]
	return true
}

// Renew is Runner's: a new one is opened as soon.
func (d *Database) Renew(*Options, string) bool { return false }

func (d *Database) Heed(ctx context.Context) { d.calm = interruptWith(ctx, d.conn) }

// folded are the functions of the current time that DuckDB computes when it prepares a statement,
// and not anew when it runs: it notes them as depending on their arguments alone.
var folded = regexp.MustCompile(`(?i)\b(age|(current_)?local(time|timestamp))\b`)

// begin prepares a job's statement, unless it was when it was described.
func (d *Database) begin(j *Job) error {
	d.begun = true
	if key := j.Key(); d.confined == "" || d.confined != key {
		if err := d.execute(confinement(j)...); err != nil {
			return err
		}
		d.confined = key
	}
	if d.ready == j.SQL {
		return nil
	}
	d.forget()
	return d.prepare(j.SQL)
}

func (d *Database) Describe(j *Job) (result, parameters *arrow.Schema, err error) {
	if err := d.begin(j); err != nil {
		return nil, nil, err
	}
	if parameters, err = d.parameters(); err != nil {
		return nil, nil, err
	}
	n := duckdb.PreparedStatementColumnCount(d.stmt)
	_, result, err = d.schema(n, func(i duckdb.IdxT) (string, duckdb.LogicalType) {
		return duckdb.PreparedStatementColumnName(d.stmt, i), duckdb.PreparedStatementColumnLogicalType(d.stmt, i)
	})
	if err != nil {
		return nil, nil, err
	}
	d.begun = false
	if !folded.MatchString(j.SQL) {
		d.ready = j.SQL
	}
	return result, parameters, nil
}

func (d *Database) Start(ctx context.Context, j *Job) (Rows, error) {
	if err := d.begin(j); err != nil {
		return nil, err
	}
	d.ready = ""
	if err := d.bind(j.SQL, j.Parameters); err != nil {
		return nil, err
	}
	return d.stream(ctx, j.SQL)
}
