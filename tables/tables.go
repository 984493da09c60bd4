// Package tables keeps rows under names: tables in buckets, in a directory,
// with versions. It is to Arrow records what partd is to bytes: many writers
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
//     partd.ErrUnknownOutcome. A put may carry an id, and a put whose id was
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
// one are seen by the others once they are folded.
package tables

import (
	"log/slog"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables/filter"
)

// MaxName is the length of the longest name of a bucket or table, in bytes.
const MaxName = 255

// The defaults of Options.
const (
	DefaultFoldBytes = 8 << 20
	DefaultFoldAge   = time.Minute
	DefaultMemory    = 256 << 20
)

// Options of a store. The zero value, and nil, are the defaults.
type Options struct {
	// Tail acknowledges small appends. It must list and delete keys, hold
	// nothing else, and be used by nobody else while the Store is open. Nil
	// means a log store in the directory. The Store does not close a Tail that
	// it was given.
	Tail partd.Partd

	// NoTail makes every put a commit of its own, so that all processes see it
	// at once.
	NoTail bool

	// Sync makes appends to the tail survive a loss of power before they are
	// acknowledged. Commits always do. A Tail that was given must be a
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
	Error   PutMode = iota // it fails with ErrExists
	Append                 // the rows are added; a missing table is made
	Replace                // the rows take the place of the table's, and their schema of its schema
)

// PutOptions of Put.
type PutOptions struct {
	// ID makes the put idempotent: where a put with this id was applied to the
	// table, this one changes nothing. At most 255 bytes; "" means none. Ids
	// are remembered as long as the table exists, but not longer than
	// [IDAge] past an Expire. What a Store with another tail put under the id is
	// known once it is folded; from then on the rows count once.
	ID string

	// Metadata is what the table's own metadata is set to when the put makes or
	// replaces it. An append to a table that exists leaves metadata alone.
	Metadata map[string]string
}

// ScanOptions of Scan. The zero value, and nil, read all.
type ScanOptions struct {
	Columns []string     // in the order wanted; nil: all
	Filter  *filter.Expr // nil: all rows
	Limit   int64        // at most so many rows; 0: all

	// From and To are a range of time: rows from From on, before To. A zero
	// time is no bound.
	From, To time.Time
	// TimeColumn is the column that From and To are about: a timestamp or a
	// date. "" means the first such column.
	TimeColumn string
}

// Filter selects tables of a listing. Nil selects all.
type Filter struct {
	Pattern  string            // as path.Match; "" selects all
	Metadata map[string]string // what the metadata must contain
}

// TableInfo describes a table in a listing.
type TableInfo struct {
	Bucket, Name string
	Rows         int64 // with those in the tail
	Bytes        int64 // of data files and tail
	Files        int64 // data files
	Version      Version
	Updated      time.Time // of the last put or change, in UTC
	Metadata     map[string]string
}

// At chooses an older state of a table.
type At func(*at)

type at struct {
	version *Version
	time    time.Time
}

// AtVersion chooses a version.
func AtVersion(v Version) At { return func(a *at) { a.version = &v } }

// AtTime chooses the version that was current at a time.
func AtTime(t time.Time) At { return func(a *at) { a.time = t } }
