// Package tables stores tables of Arrow records in buckets, with versions, in a directory or in a bucket of an
// object store. Many writers can append a few rows each to many tables, and readers see every acknowledged row.
//
// The files are Apache Iceberg's, so Spark, Trino, DuckDB and pyiceberg can read them: Parquet files below
// data/, and a catalog in catalog.db in the format of pyiceberg's SqlCatalog. A bucket is an Iceberg namespace,
// and a version is an Iceberg snapshot. A small append does not become a file by itself: it is acknowledged in
// the tail, a partd store, and later folded into Parquet together with others. Readers of the same Store see
// both; other engines see only what was folded.
//
// # Promises
//
//   - A put is visible completely or not at all. Replacing a table is one commit.
//   - An acknowledged put survives kill -9. It also survives a loss of power if it was
//     committed, or if Options.Sync is set. Folded rows are always synced.
//   - A failed operation has changed nothing, unless its error wraps
//     partd.ErrUnknownOutcome. An operation on many tables skips damaged ones, and then
//     returns an error that wraps [ErrDamaged].
//   - A put may carry an ID. If a put with that ID was applied before, it changes
//     nothing, so it is always safe to retry.
//   - Names are any valid UTF-8 of 1 to 255 bytes, compared byte by byte. Paths on disk
//     do not contain them, so no name can lead out of the directory.
//   - Other programs may commit to the same tables by Iceberg's rules. Folds and puts
//     then retry on the new state.
//   - A reader sees one state of its table. Its files stay until it is released; another
//     process removes them only after the grace period of Expire.
//
// # Processes
//
// The tail belongs to one Store at a time. By default it is a log store in the
// directory, and a second process that opens the directory gets an error that wraps
// [ErrInUse] and names the first process. Several processes may share a directory if
// each has its own tail ([Options.TailDir], [Options.Tail]) or none ([Options.NoTail]).
// They see the rows in each other's tails once these are folded. [Options.ReadOnly]
// opens the directory of another process for reading, including the rows in its tail.
//
// If several machines write, the files are in a bucket of an object store and the
// catalog is in PostgreSQL ([Options.OpenBucket], [Options.Catalog]). If the answer to
// a commit is lost, the Store looks up whether it happened. See docs/warehouses.md.
package tables

import (
	"context"
	"log/slog"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/tables/filter"
)

// MaxName is the maximum length of a bucket's or table's name, in bytes.
const MaxName = 255

// Defaults of Options.
const (
	DefaultFoldBytes = 8 << 20
	DefaultFoldAge   = time.Minute
	DefaultMemory    = 256 << 20
	DefaultCacheSize = 1 << 30
)

// Options configures a store. The zero value, and nil, are the defaults.
type Options struct {
	// OpenBucket opens the bucket of a URL; Open needs it to accept URLs. Use
	// cloud.OpenBucket from package objstore/cloud for s3 and gs. If the result is an
	// io.Closer, the Store closes it.
	OpenBucket func(ctx context.Context, url string) (objstore.Bucket, error)

	// Catalog locates the catalog. The URL of a PostgreSQL database (postgres://…) lets
	// several processes or machines write; the program must import _
	// "github.com/go-partd/partd/tables/postgres". A directory of this machine holds
	// catalog.db. "" means the directory of the tables; tables in a bucket need a Catalog.
	Catalog string

	// CacheDir is a directory for copies of a bucket's files, which several processes may share. "" means
	// partd-tables in the user's cache directory. CacheSize limits, approximately, the bytes of copies that are
	// not in use; 0 means [DefaultCacheSize].
	CacheDir  string
	CacheSize int64

	// TailDir is the directory of the tail's log store if Tail is nil. "" means tail in the
	// directory of the tables. For tables in a bucket, "" means no tail, as with NoTail:
	// another machine would not see it.
	TailDir string

	// Tail acknowledges small appends. It must be able to list and delete keys, contain nothing else, and not
	// be used by anything else while the Store is open. Nil means a log store in a directory. The Store does
	// not close Tail.
	Tail partd.Partd

	// NoTail makes every put a separate commit, which all processes see at once. With
	// ReadOnly, rows that are only in a tail are not seen.
	NoTail bool

	// ReadOnly opens the tables in their current state, for reading only. Another Store, in this process or
	// another, may have them open and is not blocked: Open copies the tail, and a catalog in a directory, to a
	// temporary directory without a lock. Reads see rows acknowledged before Open, including those in the tail
	// if [Store.SeesTail] reports true. They do not see later changes, except commits to a catalog in
	// PostgreSQL. A directory that this process may not write is always opened this way.
	ReadOnly bool

	// Sync makes appends to the tail survive a loss of power before they are acknowledged;
	// readers may see them earlier. Appends that wait at the same time share a sync.
	// Commits always survive a loss of power. If Tail is set, it must be a partd.Syncer.
	Sync bool

	// FoldBytes is the size, in bytes, that a table's rows in the tail may reach before
	// they are folded. An append of this size or more goes straight to Parquet. 0 means
	// [DefaultFoldBytes]. It is limited to 1/32 of Memory and to 1 GiB.
	FoldBytes int64

	// FoldAge is how long rows stay in the tail before they are folded. 0 means
	// [DefaultFoldAge]; a negative age never folds rows because of their age.
	FoldAge time.Duration

	// Memory bounds the memory, in bytes, for the tail's rows and the tables' metadata. Anything beyond it is
	// read again when needed. 0 means [DefaultMemory].
	Memory int64

	// Engine runs the SQL of Query; package duck has one. Nil means no SQL.
	Engine Engine

	// Observer is called for each operation, for metrics and traces. Nil means none, and
	// costs nothing.
	Observer Observer

	// Logger receives recoveries and background failures. Nil means no logging.
	Logger *slog.Logger
}

