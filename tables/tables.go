// Package tables stores versioned tables of Arrow records, in a directory or in an object store. Tables are grouped in
// buckets. Many writers can append a few rows each to many tables, and readers see every acknowledged row.
//
// Tables are stored in Apache Iceberg's format, so Spark, Trino, DuckDB and pyiceberg can read them: Parquet files are
// under data/, and catalog.db contains a catalog in the format of pyiceberg's SqlCatalog. A bucket is an Iceberg
// namespace, and a version is an Iceberg snapshot. A small append is first written to the tail, which is a partd store.
// Later, a fold moves the rows of many appends from the tail into one Parquet file. Readers of the same Store see the
// rows in files and in the tail; other engines see only the rows in files.
//
// # Promises
//
//   - A put is visible completely or not at all. Replacing a table is one commit.
//   - An acknowledged put survives kill -9. It also survives a power failure if its rows are in files, or if
//     Options.Sync is set.
//   - A failed operation has changed nothing, unless its error wraps partd.ErrUnknownOutcome. There are two exceptions.
//     An operation on many tables skips the tables for which it fails. Its error names them and wraps [ErrDamaged] if
//     all of them are damaged. If [Store.Exec] fails for one of several parameter rows, the changes for earlier rows
//     remain, unless the statement is INSERT … VALUES.
//   - A put can have an ID. Repeating a put with the same ID changes nothing, so such a put is always safe to retry.
//   - A name can be any valid UTF-8 of 1 to 255 bytes; names are compared byte by byte. Paths on disk do not contain
//     names, so no name can refer to a file outside the directory.
//   - Other programs can commit to the same tables by Iceberg's rules. Folds and puts then retry on the new state.
//   - A reader sees one state of its table. The table's files exist until the reader is released, unless Expire runs
//     in another process: it may remove them after its grace period.
//
// # Processes
//
// Only one Store at a time can use a tail. By default, the tail is in the tables' directory, and a second process that
// opens the directory gets an error that wraps [ErrInUse] and names the first process. Several processes can share a
// directory if each has its own tail ([Options.TailDir], [Options.Tail]) or no tail ([Options.NoTail]). A process sees
// the rows in another process's tail only after they have been folded into files. [Options.ReadOnly] opens another
// process's directory for reading, including the rows in its tail.
//
// For writes from several machines, the files must be in an object store and the catalog in PostgreSQL
// ([Options.OpenBucket], [Options.Catalog]). If the response to a commit is lost, the Store looks up whether the commit
// took effect. See docs/warehouses.md.
//
// # Experimental
//
// Reads at a point in time, with [AtTime] and [MomentError], may change in any minor version. docs/versions.md defines
// the stability of the API.
package tables

import (
	"context"
	"log/slog"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/tables/filter"
)

