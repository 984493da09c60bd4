package tables

import (
	"context"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/files/content"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/sorted"
	"github.com/go-partd/partd/tables/internal/state/commit"
	"github.com/go-partd/partd/tables/internal/state/definition"
	"github.com/go-partd/partd/tables/internal/state/series"
	"github.com/go-partd/partd/tables/internal/state/tail"
)

// The tests are in package tables_test. This file gives them access to parts of package tables that it does not export.

type (
	Hooks     = hooks
	TableName = tableName
	CopyJob   = copyJob
	Entry     = entry
	View      = view
)

const (
	CatalogFile      = catalogFile
	DefaultNamespace = defaultNamespace
	MaxChangedBytes  = maxChangedBytes
	MaxChangedRows   = maxChangedRows
	MaxRewrites      = maxRewrites
	WorkName         = workName
	WriteBatchRows   = writeBatchRows
)

var (
	OpenHooked         = open
	CatalogFingerprint = catalogFingerprint
	CopyStable         = copyStable
	Fold               = fold
	NamespaceOf        = namespaceOf
	NewKeySet          = newKeySet
)

func (s *Store) Catalog() *icecat.Catalog { return s.cat }
func (s *Store) Commits() *commit.Tables  { return s.commits }
func (s *Store) Tail() *tail.Store        { return s.tail }
func (s *Store) Opts() *Options           { return &s.opts }
func (s *Store) HooksInUse() *Hooks       { return &s.hooks }

func (s *Store) Maintain(ctx context.Context, op string, o *MaintainOptions, f func(context.Context, Entry) (MaintainResult, error)) (MaintainResult, error) {
	return s.maintain(ctx, op, o, f)
}

func (s *Store) CopyJobTo(ctx context.Context, op string, to *Store, names Buckets, do func(*CopyJob, []*Bucket) error) ([]CopiedTable, error) {
	return s.copyTo(ctx, op, to, names, do)
}

func (c *copyJob) SnapshotName() string { return c.snapshot }

func (b *Bucket) Store() *Store                        { return b.s }
func (b *Bucket) Check(name string) (TableName, error) { return b.check(name) }

func (t *Table) Acquire() (e Entry, release func(), err error) { return t.acquire() }

func (t *Table) Checksum(ctx context.Context, at At) (*content.RowSum, error) {
	return t.checksum(ctx, at)
}

func (t *Table) View(ctx context.Context, withRows bool) (*View, error) { return t.view(ctx, withRows) }

func (t *Table) PinnedView(ctx context.Context) (v *View, release func(), err error) {
	return t.pinnedView(ctx)
}

func (v *view) Table() *table.Table                { return v.t }
func (v *view) Definition() *definition.Definition { return v.def }
func (v *view) Rows() []arrow.RecordBatch          { return v.rows }
func (v *view) Series() *series.Series             { return v.series }
func (v *view) Tail() *commit.Tail                 { return v.tail }

// EncodeRows returns the sorted, encoded rows of a table, which Changes compares since a version.
func (t *Table) EncodeRows(ctx context.Context, since Version, use func(sorted.Batches) error) error {
	d, err := t.difference(ctx, AtVersion(since), new(ChangesOptions))
	if err != nil {
		return err
	}
	defer d.release()
	return use(d.encode(t.Batches(ctx, nil), true))
}

func (o *Options) Begin(ctx context.Context, name, bucket, table string) (context.Context, func(Outcome)) {
	return o.begin(ctx, name, bucket, table)
}

func (s *keySet) Find(hash uint64, key []byte) int64     { return s.find(hash, key) }
func (s *keySet) Insert(hash uint64, record []byte) bool { return s.insert(hash, record) }
