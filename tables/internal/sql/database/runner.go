//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package database

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	duckdb "github.com/duckdb/duckdb-go-bindings"
)

// Runner runs statements in a database, in this process or in a separate one.
type Runner interface {
	IsAlive() bool
	// Ready waits until the database is open; call it before TableNames, Describe and Start.
	Ready(ctx context.Context) error
	CancelWith(ctx context.Context)        // cancels the statement when ctx ends, unless Finish is called first
	TableNames(sql string) ([]Name, error) // returns the names of the statement's tables
	Describe(*Job) (result, parameters *arrow.Schema, err error)
	Start(context.Context, *Job) (Rows, error)
	Finish()                            // ends the statement, which then reads no more files
	Reuse() Reuse                       // prepares the database for another statement with the same Key
	Reopen(o *Options, dir string) bool // replaces the database with a new one; reports whether it succeeded
	Close()
}

// Job is a statement with the tables that its names refer to.
type Job struct {
	SQL        string
	Memory     int64             // bytes
	Threads    int               // 0 means the database's setting
	Spills     bool              // whether to write temporary files from the beginning
	Attach     []string          // catalogs that the statement names
	Tables     []string          // qualified names of the tables
	Views      []string          // statements that define or replace the tables' views
	Paths      []string          // paths of the tables' files
	Keep       []KeepFunction    // functions that the views call
	Footers    bool              // whether to keep the files' footers in memory for the next statement
	HoldsFiles bool              // whether a prepared statement would keep files open, because a view has no schema
	Parameters arrow.RecordBatch `json:"-"`
}

// Key returns a key that is equal for jobs that can run in the same database. Such jobs may differ only in the
// statement, its parameters and the columns of the views. "" means that no other job may use the database.
func (j *Job) Key() string {
	if j.Spills { // the setting that Spills needs would apply only to the first connection
		return ""
	}
	return strings.Join(slices.Concat(confinement(j), j.Tables, []string{fmt.Sprint(j.Keep)}), ";\n")
}

// Reuse says whether a database can run another statement.
type Reuse struct {
	IsPossible bool
	Growth     int64 // bytes by which the database's process has grown; 0 without a process
}

// Rows is the result of a statement.
type Rows interface {
	Schema() *arrow.Schema
	Next() (arrow.RecordBatch, error) // the batch is nil at the end
	End()
}

func (d *Database) IsAlive() bool { return true }

func (d *Database) Ready(context.Context) error { return nil }

func (d *Database) Reuse() Reuse {
	spilled, _ := os.ReadDir(d.dir) // fails if no statement spilled, because DuckDB creates the directory on demand
	if d.confinedKey == "" || d.isIncomplete || d.statements == maxStatements-1 || len(spilled) > 0 {
		return Reuse{}
	}
	if d.describedSQL != "" { // no statement ran on the connection
		return Reuse{IsPossible: true}
	}
	duckdb.Disconnect(&d.conn)
	d.statements++
	return Reuse{IsPossible: duckdb.Connect(d.db, &d.conn) == duckdb.StateSuccess}
}

// Reopen returns false, because opening a new Database is as fast.
func (d *Database) Reopen(*Options, string) bool { return false }

func (d *Database) CancelWith(ctx context.Context) { d.stopWatching = interruptWith(ctx, d.conn) }

// currentTime matches functions of the current time that DuckDB evaluates when it prepares a statement, not in each
// run: DuckDB assumes that these functions depend only on their arguments.
var currentTime = regexp.MustCompile(`(?i)\b(age|(current_)?local(time|timestamp))\b`)

// begin confines the database, defines a job's views and prepares its statement. It skips what an earlier job has
// already done.
func (d *Database) begin(j *Job) error {
	d.isIncomplete = true
	if key := j.Key(); d.confinedKey == "" || d.confinedKey != key {
		for i := range j.Keep {
			if err := d.addKeepFunction(&j.Keep[i]); err != nil {
				return err
			}
		}
		if err := d.execute(confinement(j)...); err != nil {
			return err
		}
		d.confinedKey, d.views = key, ""
	}
	if views := strings.Join(j.Views, ";\n"); d.views != views {
		d.discardStatement()
		if err := d.execute(j.Views...); err != nil {
			return err
		}
		d.views, d.lastSQL = views, ""
	}
	if d.describedSQL == j.SQL {
		return nil
	}
	const maxTime = 20 * time.Millisecond // for PrepareAgain, which nobody can cancel
	start := time.Now()
	d.discardStatement()
	err := d.prepare(j.SQL)
	d.isRepeated = d.lastSQL == j.SQL && time.Since(start) < maxTime && !j.HoldsFiles
	d.lastSQL = j.SQL
	return err
}

// PrepareAgain prepares a repeated statement for its next run. Call it after Reuse, while the database is idle.
func (d *Database) PrepareAgain() {
	if !d.isRepeated || d.describedSQL != "" || currentTime.MatchString(d.lastSQL) {
		return
	}
	if d.prepare(d.lastSQL) != nil {
		d.discardStatement()
		return
	}
	d.describedSQL = d.lastSQL
}

func (d *Database) Describe(j *Job) (result, parameters *arrow.Schema, err error) {
	if err := d.begin(j); err != nil {
		return nil, nil, err
	}
	parameters, err = d.parameterSchema()
	if err != nil {
		return nil, nil, err
	}
	n := duckdb.PreparedStatementColumnCount(d.stmt)
	_, result, err = d.schema(n, func(i duckdb.IdxT) (string, duckdb.LogicalType) {
		return duckdb.PreparedStatementColumnName(d.stmt, i), duckdb.PreparedStatementColumnLogicalType(d.stmt, i)
	})
	if err != nil {
		return nil, nil, err
	}
	d.isIncomplete = false
	if !currentTime.MatchString(j.SQL) && !j.HoldsFiles {
		d.describedSQL = j.SQL
	}
	return result, parameters, nil
}

func (d *Database) Start(ctx context.Context, j *Job) (Rows, error) {
	if err := d.begin(j); err != nil {
		return nil, err
	}
	d.describedSQL = ""
	if err := d.bind(j.SQL, j.Parameters); err != nil {
		return nil, err
	}
	return d.stream(ctx, j.SQL)
}