// Options configures a store. Nil or the zero value selects the defaults.
type Options struct {
	// OpenBucket opens the object-store bucket at a URL. If it is nil, Open accepts only directories. For s3 and gs,
	// use cloud.OpenBucket from package objstore/cloud. If the bucket is an io.Closer, the Store closes it.
	OpenBucket func(ctx context.Context, url string) (objstore.Bucket, error)

	// Catalog is the catalog's location: a directory on this machine, which contains catalog.db, or the URL of a
	// PostgreSQL database (postgres://…), which lets several processes or machines write. For PostgreSQL, the program
	// must import _ "github.com/go-partd/partd/tables/postgres". "" means the tables' directory. Tables in an object
	// store require a Catalog.
	Catalog string

	// CacheDir is a directory for copies of files from an object-store bucket. Several processes can share it. "" means
	// partd-tables in the user's cache directory. CacheSize is the approximate limit, in bytes, for copies that are not
	// in use; 0 means [DefaultCacheSize].
	CacheDir  string
	CacheSize int64

	// TailDir is the directory of the tail if Tail is nil. "" means the directory named tail in the tables' directory.
	// For tables in an object store, "" means no tail, because other machines could not see rows in it.
	TailDir string

	// Tail stores small appends until they are folded into files. It must be able to list and delete keys. It must
	// contain nothing else, and nothing else may use it while the Store is open. Nil means a log store in TailDir. The
	// Store does not close Tail.
	Tail partd.Partd

	// NoTail makes every put write its own files, which all processes see immediately. If ReadOnly is also set, reads
	// omit rows that are not yet in files.
	NoTail bool

	// ReadOnly opens the tables in their current state, only for reading. Open takes no lock, so it does not block
	// another Store that has the tables open. Open copies the tail, and a catalog in a directory, to a temporary
	// directory. Reads return rows acknowledged before Open, including rows in the tail if [Store.SeesTail] returns
	// true. They return no later changes, except commits to a catalog in PostgreSQL. A directory that this process
	// cannot write is always opened this way.
	ReadOnly bool

	// Rebuild replaces a damaged catalog in a directory with a new one, which is built from the readable parts of the
	// catalog and from the tables' metadata files. The damaged files are renamed: their names then begin with
	// catalog-damaged. No other process may use the directory.
	Rebuild bool

	// Sync makes appends to the tail survive a power failure once they are acknowledged. Readers can see them earlier.
	// Rows in files always survive a power failure. If Tail is set, it must be a partd.Syncer.
	Sync bool

	// FoldBytes is the size, in bytes, at which a table's rows in the tail are moved into a file. A larger append is
	// written directly to a file. 0 means [DefaultFoldBytes]. The maximum is 1/32 of Memory, and at most 1 GiB.
	FoldBytes int64

	// FoldAge is how long rows can stay in the tail before they are moved into a file. 0 means [DefaultFoldAge]. A
	// negative value means no limit.
	FoldAge time.Duration

	// Memory limits the memory, in bytes, for the tail's rows and the tables' metadata. Data beyond the limit is read
	// again when needed. 0 means [DefaultMemory].
	Memory int64

	// Engine runs the SQL statements of Query and Exec; package duck provides one. Nil means that SQL is not available.
	Engine Engine

	// Observer is notified of each operation, for metrics and traces. Nil means no Observer, at no cost.
	Observer Observer

	// Logger receives recoveries and background failures. Nil means no logging.
	Logger *slog.Logger
}

// Default values for Options.
const (
	DefaultFoldBytes = 8 << 20
	DefaultFoldAge   = time.Minute
	DefaultMemory    = 256 << 20
	DefaultCacheSize = 1 << 30
)

// PutMode determines what a put does if the table already exists.
type PutMode uint8

// Put modes.
const (
	PutError   PutMode = iota // fails with ErrExists
	PutAppend                 // adds the rows; creates the table if it is missing
	PutReplace                // replaces the table's rows and schema
)

// PutOptions configures a put. Nil or the zero value selects the defaults.
type PutOptions struct {
	// ID makes the put idempotent: if a put with this ID was already applied to the table, this put changes nothing. It
	// has at most 255 bytes; "" means no ID. IDs are remembered for at least [IDAge] while the table exists; Expire
	// removes older ones. The ID of an append without rows is not remembered. If another Store's tail has a put with
	// the same ID, this is detected only when its rows are folded into files; from then on, the rows count only once.
	ID string

	// Over makes a PutReplace replace only this version's rows. Rows put later are kept and come before the new rows.
	// Columns and metadata are kept as well. If rows of the version have since been replaced or deleted, the error
	// wraps ErrConflict.
	Over *Version

	MustExist bool // if the table is missing, return an error that wraps ErrNotFound instead of creating the table

	AllColumns     bool      // reject an append that lacks columns of the table, instead of filling them with nulls
	MissingColumns *[]string // if not nil, set to the names of the table columns that an append lacks

	// Metadata becomes the table's metadata if the put creates or replaces the table. An append to an existing table
	// ignores it.
	Metadata Metadata

	// Settings become the table's settings if the put creates or replaces the table. If nil, a replaced table keeps its
	// settings. An append to an existing table ignores Settings.
	Settings *Settings

	rows     *int64 // number of rows that an SQL statement has put, which is recorded with ID; nil without a statement
	checksum string // checksum of the SQL statement, which is also recorded with ID

	// if not nil, a PutReplace fails with commit.ErrStale if the table's rows have changed since this state
	basis *table.Table
}

