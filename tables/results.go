package tables

import (
	"context"
	"encoding/json"
	"io"
	"slices"
	"time"
)

// Version is the number of a table state: the sequence number of an Iceberg snapshot. It is 0 while the table has no
// rows, and increases with each commit that changes rows. Rows in the tail do not belong to a version yet.
type Version int64

// VersionInfo describes a version of a table.
type VersionInfo struct {
	Version   Version
	Time      time.Time // time of the newest change that the version contains, in UTC
	Operation string    // Iceberg's name of the operation: append, replace, overwrite or delete
	Rows      int64     // row count of the whole table
	Current   bool
	AtMost    AtMost `json:"RowsExact,omitzero"` // whether Rows is only a maximum
	// User is the server user whose call created the version, as named in the user's token. It is "" if the version was
	// created by a fold (which combines appends of any users), by background work or by a call without a named token.
	// Servers return it only to admins.
	User string `json:",omitempty"`
}

// AtMost is true if a row count is only a maximum, because other programs have deleted rows with position or equality
// delete files. The exact count is known after a compaction. In JSON, the value is inverted and has a name such as
// RowsExact, and only false is written.
type AtMost bool

// MarshalJSON encodes whether the row count is exact: the opposite of a.
func (a AtMost) MarshalJSON() ([]byte, error) { return json.Marshal(!bool(a)) }

// UnmarshalJSON decodes a result of MarshalJSON.
func (a *AtMost) UnmarshalJSON(text []byte) error {
	var exact bool
	err := json.Unmarshal(text, &exact)
	*a = AtMost(!exact)
	return err
}

// TableInfo describes a table in a listing.
type TableInfo struct {
	Bucket, Name string
	Rows         int64 // row count, including rows in the tail
	Bytes        int64 // size of the data files and of the rows in the tail
	Files        int64 // number of data files
	Version      Version
	Updated      time.Time // time of the last put or change, in UTC
	Metadata     Metadata
	AtMost       AtMost `json:"RowsExact,omitzero"` // whether Rows is only a maximum

	// Damaged says why the table cannot be read; "" means that no damage is known. If it is set, the other fields are
	// incomplete. A listing reads a table, and thus detects damage, only if the table has rows in the tail or another
	// program has committed to it. To check everything, use Verify.
	Damaged string `json:",omitempty"`
}

// MaintainOptions configures Fold, Compact, Expire and Maintain. Nil or the zero value selects all tables.
type MaintainOptions struct {
	Buckets Buckets
	Tables  []string // names of tables, which requires exactly one bucket in Buckets; nil selects all tables

	// OlderThan is the minimum age of the versions that Expire removes; 0 means any age. In Maintain, OlderThan and
	// Keep apply to tables whose settings do not say what to keep; if both are 0, no version of these tables expires.
	OlderThan time.Duration
	// Keep is the number of newest versions that Expire keeps regardless of their age. 0 means 1.
	Keep int
	// Requested restricts Maintain to tables with the setting MaintenanceOn. Maintain then removes no unused files.
	Requested bool `json:",omitempty"`
	// Grace is how long a file must have been unused before Expire removes it, because another process may still read
	// or commit the file. 0 means 24 hours. A negative value means no grace period; in that case, no other process may
	// use the directory.
	Grace time.Duration
}

// Buckets selects buckets by name. If empty, it selects all buckets. The name "" is the default bucket.
type Buckets []string

func (b Buckets) has(name string) bool { return len(b) == 0 || slices.Contains(b, name) }

// MaintainResult counts the changes that Fold, Compact, Expire or Maintain made.
type MaintainResult struct {
	Tables       int   // number of tables changed
	Rows         int64 // number of rows that Fold moved from the tail to files
	FilesBefore  int   // number of files that Compact or Maintain replaced
	FilesAfter   int   // number of files that replaced them
	Versions     int   // number of versions expired
	FilesRemoved int   // number of unused files removed
	BytesRemoved int64 // total size of the unused files removed
	FilesWaiting int   // number of unused files still in their grace period
}

func (r *MaintainResult) add(o MaintainResult) {
	r.Tables += o.Tables
	r.Rows += o.Rows
	r.FilesBefore += o.FilesBefore
	r.FilesAfter += o.FilesAfter
	r.Versions += o.Versions
}

// MaintenanceState describes a table's files and their maintenance by this Store.
type MaintenanceState struct {
	Files         int       `json:"files"`            // number of data files
	SmallFiles    int       `json:"small_files"`      // number of data files below three quarters of their target size
	Versions      int       `json:"versions"`         // number of versions that can be read
	MetadataBytes int64     `json:"metadata_bytes"`   // size of the table's metadata, which each commit rewrites
	UnusedBytes   int64     `json:"unused_bytes"`     // total size of unused files, at the last search for them
	Last          time.Time `json:"last,omitzero"`    // when maintenance last merged files or expired versions
	Next          time.Time `json:"next,omitzero"`    // when the next attempt is due; zero unless the last one failed
	Reason        string    `json:"reason,omitempty"` // why the table needs maintenance but does not get it
}

