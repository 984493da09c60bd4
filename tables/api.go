package tables

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// IDAge is how long the id of a put is remembered at least.
const IDAge = 30 * 24 * time.Hour

// Store is a directory of tables.
type Store struct{}

// Open opens a directory, and makes it where it is missing.
func Open(ctx context.Context, dir string, o *Options) (*Store, error) {
	return nil, errors.ErrUnsupported
}

// Close ends what runs in the background. It does not fold.
func (s *Store) Close() error { return errors.ErrUnsupported }

// Bucket returns the bucket of a name. It exists while it has tables; the
// default bucket is "".
func (s *Store) Bucket(name string) *Bucket { return nil }

// Buckets yields the names of the buckets that have tables, sorted.
func (s *Store) Buckets(ctx context.Context) iter.Seq2[string, error] { return nil }

// Query answers SQL; its error wraps errors.ErrUnsupported where the Store has no Engine.
func (s *Store) Query(ctx context.Context, sql string, o *QueryOptions) (array.RecordReader, error) {
	return nil, errors.ErrUnsupported
}

// Update runs f, and commits all that f did to the Txn as one.
func (s *Store) Update(ctx context.Context, f func(*Txn) error) error { return errors.ErrUnsupported }

// Txn is a commit of several tables in the making.
type Txn struct{}

// Put writes rows; see Bucket.Put.
func (t *Txn) Put(bucket, name string, r array.RecordReader, m PutMode, o *PutOptions) error {
	return errors.ErrUnsupported
}

// Delete deletes a table.
func (t *Txn) Delete(bucket, name string) error { return errors.ErrUnsupported }

// SetMetadata sets a table's metadata as a whole.
func (t *Txn) SetMetadata(bucket, name string, m map[string]string) error {
	return errors.ErrUnsupported
}

// MaintainOptions says what Fold, Compact and Expire are about.
type MaintainOptions struct {
	Bucket *string  // nil: all buckets
	Tables []string // nil: all tables

	// TargetSize of a compacted file, in bytes; 0: 128 MiB.
	TargetSize int64

	// OlderThan is the age from which versions expire. The current one never does.
	OlderThan time.Duration
	// Keep is how many versions are kept whatever their age; 0 means 1.
	Keep int
	// Grace is how long a file must have been of no use before it is removed;
	// 0 means 24 hours, below 0 none.
	Grace time.Duration
}

// MaintainResult says what was done.
type MaintainResult struct {
	Tables       int   // that were changed
	Rows         int64 // moved from the tail, or rewritten
	FilesBefore  int   // of those tables, by Compact
	FilesAfter   int
	Versions     int   // expired
	FilesRemoved int   // by Expire
	BytesRemoved int64 // by Expire
	FilesWaiting int   // found useless, and removed by a later Expire once the grace period is over
}

// Fold moves the tail's rows into Parquet.
func (s *Store) Fold(ctx context.Context, o *MaintainOptions) (MaintainResult, error) {
	return MaintainResult{}, errors.ErrUnsupported
}

// Compact makes few large files of many small ones.
func (s *Store) Compact(ctx context.Context, o *MaintainOptions) (MaintainResult, error) {
	return MaintainResult{}, errors.ErrUnsupported
}

// Expire forgets old versions and removes files of no use, those of failed commits among them.
func (s *Store) Expire(ctx context.Context, o *MaintainOptions) (MaintainResult, error) {
	return MaintainResult{}, errors.ErrUnsupported
}

// Bucket is a group of tables.
type Bucket struct{}

// Name returns the bucket's name.
func (b *Bucket) Name() string { return "" }

// Put writes the rows of r to a table and returns the newest version then.
func (b *Bucket) Put(ctx context.Context, name string, r array.RecordReader, m PutMode, o *PutOptions) (Version, error) {
	return 0, errors.ErrUnsupported
}

// Table returns a table as it is, or as it was.
func (b *Bucket) Table(ctx context.Context, name string, at ...At) (*Table, error) {
	return nil, errors.ErrUnsupported
}

// Tables yields the bucket's tables that f selects, sorted by name.
func (b *Bucket) Tables(ctx context.Context, f *Filter) iter.Seq2[TableInfo, error] { return nil }

// Delete deletes tables in one commit: all, or none if one is missing.
func (b *Bucket) Delete(ctx context.Context, names ...string) error { return errors.ErrUnsupported }

// SetMetadata sets a table's metadata as a whole.
func (b *Bucket) SetMetadata(ctx context.Context, name string, m map[string]string) error {
	return errors.ErrUnsupported
}

// Table is a table, or an old version of it. Where no version was chosen, each Scan sees
// what is there when it starts.
type Table struct{}

// Info describes the table.
func (t *Table) Info(ctx context.Context) (TableInfo, error) {
	return TableInfo{}, errors.ErrUnsupported
}

// Schema returns the columns, as they were put.
func (t *Table) Schema(ctx context.Context) (*arrow.Schema, error) { return nil, errors.ErrUnsupported }

// Versions returns the versions that there are, oldest first.
func (t *Table) Versions(ctx context.Context) ([]VersionInfo, error) {
	return nil, errors.ErrUnsupported
}

// Scan reads rows. The caller releases the reader.
func (t *Table) Scan(ctx context.Context, o *ScanOptions) (array.RecordReader, error) {
	return nil, errors.ErrUnsupported
}
