// Package tables keeps rows under names: tables in buckets, with versions, in a
// directory or in a bucket of an object store. It is to Arrow records what partd is to bytes: many writers
// append a few rows each to many tables, and readers see every row that was
// acknowledged.
//
// The files are Apache Iceberg's, so that Spark, Trino, DuckDB and pyiceberg
// read them: Parquet below data/, and a catalog in catalog.db as pyiceberg's
// SqlCatalog keeps it. A bucket is a namespace, a table a table, a version a
// snapshot. Small appends do not become files of their own: they are
// acknowledged in the tail, a partd store, and folded into Parquet later, many
// at once. Readers of the same Store see both; foreign readers see what was
// folded.
//
// # Promises
//
//   - A put is visible whole or not at all. Replacing a table is one commit.
//   - An acknowledged put survives kill -9, and a loss of power if it was
//     committed, or if Options.Sync is set. What was folded is always synced.
//   - An operation that failed has changed nothing, unless its error wraps
//     partd.ErrUnknownOutcome; or [ErrDamaged] where it works on many tables, of which
//     it leaves out the damaged ones. A put may carry an id, and a put whose id was
//     applied before changes nothing: such a put may always be tried again.
//   - Names are any valid UTF-8 of 1 to 255 bytes, compared byte by byte.
//     Paths on the disk are made up, so no name leaves the directory.
//   - Others may commit to the same tables by Iceberg's rules. Folds and puts
//     are then tried again on what they left.
//   - A reader sees one state of its table, and its files stay until it is
//     released, or for the grace period of Expire in another process.
//
// # Processes
//
// The tail belongs to one Store at a time. With the default tail, a log store in
// the directory, a second process that opens the directory gets an error that
// wraps [ErrInUse] and names it. Several processes may share a directory if each
// brings a tail of its own, or has none ([Options.NoTail]); rows in the tail of
// one are seen by the others once they are folded. [Options.ReadOnly] opens the
// directory of another process for reading, and sees the rows in its tail as well.
//
// Where several machines write, the files are in a bucket of an object store, and the
// catalog in PostgreSQL ([Options.OpenBucket], [Options.Catalog]). A commit whose
// answer was lost is looked up. docs/warehouses.md tells more.
package tables

import (
	"context"
	"log/slog"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/tables/filter"
)

// MaxName is the length of the longest name of a bucket or table, in bytes.
const MaxName = 255

// The defaults of Options.
const (
	DefaultFoldBytes = 8 << 20
	DefaultFoldAge   = time.Minute
	DefaultMemory    = 256 << 20
	DefaultCacheSize = 1 << 30
)

// Options of a store. The zero value, and nil, are the defaults.
type Options struct {
	// OpenBucket opens the bucket of a URL, if Open is to take URLs: package
	// objstore/cloud of this project has one for s3 and gs, cloud.OpenBucket. What
	// it returns is closed with the Store, if it is an io.Closer.
	OpenBucket func(ctx context.Context, url string) (objstore.Bucket, error)

	// Catalog is where the catalog is: the URL of a PostgreSQL database
	// (postgres://…), where several processes or machines write, for programs that
	// import _ "github.com/go-partd/partd/tables/postgres"; or a directory of this
	// machine, for catalog.db. "" is the directory of the tables; tables in a bucket
	// have none, and want a Catalog.
	Catalog string

	// CacheDir is a directory for copies of a bucket's files, which several
	// processes may share; "" is partd-tables in the user's cache directory.
	// CacheSize is about how many bytes stay in it, beside what is in use; 0 means
	// [DefaultCacheSize].
	CacheDir  string
	CacheSize int64

	// TailDir is the directory of the log store that is the tail where Tail is nil;
	// "" is tail in the directory of the tables. Tables in a bucket have no tail
	// then, as with NoTail: another machine would not see it.
	TailDir string

	// Tail acknowledges small appends. It must list and delete keys, hold
	// nothing else, and be used by nobody else while the Store is open. Nil
	// means a log store in a directory. The Store does not close a Tail that
	// it was given.
	Tail partd.Partd

	// NoTail makes every put a commit of its own, so that all processes see it
	// at once. With ReadOnly, rows that are in a tail alone are not seen.
	NoTail bool

	// ReadOnly opens the tables as they are now, and changes nothing of them. Another
	// Store may have them meanwhile, in this process or in another one, and is not
	// hindered: a tail, and a catalog in a directory, are copied to a temporary
	// directory, without a lock. Rows that were acknowledged before Open are seen, those
	// of the tail, too, if [Store.SeesTail] says so. What the other Store does later is
	// not seen; but what it commits to a catalog in PostgreSQL is. A directory that this
	// process may not write is opened so in any case.
	ReadOnly bool

	// Sync makes appends to the tail survive a loss of power before they are
	// acknowledged; readers may see them before. Appends that wait at the same time
	// share a sync. Commits always survive one. A Tail that was given must be a
	// partd.Syncer.
	Sync bool

	// FoldBytes is how much of a table may be in the tail before it is folded,
	// in bytes. An append of as much goes straight to Parquet. 0 means
	// [DefaultFoldBytes]. It is at most a 32nd part of Memory, and 1 GiB.
	FoldBytes int64

	// FoldAge is how long rows stay in the tail before they are folded. 0 means
	// [DefaultFoldAge]; below 0, age folds nothing.
	FoldAge time.Duration

	// Memory bounds what the Store holds in memory for the tail's rows and for
	// the tables' metadata, in bytes. What lies above it is read again when it
	// is needed. 0 means [DefaultMemory].
	Memory int64

	// Engine runs the SQL of Query. Package duck has one. Nil means none.
	Engine Engine

	// Observer is told of operations, for metrics and traces. Nil means none, and costs
	// nothing.
	Observer Observer

	// Logger receives what was recovered, and what failed in the background.
	// Nil means none.
	Logger *slog.Logger
}