// ScanOptions configures a scan. Nil or the zero value reads everything. Encoded as JSON, it is a part of the ticket
// with which clients read a table from a server.
type ScanOptions struct {
	Columns []string     `json:"columns,omitempty"` // columns to read, in this order; nil means all columns
	Filter  *filter.Expr `json:"where,omitempty"`   // nil means all rows
	Limit   int64        `json:"limit,omitempty"`   // maximum number of rows; 0 means no limit
	Last    int64        `json:"last,omitempty"`    // maximum number of rows, counted from the end; 0 means no limit

	// Part is the number of the part to read, from 1 to the result of Table.Parts. 0 reads all rows. Part can be
	// combined with Filter, Columns and Limit.
	Part int64 `json:"part,omitempty"`

	// Dictionaries makes the scan return columns as dictionaries if they were dictionaries in the put that created the
	// table. Each dictionary begins with the values in that put's first batch, in the same order, if they take at most
	// 64 KiB; new values follow as they occur. Without this option, such columns have plain values.
	Dictionaries bool `json:"dictionaries,omitempty"`

	// Recycle lets the scan reuse the memory of released batches; the reader releases each batch when it returns the
	// next one. Large scans are then about four times as fast. Without Recycle, values in released batches stay valid.
	// Recycle is not in the JSON, because the server sets it.
	Recycle bool `json:"-"`

	// ChunkRows is the row count of each batch except the last. 0 means that the batch sizes depend on the files.
	// ChunkRows is not in the JSON, because clients divide the batches that they receive.
	ChunkRows int64 `json:"-"`

	// From and To limit the scan to rows with times in [From, To). A zero time means no bound.
	From time.Time `json:"from,omitzero"`
	To   time.Time `json:"to,omitzero"`
	// TimeColumn is the timestamp or date column for From and To. "" means the time column in the table's settings, or
	// else the first timestamp or date column.
	TimeColumn string `json:"time_column,omitempty"`
}

// Filter selects tables for a listing. Nil selects all.
type Filter struct {
	Pattern  string   // name pattern in the syntax of path.Match; "" matches all names
	Metadata Metadata // entries that the table's metadata must contain; the search uses an index
	Snapshot string   // name of the snapshot whose tables to list; "" lists current tables
}

// At selects a state of a table: a version, a snapshot or a time. Nil selects the current state.
type At func(*stateSelection)

type stateSelection struct {
	version  *Version
	time     time.Time
	snapshot string
}

// AtVersion selects a version.
func AtVersion(v Version) At { return func(a *stateSelection) { a.version = &v } }

// Version returns the version that AtVersion selected, or nil.
func (a At) Version() *Version { return selectState(a).version }

// AtSnapshot selects the table's state in a snapshot of its bucket. In a query, each table is read from the snapshot of
// this name in its own bucket.
func AtSnapshot(name string) At { return func(a *stateSelection) { a.snapshot = name } }

// Snapshot returns the snapshot name that AtSnapshot selected, or "".
func (a At) Snapshot() string { return selectState(a).snapshot }

// AtTime selects the state that readers of this Store saw at time t, to the millisecond: it contains every change up to
// the end of that millisecond, and no later one. Rows in the tail are first folded into files, and each put becomes its
// own version. But if the tail has more than 50 puts, the rows put by time t become one version, and later rows
// another. If no version contains exactly the rows of time t, [Table.At] returns a [MomentError].
func AtTime(t time.Time) At { return func(a *stateSelection) { a.time = t } }

// Time returns the time that AtTime selected, or the zero time.
func (a At) Time() time.Time { return selectState(a).time }

func selectState(selectors ...At) (selected stateSelection) {
	for _, a := range selectors {
		if a != nil {
			a(&selected)
		}
	}
	return selected
}
