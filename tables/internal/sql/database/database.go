//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package database

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow"
	duckdb "github.com/duckdb/duckdb-go-bindings"

	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

// Database is an in-memory DuckDB database. Its first statement determines which tables and how much memory the
// database may use (see confinement). Further statements must have the same [Job.Key]. Each statement runs on a
// separate connection.
type Database struct {
	db           duckdb.Database
	conn         duckdb.Connection // connection of the current statement
	statements   int               // number of statements that used earlier connections
	confinedKey  string            // Job.Key of the database's statements; "" while the database is not confined
	views        string            // statements that defined the current views
	isIncomplete bool              // the current statement has begun but not succeeded yet
	stmt         duckdb.PreparedStatement
	describedSQL string              // SQL of stmt if the statement was prepared but has not run
	lastSQL      string              // SQL of the last statement
	isRepeated   bool                // whether lastSQL has run repeatedly with the same views and takes little time to prepare
	dir          string              // directory for data beyond the memory limit
	isEarly      bool                // whether OpenEarly opened the database
	mergesChunks bool                // whether results can wait until enough rows for a chunk exist
	functions    map[string]function // see functionTable
	stopWatching func()              // stops watching the context of CancelWith; nil if no context is watched
}

// maxStatements is the maximum number of statements that a database runs. It bounds what they leave in memory.
const maxStatements = 64

// Options limits a database's resources.
type Options struct {
	Memory, MaxTemp int64 // maximum size of memory, and of temporary files, in bytes
	Threads         int
}

// early receives the database that OpenEarly is opening, or nil if that failed.
var early atomic.Pointer[chan *Database]

// OpenEarly starts opening a database, which takes up to 20 ms. The next call of Open returns this database. Call
// OpenEarly only in a program that ends soon, because Close does not free the database: the system frees it faster.
func OpenEarly() {
	opened := make(chan *Database, 1)
	early.Store(&opened)
	go func() {
		d, err := open()
		if err == nil {
			d.isEarly = true
		}
		opened <- d // after an error, nil: Open tries again
	}()
}