// Version numbers the committed states of a table: 0 when it has no rows, then
// rising by one or more with each commit that changes rows. (It is Iceberg's
// sequence number of a snapshot.) Rows in the tail are in no version yet.
type Version int64

// VersionInfo describes a version of a table.
type VersionInfo struct {
	Version   Version
	Time      time.Time // when it was committed, in UTC
	Operation string    // append, replace, overwrite or delete, as Iceberg says
	Rows      int64     // of the table as a whole
	Current   bool
}

// PutMode says what a put does where the table exists.
type PutMode uint8

// The modes of a put.
const (
	PutError   PutMode = iota // it fails with ErrExists
	PutAppend                 // the rows are added; a missing table is made
	PutReplace                // the rows take the place of the table's, and their schema of its schema
)

// PutOptions of Put.
type PutOptions struct {
	// ID makes the put idempotent: where a put with this id was applied to the
	// table, this one changes nothing. At most 255 bytes; "" means none. Ids
	// are remembered as long as the table exists, but not longer than
	// [IDAge] past an Expire. What a Store with another tail put under the id is
	// known once it is folded; from then on the rows count once.
	ID string

	// Over makes a PutReplace one of the rows of a version alone: those that were
	// put later stay, before the new ones, and so do columns and metadata. Where
	// rows of the version were replaced or compacted meanwhile, the error wraps
	// ErrConflict.
	Over *Version

	MustExist bool // the put makes no table: where there is none, the error wraps ErrNotFound

	Whole bool      // an append that lacks columns of the table is refused; else they are null in its rows
	Lacks *[]string // if not nil, it is set to the columns that an append lacked

	// Metadata is what the table's own metadata is set to when the put makes or
	// replaces it. An append to a table that exists leaves metadata alone.
	Metadata Metadata

	// Settings are what the table's are set to when the put makes or replaces
	// it; nil leaves those of a table that is replaced. An append to a table that
	// exists leaves settings alone.
	Settings *Settings
}

// ScanOptions of Scan. The zero value, and nil, read all.
type ScanOptions struct {
	Columns []string     // in the order wanted; nil: all
	Filter  *filter.Expr // nil: all rows
	Limit   int64        // at most so many rows; 0: all
	Last    int64        // at most so many rows, the last ones; 0: all

	// Part is one of Table.Parts, counted from 1, whose rows alone are read; 0: all.
	// Filter, Columns and Limit go with it.
	Part int64

	// Dictionaries makes dictionaries again of the columns that were put as such by
	// the put that made the table: with the values of its first batch, if they take
	// at most 64 KiB, in their order, and others as they come. Without, there are
	// the values.
	Dictionaries bool

	// Recycle uses the memory of batches again that were released, as the reader releases
	// each with the next one: large scans take a fourth of the time. Without, values
	// that were not retained stay as they are.
	Recycle bool

	// ChunkRows is how many rows each batch has that the reader returns, but for the
	// last; 0 leaves that to the files.
	ChunkRows int64

	// From and To are a range of time: rows from From on, before To. A zero
	// time is no bound.
	From, To time.Time
	// TimeColumn is the column that From and To are about: a timestamp or a
	// date. "" means that of the table's settings, or the first such column.
	TimeColumn string
}

// Filter selects tables of a listing. Nil selects all.
type Filter struct {
	Pattern  string   // as path.Match; "" selects all
	Metadata Metadata // what the metadata must contain, by values; an index finds these tables
	Snapshot string   // list the tables as they are in this snapshot; "" is as they are now
}

// TableInfo describes a table in a listing.
type TableInfo struct {
	Bucket, Name string
	Rows         int64 // with those in the tail
	Bytes        int64 // of data files and tail
	Files        int64 // data files
	Version      Version
	Updated      time.Time // of the last put or change, in UTC
	Metadata     Metadata

	// Damaged says what is wrong with a table that cannot be read, as far as a listing
	// has to read it: if it has rows in the tail, or others committed to it. The figures
	// are those that are known then. Verify reads all.
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

// Version returns the version that AtVersion chose, nil for others.
func (a At) Version() *Version { return a.chosen().version }

// AtSnapshot chooses what a snapshot of the bucket has. A query's tables are each
// in the snapshot of this name of its own bucket.
func AtSnapshot(name string) At { return func(a *at) { a.snapshot = name } }

// Snapshot returns the snapshot that AtSnapshot chose, "" for others.
func (a At) Snapshot() string { return a.chosen().snapshot }

func (a At) chosen() (c at) {
	if a != nil {
		a(&c)
	}
	return c
}

// AtTime chooses the version that was current at a time, to the millisecond: the last one
// without a row that came later. If all rows in the tail were acknowledged by then, they get
// a version first. If some came later, they all go into one version with the later time, so
// a time during writes may select an older version. A zero time reads all rows.
func AtTime(t time.Time) At { return func(a *at) { a.time = t } }

// Time returns the time that AtTime chose, the zero one for others.
func (a At) Time() time.Time { return a.chosen().time }
