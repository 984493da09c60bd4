package tables

import (
	"context"
	"strconv"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/files/content"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/state/commit"
	"github.com/go-partd/partd/tables/internal/state/definition"
	"github.com/go-partd/partd/tables/internal/state/series"
	"github.com/go-partd/partd/tables/internal/state/tail"
)

// The tests are in package tables_test. This file gives them access to parts of package tables that it does not export.

type (
	Hooks     = hooks
	TableName = tableName
	CopyJob   = copier
	Entry     = tableWriter
	View      = view
)

const (
	CatalogFile      = catalogFile
	DefaultNamespace = defaultNamespace
	MaxChangedBytes  = maxChangedBytes
	MaxChangedRows   = maxChangedRows
	MaxRewrites      = maxRewrites
	WorkName         = tempSnapshotPrefix
	WriteBatchRows   = writeBatchRows
)

var (
	OpenHooked         = openHooked
	CatalogFingerprint = catalogFingerprint
	CopyStable         = copyStable
	Fold               = foldTable
	NamespaceOf        = namespaceOf
	NewKeySet          = newKeySet
)

func (s *Store) Catalog() *icecat.Catalog { return s.cat }
func (s *Store) Commits() *commit.Tables  { return s.commits }
func (s *Store) Tail() *tail.Store        { return s.tail }
func (s *Store) Opts() *Options           { return &s.opts }
func (s *Store) HooksInUse() *Hooks       { return &s.hooks }

func (s *Store) MaintainEach(ctx context.Context, op string, o *MaintainOptions, f func(context.Context, Entry) (MaintainResult, error)) (MaintainResult, error) {
	return s.keeper.maintain(ctx, op, o, f)
}

func (s *Store) CopyJobTo(ctx context.Context, op string, to *Store, names Buckets, do func(*CopyJob, []string) error) ([]CopiedTable, error) {
	return s.copyTo(ctx, op, to, names, do)
}

func (c *copier) SnapshotName() string { return c.snapshot }

func (b *Bucket) Store() *Store                        { return b.s }
func (b *Bucket) Check(name string) (TableName, error) { return checkTable(b.Name(), name) }

func (t *Table) Acquire(ctx context.Context) (e Entry, release func(), err error) {
	return t.acquire(ctx)
}

func (t *Table) Checksum(ctx context.Context, at At) (*content.RowSum, error) {
	return sumRows(ctx, t.reader(), at)
}

func (t *Table) View(ctx context.Context, withRows bool) (*View, error) {
	return t.reader().view(ctx, withRows)
}

func (t *Table) PinnedView(ctx context.Context) (v *View, release func(), err error) {
	return t.reader().pinnedView(ctx)
}

func (v *view) Table() *table.Table                { return v.t }
func (v *view) Definition() *definition.Definition { return v.def }
func (v *view) Rows() []arrow.RecordBatch          { return v.rows }
func (v *view) Series() *series.Series             { return v.series }
func (v *view) Tail() *commit.Tail                 { return v.tail }

// EncodeRows returns the sorted, encoded rows of a table, which Changes compares since a version.
func (t *Table) EncodeRows(ctx context.Context, since Version, use func(batches.Seq) error) error {
	d, err := t.reader().difference(ctx, AtVersion(since), new(ChangesOptions))
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

// PayingRun returns the start and length of the run that maintenance would merge, of files with the given sizes in
// bytes, or 0, 0. One commit added the files from index commit on. The target size of files is 128 MiB.
func PayingRun(sizes []int64, suffixOnly bool, commit int) (start, n int) {
	var tasks []table.FileScanTask
	for i, size := range sizes {
		b, err := iceberg.NewDataFileBuilder(*iceberg.UnpartitionedSpec, iceberg.EntryContentData, strconv.Itoa(i), iceberg.ParquetFile, nil, nil, nil, 1, size)
		if err != nil {
			panic(err)
		}
		tasks = append(tasks, table.FileScanTask{File: b.Build(), DataSequenceNumber: new(int64(min(i, commit)))})
	}
	run := runLimits{96 << 20, 512 << 20, suffixOnly}.runToMerge(tasks)
	if run == nil {
		return 0, 0
	}
	start, _ = strconv.Atoi(run[0].File.FilePath())
	return start, len(run)
}

// RetryMaintenanceAt sets when a table of the default bucket is maintained again after a failure.
func (s *Store) RetryMaintenanceAt(name string, at time.Time) {
	s.keeper.state(tableName{Namespace: namespaceOf(""), Name: name}).nextAttempt = at
}

// SetClock makes the Store believe that somebody has set the wall clock forward.
func (s *Store) SetClock(ahead time.Duration) {
	s.keeper.openedWall = s.keeper.openedWall.Add(-ahead)
}

// RetryExpiry makes the next pass look for versions of a table of the default bucket to expire.
func (s *Store) RetryExpiry(name string) {
	s.keeper.state(tableName{Namespace: namespaceOf(""), Name: name}).idleState = ""
}

// PostponedSince sets since when engines have postponed the compaction of a table of the default bucket.
func (s *Store) PostponedSince(name string, at time.Time) {
	s.keeper.state(tableName{Namespace: namespaceOf(""), Name: name}).waitingSince = at
}

func LoadIceberg(ctx context.Context, t *Table) (*table.Table, error) { return t.loadIceberg(ctx, nil) }