// Open opens a database that is not confined yet. The database uses dir for data beyond the memory limit. It applies
// the settings that all queries share; confinement applies the settings of one query.
func Open(o *Options, dir string) (d *Database, err error) {
	if opened := early.Swap(nil); opened != nil {
		d = <-*opened
	}
	if d == nil {
		d, err = open()
		if err != nil {
			return nil, err
		}
	}
	d.dir = dir
	err = d.execute(
		"SET threads="+fmt.Sprint(o.Threads),
		"SET memory_limit="+bytesText(o.Memory),
		"SET temp_directory="+sqltext.Text(dir),
		"SET max_temp_directory_size="+bytesText(o.MaxTemp),
	)
	if err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// open opens a database without limits.
func open() (*Database, error) {
	d := &Database{}
	if duckdb.Open(":memory:", &d.db) == duckdb.StateError {
		return nil, errNoMemory
	}
	err := errNoMemory
	if duckdb.Connect(d.db, &d.conn) == duckdb.StateSuccess {
		err = d.execute(append([]string{
			"SET GLOBAL errors_as_json=true", // for the connections of all statements
			"SET autoinstall_known_extensions=false",
			"SET autoload_known_extensions=false",
			"SET allow_community_extensions=false",
			"SET storage_compatibility_version='latest'", // json_serialize_sql refuses some types for an older version
			"SET GLOBAL TimeZone='UTC'",
			"SET enable_external_file_cache=false", // the cache would keep a statement's data after the statement ends
		}, slices.Concat(guards, macros)...)...)
	}
	if err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

var errNoMemory = errors.New("cannot open an in-memory DuckDB database")

func bytesText(n int64) string { return fmt.Sprintf("'%d bytes'", n) }

// Catalogs that can precede a bucket's name. Catalog is for tools that require a catalog name. For statements that
// compare two states, Before contains the earlier state of each table, and Changes contains the changes since that
// state.
const (
	Catalog = "partd"
	Before  = "before"
	Changes = "changes"
)

// confinement returns the SQL statements that confine a database: they revoke access to everything except a job's
// files. They do not define the job's views, because jobs with the same confinement can have different views.
func confinement(j *Job) []string {
	memory := j.Memory
	for i := range j.Keep {
		memory -= j.Keep[i].Bytes()
	}
	// Leave room below the process's limit, because DuckDB returns freed memory late.
	memory -= memory / 8
	if j.Spills {
		memory -= memory / 8
	}
	statements := []string{"SET memory_limit=" + bytesText(memory)}
	if j.Threads > 0 {
		statements = append(statements, fmt.Sprint("SET threads=", j.Threads))
	}
	if j.Spills {
		statements = append(statements, "SET debug_force_external=true")
	}
	// A plain SET would affect only one connection.
	statements = append(statements, "SET GLOBAL parquet_metadata_cache="+strconv.FormatBool(j.Footers))
	for _, catalog := range j.Attach { // otherwise, DuckDB could take the catalog's name for a bucket's name
		statements = append(statements, "ATTACH ':memory:' AS "+catalog)
	}
	var paths []string
	for _, path := range j.Paths {
		paths = append(paths, sqltext.Text(path))
	}
	return append(statements, "SET allowed_paths=["+strings.Join(paths, ",")+"]",
		"SET enable_external_access=false", "SET lock_configuration=true")
}

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

// prepare prepares a statement, which must be a SELECT or an EXPLAIN of one.
func (d *Database) prepare(sql string) error {
	text, wantType := sql, duckdb.StatementTypeSelect
	if n := explainLength(sql); n > 0 {
		text, wantType = strings.Repeat(" ", n-len(explainPrefix))+explainPrefix+sql[n:], duckdb.StatementTypeExplain
	}
	var extracted duckdb.ExtractedStatements
	n := duckdb.ExtractStatements(d.conn, text, &extracted)
	defer duckdb.DestroyExtracted(&extracted)
	if message := duckdb.ExtractStatementsError(extracted); message != "" { // for example, if memory is exhausted
		return decodeError(sql, message)
	}
	if n != 1 {
		return sqltext.RefusedAt(sql, -1, "%w", errOneSelect)
	}
	if duckdb.PrepareExtractedStatement(d.conn, extracted, 0, &d.stmt) == duckdb.StateError {
		return decodeError(sql, duckdb.PrepareError(d.stmt))
	}
	if duckdb.PreparedStatementType(d.stmt) != wantType {
		return sqltext.RefusedAt(sql, -1, "%w", errOneSelect)
	}
	return nil
}

// schema returns two schemas for n columns. column returns the name and the type of each column. raw has DuckDB's
// types. shown has int64 in place of 128-bit integers, which sums produce. Some values may not fit, but readers need
// the types before the values are known.
func (d *Database) schema(n duckdb.IdxT, column func(duckdb.IdxT) (string, duckdb.LogicalType)) (raw, shown *arrow.Schema, err error) {
	var o duckdb.ArrowOptions
	duckdb.ConnectionGetArrowOptions(d.conn, &o)
	defer duckdb.DestroyArrowOptions(&o)
	checkConvertible := func(t duckdb.LogicalType) error {
		_, err := arrowSchema(o, []duckdb.LogicalType{t}, []string{""})
		return err
	}
	names, types := make([]string, n), make([]duckdb.LogicalType, n)
	var hugeInts []int
	for i := range names {
		names[i], types[i] = column(duckdb.IdxT(i))
		id := duckdb.GetTypeId(types[i])
		switch id {
		case duckdb.TypeInvalid, duckdb.TypeAny:
			if types[i].Ptr != nil {
				if err := checkConvertible(types[i]); err != nil && !strings.Contains(err.Error(), "UNKNOWN") {
					break // the error is reported below
				}
			}
			// The type depends on the statement's parameters.
			duckdb.DestroyLogicalType(&types[i])
			types[i] = duckdb.CreateLogicalType(duckdb.TypeSQLNull)
		case duckdb.TypeHugeInt:
			hugeInts = append(hugeInts, i)
		}
		defer duckdb.DestroyLogicalType(&types[i])
	}
	raw, err = arrowSchema(o, types, names)
	if err != nil {
		for i, t := range types {
			if err := checkConvertible(t); err != nil {
				return nil, nil, &sqltext.Error{Err: fmt.Errorf("column %q: %w: cast it, for example to VARCHAR", names[i], err)}
			}
		}
	}
	for i, t := range types {
		if name := inexact(t); err == nil && name != "" {
			return nil, nil, &sqltext.Error{Err: fmt.Errorf("column %q: Arrow has no type for %s: cast it, for example to VARCHAR", names[i], name)}
		}
	}
	if err != nil || len(hugeInts) == 0 {
		return raw, raw, err
	}
	fields := raw.Fields()
	for _, i := range hugeInts {
		fields[i].Type = arrow.PrimitiveTypes.Int64
	}
	return raw, arrow.NewSchema(fields, nil), nil
}

// inexactTypes are the types that DuckDB converts to another type in Arrow or to bytes in its own format.
var inexactTypes = map[duckdb.Type]string{
	duckdb.TypeUHugeInt: "UHUGEINT", duckdb.TypeBit: "BIT", duckdb.TypeTimeTZ: "TIME WITH TIME ZONE", duckdb.TypeBigNum: "BIGNUM",
	duckdb.TypeGeometry: "GEOMETRY", duckdb.TypeVariant: "VARIANT",
}

// inexact returns the name of a type in inexactTypes that t is or contains, or "".
func inexact(t duckdb.LogicalType) string {
	id, children := duckdb.GetTypeId(t), []duckdb.LogicalType{}
	switch id {
	case duckdb.TypeList:
		children = append(children, duckdb.ListTypeChildType(t))
	case duckdb.TypeArray:
		children = append(children, duckdb.ArrayTypeChildType(t))
	case duckdb.TypeMap:
		children = append(children, duckdb.MapTypeKeyType(t), duckdb.MapTypeValueType(t))
	case duckdb.TypeStruct:
		for i := range duckdb.StructTypeChildCount(t) {
			children = append(children, duckdb.StructTypeChildType(t, i))
		}
	case duckdb.TypeUnion:
		for i := range duckdb.UnionTypeMemberCount(t) {
			children = append(children, duckdb.UnionTypeMemberType(t, i))
		}
	}
	name := inexactTypes[id]
	for i := range children {
		name = cmp.Or(name, inexact(children[i]))
		duckdb.DestroyLogicalType(&children[i])
	}
	return name
}

// Finish ends the statement. After that, the database reads no more files. A described statement stays prepared.
func (d *Database) Finish() {
	if d.stopWatching != nil {
		d.stopWatching()
		d.stopWatching = nil
	}
	if d.describedSQL == "" {
		d.discardStatement()
	}
}

func (d *Database) discardStatement() {
	d.describedSQL = ""
	if d.stmt.Ptr != nil {
		duckdb.DestroyPrepare(&d.stmt)
	}
}

// Close closes the database. It can be called more than once.
func (d *Database) Close() {
	d.Finish()
	d.discardStatement()
	if d.conn.Ptr != nil && !d.isEarly {
		duckdb.Disconnect(&d.conn)
	}
	if d.db.Ptr != nil && !d.isEarly {
		duckdb.Close(&d.db)
	}
	_ = os.RemoveAll(d.dir) // errors do not matter, because Engine.Close removes remaining files
}