// Version numbers the committed states of a table. It is 0 while the table has no rows, and
// increases with each commit that changes rows. (It is the sequence number of an Iceberg
// snapshot.) Rows in the tail do not belong to a version yet.
type Version int64

// VersionInfo describes a version of a table.
type VersionInfo struct {
	Version   Version
	Time      time.Time // commit time, in UTC
	Operation string    // Iceberg's operation: append, replace, overwrite or delete
	Rows      int64     // rows of the whole table
	Current   bool
}

// PutMode is what a put does if the table already exists.
type PutMode uint8

// Modes of a put.
const (
	PutError   PutMode = iota // fails with ErrExists
	PutAppend                 // adds the rows; creates the table if it is missing
	PutReplace                // replaces the table's rows and schema
)

// PutOptions configures a put. The zero value, and nil, are the defaults.
type PutOptions struct {
	// ID makes the put idempotent: if a put with this ID was already applied to the table, this one changes
	// nothing. It has at most 255 bytes; "" means none. IDs are remembered for at least [IDAge], as long as the
	// table exists; Expire removes older ones. A put with this ID by a Store with another tail becomes known
	// when it is folded; from then on, its rows count only once.
	ID string

	// Over limits a PutReplace to the rows of this version. Rows put later stay, and come before the new rows;
	// the columns and metadata stay as well. If rows of the version have since been replaced or compacted, the
	// error wraps ErrConflict.
	Over *Version

	MustExist bool // do not create the table: if it is missing, the error wraps ErrNotFound

	AllColumns     bool      // reject an append that lacks columns of the table, instead of adding nulls
	MissingColumns *[]string // if not nil, set to the columns that an append lacked

	// Metadata becomes the table's own metadata if the put creates or replaces the table. An append to an
	// existing table ignores it.
	Metadata Metadata

	// Settings become the table's settings if the put creates or replaces the table; nil
	// keeps the settings of a replaced table. An append to an existing table ignores them.
	Settings *Settings
}

// ScanOptions configures a scan. The zero value, and nil, read everything.
type ScanOptions struct {
	Columns []string     // columns to read, in this order; nil means all
	Filter  *filter.Expr // nil means all rows
	Limit   int64        // maximum number of rows; 0 means all
	Last    int64        // maximum number of rows, counted from the end; 0 means all

	// Part is the part to read, from 1 to the result of Table.Parts; 0 reads all rows. It
	// can be combined with Filter, Columns and Limit.
	Part int64

	// Dictionaries restores the dictionaries of columns that had them in the put that created the table. Each
	// begins with the values of that put's first batch, in the same order, if they take at most 64 KiB; new
	// values follow as they occur. Otherwise such columns have plain values.
	Dictionaries bool

	// Recycle reuses the memory of released batches; the reader releases each batch when it returns the next.
	// Large scans then take a fourth of the time. Without it, values of released batches stay valid.
	Recycle bool

	// ChunkRows is the number of rows in each batch except the last; 0 leaves it to the
	// files.
	ChunkRows int64

	// From and To bound the rows by time: From is inclusive, To exclusive. A zero time is
	// no bound.
	From, To time.Time
	// TimeColumn is the timestamp or date column for From and To. "" means the time column
	// of the table's settings, or the first timestamp or date column.
	TimeColumn string
}

// Filter selects tables of a listing. Nil selects all.
type Filter struct {
	Pattern  string   // a pattern for path.Match; "" selects all
	Metadata Metadata // values that the metadata must contain; the search uses an index
	Snapshot string   // list the tables of this snapshot; "" lists the current ones
}

// TableInfo describes a table in a listing.
type TableInfo struct {
	Bucket, Name string
	Rows         int64 // including those in the tail
	Bytes        int64 // of data files and the tail
	Files        int64 // number of data files
	Version      Version
	Updated      time.Time // time of the last put or change, in UTC
	Metadata     Metadata

	// Damaged says why the table cannot be read, or is "". A listing notices damage only if it must read the
	// table, because the tail has rows of it, or because another program committed to it. The other fields are
	// then incomplete. Verify checks everything.
	Damaged string `json:",omitempty"`
}

// At chooses an older state of a table.
type At func(*at)

type at struct {
	version  *Version
	time     time.Time
	snapshot string
}

// AtVersion chooses a version.
func AtVersion(v Version) At { return func(a *at) { a.version = &v } }

// Version returns the version that AtVersion chose, or nil.
func (a At) Version() *Version { return a.chosen().version }

// AtSnapshot chooses the table's state in a snapshot of its bucket. In a query, each table
// is read from the snapshot of this name in its own bucket.
func AtSnapshot(name string) At { return func(a *at) { a.snapshot = name } }

// Snapshot returns the snapshot that AtSnapshot chose, or "".
func (a At) Snapshot() string { return a.chosen().snapshot }

func (a At) chosen() (c at) {
	if a != nil {
		a(&c)
	}
	return c
}

// AtTime chooses the version that was current at time t, to the millisecond: the last
// version without rows that came later. If all rows in the tail were acknowledged by t,
// version without rows that were put later. If all rows in the tail were put by t, they are committed first, as
// a version. If some were put later, they all become one later
func AtTime(t time.Time) At { return func(a *at) { a.time = t } }

// Time returns the time that AtTime chose, or the zero time.
func (a At) Time() time.Time { return a.chosen().time }