// MaintenanceSummary describes the maintenance of all tables by this Store.
type MaintenanceSummary struct {
	Last        time.Time // end of the last pass; zero before the first one
	Failing     int       // number of tables whose last maintenance failed
	FailedFolds int       // number of tables whose last background fold failed
	UnusedBytes int64     // total size of unused files, at the last search for them
}

// RewriteResult is the result of DeleteRows, ReplaceRange or Upsert.
type RewriteResult struct {
	Version Version `json:"version"` // the table's newest version after the change
	Deleted int64   `json:"deleted"` // number of rows deleted or replaced
	Written int64   `json:"written"` // number of rows added
	Files   int     `json:"files"`   // number of data files that contained deleted rows

	TimeColumn string `json:"time_column,omitempty"` // the column that the range of ReplaceRange refers to
}

// PartitionResult is the result of Table.Partition.
type PartitionResult struct {
	Partition   Partition `json:"partition"` // the table's periods; for PartitionAuto, the periods chosen from the data
	Why         string    `json:"why"`       // why the table has these periods
	Version     Version   `json:"version"`
	FilesBefore int       `json:"files_before"` // number of files replaced
	FilesAfter  int       `json:"files_after"`  // number of files that replaced them
}

// SnapshotInfo describes a snapshot of a bucket.
type SnapshotInfo struct {
	Bucket   string    `json:"bucket"`
	Name     string    `json:"name"`
	Time     time.Time `json:"time"` // in UTC
	Tables   int       `json:"tables"`
	Metadata Metadata  `json:"metadata"` // the bucket's metadata
}

// CopiedTable is the result of copying one table.
type CopiedTable struct {
	Bucket, Name string
	Unchanged    bool // whether an earlier copy is still up to date
	Rows         int64
	Files        int    // number of data files sent
	Bytes        int64  // size of the sent files
	Checksum     string // set by CopyTo: checksum of the rows, independent of their order, as 32 hexadecimal digits
}

// VerifyOptions configures Verify. Nil or the zero value verifies all tables.
type VerifyOptions struct {
	Buckets Buckets
	Tables  []string // names of tables, which requires exactly one bucket in Buckets; nil selects all tables

	// Repair supplies copies of damaged or missing files. If the size and checksum of a copy match the catalog, the
	// copy replaces the file atomically.
	Repair Copies

	// Report is called for each damaged or unverified file, one call at a time.
	Report func(Finding)
}

// Finding describes a file that is damaged or has no known checksum.
type Finding struct {
	State   FileState `json:"state"`
	Bucket  string    `json:"bucket"`
	Table   string    `json:"table"`
	File    string    `json:"file"` // path
	Problem string    `json:"problem"`
}

// FileState is a file's state in a Finding.
type FileState string

// File states in a Finding.
const (
	Damaged    FileState = "damaged"    // damaged, missing, or inconsistent with the table's metadata
	Repaired   FileState = "repaired"   // damaged, and then repaired
	Unverified FileState = "unverified" // readable, but without a known checksum, because another program wrote it
)

// File is a file whose checksum is in the store's catalog.
type File struct {
	Bucket, Table string
	Location      string // the file's location in Iceberg's metadata
	Size          int64
	XXH3          [16]byte // xxh3-128 of the content, most significant byte first
}

// Copies is a function that opens a copy of the file f. Verify checks and closes the copy. If there is no copy, the
// error wraps fs.ErrNotExist.
type Copies func(ctx context.Context, f File) (io.ReadCloser, error)

// VerifyResult counts the tables and files that Verify checked.
type VerifyResult struct {
	Tables, Files                 int
	Bytes                         int64 // total size of the files that have a checksum
	Damaged, Repaired, Unverified int
}

// Observer is notified of table operations, for metrics and traces. Packages tablesotel and flightd implement it for
// OpenTelemetry and Prometheus. An Observer must be safe for concurrent use, and fast, because operations wait for it.
// It is also notified of operations within other operations, such as the scan in a query or the fold in an update.
type Observer interface {
	// Begin is called when an operation begins. It returns the operation's context, which can hold a span, and a
	// function that is called exactly once, when the operation ends.
	Begin(ctx context.Context, o Operation) (_ context.Context, end func(Outcome))
}

// Operation identifies an operation for an Observer.
type Operation struct {
	// Name is put, scan, changes, query, exec, update (a transaction), rewrite (DeleteRows, ReplaceRange or Upsert),
	// fold, compact, expire or maintain (of one table).
	Name string

	// Bucket and Table are "" if the operation can concern several tables. For query and exec, however, Bucket is the
	// Bucket of QueryOptions or ExecOptions.
	Bucket, Table string
}

// Outcome is the result of an operation.
type Outcome struct {
	Rows     int64         // rows put, read, folded, or changed (exec); for a rewrite, rows deleted plus rows written
	Bytes    int64         // approximate size, in Arrow format, of the rows put or read
	Duration time.Duration // includes the use of the reader that the operation returns, until its release
	Err      error
}
