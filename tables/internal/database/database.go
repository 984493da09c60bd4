//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package database

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	duckdb "github.com/duckdb/duckdb-go-bindings"

	"github.com/go-partd/partd/tables/internal/sqlquote"
)

// Database is DuckDB in memory. Its first statement says which tables, and how much memory, it
// has from then on. It may run others that say the same, each in a connection of its own.
type Database struct {
	db       duckdb.Database
	conn     duckdb.Connection   // of this statement
	unused   []duckdb.Connection // for others
	confined string              // the Key of its statements; "": it can still do everything
	begun    bool                // the statement has begun, and did not end well
	stmt     duckdb.PreparedStatement
	ready    string // the statement that stmt is of, if it was described and not run
	dir      string // for what exceeds the memory
	calm     func() // ends what interrupts the statement; nil: nothing does
}

// maxStatements is how many statements a database runs. Their connections need a setting of
// their own, which none can have once the database is confined.
const maxStatements = 16

// Options are what a database may take.
type Options struct {
	Memory, MaxTemp int64
	Threads         int
}

// Open opens one that can still do everything, with a directory for what exceeds the
// memory. What must hold for all queries is set here, what depends on the query in
// confinement.
func Open(o *Options, dir string) (_ *Database, err error) {
	d := &Database{dir: dir}
	defer func() {
		if err != nil {
			d.Close()
		}
	}()
	if duckdb.Open(":memory:", &d.db) == duckdb.StateError {
		return nil, errNoMemory
	}
	for {
		if duckdb.Connect(d.db, &d.conn) == duckdb.StateError {
			return nil, errNoMemory
		}
		if err := d.execute("SET errors_as_json=true"); err != nil {
			return nil, err
		}
		if len(d.unused) == maxStatements-1 {
			break
		}
		d.unused = append(d.unused, d.conn)
		d.conn = duckdb.Connection{}
	}
	return d, d.execute(append([]string{
		"SET threads=" + fmt.Sprint(o.Threads),
		"SET memory_limit=" + inBytes(o.Memory),
		"SET temp_directory=" + sqlquote.Text(dir),
		"SET max_temp_directory_size=" + inBytes(o.MaxTemp),
		"SET autoinstall_known_extensions=false",
		"SET autoload_known_extensions=false",
		"SET allow_community_extensions=false",
		"SET GLOBAL TimeZone='UTC'",
		"SET enable_external_file_cache=false", // no statement leaves what it read
	}, slices.Concat(guards, macros)...)...)
}

var errNoMemory = errors.New("DuckDB: no database in memory could be opened")

func inBytes(n int64) string { return fmt.Sprintf("'%d bytes'", n) }

// Catalogs may be named before a bucket: Catalog as tools write names, Before for the
// state of tables that a statement compares with.
const (
	Catalog = "partd"
	Before  = "before"
)

// confinement makes the tables of a job known to a database, and takes everything else
// from it.
func confinement(j *Job) []string {
	memory := j.Memory
	if j.Spills { // what it frees over and over stays with its process, which has a limit, too
		memory = memory * 3 / 4
	}
	set := []string{"SET memory_limit=" + inBytes(memory)}
	if j.Threads > 0 {
		set = append(set, fmt.Sprint("SET threads=", j.Threads))
	}
	if j.Spills {
		set = append(set, "SET debug_force_external=true")
	}
	for _, catalog := range j.Attach { // else a bucket may have the name
		set = append(set, "ATTACH ':memory:' AS "+catalog)
	}
	var paths []string
	for _, path := range j.Paths {
		paths = append(paths, sqlquote.Text(path))
	}
	set = append(set, "SET allowed_paths=["+strings.Join(paths, ",")+"]",
		"SET enable_external_access=false", "SET lock_configuration=true")
	return append(set, j.Views...)
}

// execute runs statements of our own.
func (d *Database) execute(statements ...string) error {
	for _, s := range statements {
		var r duckdb.Result
		state := duckdb.Query(d.conn, s, &r)
		message := duckdb.ResultError(&r)
		duckdb.DestroyResult(&r)
		if state == duckdb.StateError {
			return decodeError("", message)
		}
	}
	return nil
}

// prepare prepares the statement, which has to be a SELECT.
func (d *Database) prepare(sql string) error {
	text, want := sql, duckdb.StatementTypeSelect
	if n := explains(sql); n > 0 {
		text, want = strings.Repeat(" ", n-len(explain))+explain+sql[n:], duckdb.StatementTypeExplain
	}
	var all duckdb.ExtractedStatements
	n := duckdb.ExtractStatements(d.conn, text, &all)
	defer duckdb.DestroyExtracted(&all)
	if failed := duckdb.ExtractStatementsError(all); failed != "" { // as where there is no more memory
		return decodeError(sql, failed)
	}
	if n != 1 {
		return Refused(sql, -1, "%w", errOneSelect)
	}
	if duckdb.PrepareExtractedStatement(d.conn, all, 0, &d.stmt) == duckdb.StateError {
		return decodeError(sql, duckdb.PrepareError(d.stmt))
	}
	if duckdb.PreparedStatementType(d.stmt) != want {
		return Refused(sql, -1, "%w", errOneSelect)
	}
	return nil
}

// schema returns a schema of columns of DuckDB's types, as DuckDB has it and with int64 where
// that has integers of 128 bits, as it has for sums of integers: the type has to be known
// before the values are.
func (d *Database) schema(n duckdb.IdxT, column func(duckdb.IdxT) (string, duckdb.LogicalType)) (raw, shown *arrow.Schema, err error) {
	names, types := make([]string, n), make([]duckdb.LogicalType, n)
	var wide []int
	for i := range names {
		names[i], types[i] = column(duckdb.IdxT(i))
		switch duckdb.GetTypeId(types[i]) {
		case duckdb.TypeInvalid, duckdb.TypeAny: // it depends on parameters
			duckdb.DestroyLogicalType(&types[i])
			types[i] = duckdb.CreateLogicalType(duckdb.TypeSQLNull)
		case duckdb.TypeHugeInt:
			wide = append(wide, i)
		}
		defer duckdb.DestroyLogicalType(&types[i])
	}
	var o duckdb.ArrowOptions
	duckdb.ConnectionGetArrowOptions(d.conn, &o)
	defer duckdb.DestroyArrowOptions(&o)
	if raw, err = arrowSchema(o, types, names); err != nil || len(wide) == 0 {
		return raw, raw, err
	}
	fields := raw.Fields()
	for _, i := range wide {
		fields[i].Type = arrow.PrimitiveTypes.Int64
	}
	return raw, arrow.NewSchema(fields, nil), nil
}

// Finish ends the statement, which reads no file any more. One that was described stays prepared.
func (d *Database) Finish() {
	if d.calm != nil {
		d.calm()
		d.calm = nil
	}
	if d.ready == "" {
		d.forget()
	}
}

// forget lets go of the prepared statement.
func (d *Database) forget() {
	d.ready = ""
	if d.stmt.Ptr != nil {
		duckdb.DestroyPrepare(&d.stmt)
	}
}

// Close ends it. It may be called again.
func (d *Database) Close() {
	d.Finish()
	d.forget()
	for _, c := range append(d.unused, d.conn) {
		if c.Ptr != nil {
			duckdb.Disconnect(&c)
		}
	}
	d.unused, d.conn = nil, duckdb.Connection{}
	if d.db.Ptr != nil {
		duckdb.Close(&d.db)
	}
	_ = os.RemoveAll(d.dir) // what is left goes with the engine's directory
}
