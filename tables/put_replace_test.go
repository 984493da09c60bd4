package tables_test

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/state/commit"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
	"github.com/go-partd/partd/tables/tablestest"
)

// TestReplaceAll checks that ReplaceAll results in the same version as ReplaceFiles, which uses Iceberg's library, but
// with a single manifest. It must leave some tables to the library.
func TestReplaceAll(t *testing.T) {
	t.Parallel()
	columns := iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "n", Type: iceberg.PrimitiveTypes.Int64}, iceberg.NestedField{ID: 2, Name: "s", Type: iceberg.PrimitiveTypes.String})
	partitioned := partitionedByN(0)
	evolved := partitionedByN(1)
	for name, c := range map[string]struct {
		format    int
		spec      iceberg.PartitionSpec
		change    func(t *testing.T, b *tables.Bucket)
		updates   []table.Update
		newFiles  func([]iceberg.DataFile) []iceberg.DataFile
		manifests int // of the version after the replacement
	}{
		"version 2":           {format: 2, manifests: 1},
		"version 3":           {format: 3, manifests: 1},
		"no new files":        {format: 2, newFiles: func([]iceberg.DataFile) []iceberg.DataFile { return nil }, manifests: 1},
		"after a replacement": {format: 2, change: func(t *testing.T, b *tables.Bucket) { tabletest.Put(t, b, "t", tables.PutReplace, 9) }, manifests: 1},
		"no version":          {format: 2, manifests: 1},
		"version 1":           {format: 1, manifests: 2},
		"empty table":         {format: 2, change: func(t *testing.T, b *tables.Bucket) { tabletest.Put(t, b, "t", tables.PutReplace) }, manifests: 2},
		"deleted rows":        {format: 2, change: func(t *testing.T, b *tables.Bucket) { deleteByKey(t, b.Store(), "n", 2) }, manifests: 3},
		"partitioned table":   {format: 2, spec: partitioned, newFiles: inPartition(0), manifests: 2},
		"old files with partitions": {
			format: 2, spec: partitioned, updates: []table.Update{table.NewAddPartitionSpecUpdate(iceberg.UnpartitionedSpec, false), table.NewSetDefaultSpecUpdate(-1)},
			newFiles: func([]iceberg.DataFile) []iceberg.DataFile { return nil }, manifests: 1,
		},
		"new files with partitions": {format: 2, updates: []table.Update{table.NewAddPartitionSpecUpdate(&evolved, false)}, newFiles: inPartition(1), manifests: 2},
		"many old files": {format: 2, manifests: 2, change: func(t *testing.T, b *tables.Bucket) {
			for range 100 {
				tabletest.Put(t, b, "t", tables.PutAppend, 8)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			b := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true}).Bucket("")
			createIceberg(t, b, columns, &c.spec, c.format)
			if name != "no version" {
				tabletest.Put(t, b, "t", tables.PutAppend, 1, 2)
				tabletest.Put(t, b, "t", tables.PutAppend, 3)
			}
			if c.change != nil {
				c.change(t, b)
			}
			tabletest.Put(t, b, "other", tables.PutAppend, 4, 5, 6, 7)
			v := must.Get(b.Table("other").View(t.Context(), false))(t)
			files := must.Get(datafile.Files(t.Context(), v.Table()))(t)
			if c.newFiles != nil {
				files = c.newFiles(files)
			}
			v = must.Get(b.Table("t").View(t.Context(), false))(t)
			c.updates = append(c.updates, table.NewSetPropertiesUpdate(iceberg.Properties{table.WriteMetadataPathKey: v.Table().Location() + "/other"}))
			if s := v.Table().CurrentSnapshot(); s != nil {
				c.updates = append(c.updates, table.NewSetSnapshotRefUpdate(table.MainBranch, s.SnapshotID, table.BranchRef, 0, 1e9, 5))
			}
			meta := must.Get(table.UpdateTableMetadata(v.Table().Metadata(), c.updates, ""))(t)
			a := hourOldAttempt(t, b)
			cur := a.Table(meta)
			old := must.Get(datafile.Files(t.Context(), cur))(t)
			want := must.Get(commit.ReplaceFiles(t.Context(), cur, old, files, nil))(t)
			got := must.Get(a.ReplaceAll(t.Context(), cur, files))(t)
			wantText, _ := describeVersion(t, a, cur.Metadata(), want)
			gotText, manifests := describeVersion(t, a, cur.Metadata(), got)
			if gotText != wantText {
				t.Errorf("ReplaceAll results in\n%s\nbut ReplaceFiles results in\n%s", gotText, wantText)
			}
			if manifests != c.manifests {
				t.Errorf("the version has %d manifests, want %d", manifests, c.manifests)
			}
		})
	}
}

func partitionedByN(specID int) iceberg.PartitionSpec {
	return iceberg.NewPartitionSpecID(specID, iceberg.PartitionField{SourceIDs: []int{1}, FieldID: 1000, Name: "n", Transform: iceberg.IdentityTransform{}})
}

// inPartition returns a function that moves files to a partition.
func inPartition(specID int) func([]iceberg.DataFile) []iceberg.DataFile {
	return func(files []iceberg.DataFile) (moved []iceberg.DataFile) {
		for _, f := range files {
			b, err := iceberg.NewDataFileBuilder(partitionedByN(specID), f.ContentType(), f.FilePath(), f.FileFormat(), map[int]any{1000: int64(4)}, nil, nil, f.Count(), f.FileSizeBytes())
			if err != nil {
				panic(err)
			}
			moved = append(moved, b.Build())
		}
		return moved
	}
}

// describeVersion describes a table's newest version, and how its metadata differs from the metadata before. It also
// returns the number of manifests.
func describeVersion(t *testing.T, a *commit.Attempt, before, meta table.Metadata) (text string, manifests int) {
	t.Helper()
	s := meta.CurrentSnapshot()
	lines := []string{}
	list := must.Get(s.Manifests(a.IO))(t)
	number := func(n *int64) int64 {
		if n == nil {
			return -1
		}
		return *n
	}
	directories := map[string]bool{path.Dir(s.ManifestList): true}
	minSequence := int64(0) // the largest minimum of all manifests
	for _, m := range list {
		directories[path.Dir(m.FilePath())] = true
		minSequence = max(minSequence, m.MinSequenceNum())
		for e, err := range m.Entries(a.IO, false) {
			must.Do(t, err)
			f := e.DataFile()
			lines = append(lines, fmt.Sprint(m.ManifestContent(), m.SequenceNum(), " ", e.Status(), e.SnapshotID() == s.SnapshotID, e.SequenceNum(), number(e.FileSequenceNum()), " ",
				f.FilePath(), f.SpecID(), f.Partition(), number(f.FirstRowID()), f.Count(), f.LowerBoundValues(), f.UpperBoundValues(), f.NullValueCounts()))
		}
	}
	slices.Sort(lines)
	var properties []string
	for _, k := range slices.Sorted(maps.Keys(s.Summary.Properties)) {
		properties = append(properties, k+"="+s.Summary.Properties[k])
	}
	previous := cmp.Or(before.CurrentSnapshot(), &table.Snapshot{SnapshotID: -1})
	lines = append(lines,
		fmt.Sprint(s.Summary.Operation, properties, " in ", directories),
		fmt.Sprint("sequence ", s.SequenceNumber, " schema ", *s.SchemaID, " row IDs ", number(s.FirstRowID), "+", number(s.AddedRows), " minimum ", minSequence),
		fmt.Sprint("parent ", number(s.ParentSnapshotID) == previous.SnapshotID, " of ", len(meta.Snapshots()), " not earlier ", s.TimestampMs >= previous.TimestampMs),
		fmt.Sprint("last sequence ", meta.LastSequenceNumber(), " next row ", meta.NextRowID(), " properties ", reflect.DeepEqual(before.Properties(), meta.Properties())))
	for name, ref := range meta.Refs() {
		lines = append(lines, fmt.Sprint("ref ", name, ref.SnapshotID == s.SnapshotID, ref.SnapshotRefType, number(ref.MaxRefAgeMs), number(ref.MaxSnapshotAgeMs), ref.MinSnapshotsToKeep != nil))
	}
	return strings.Join(lines, "\n"), len(list)
}

// readers maps kinds of readers to functions that create such a reader of the given numbers. After the end, some
// readers keep their last batch, and others have no batch, as before the first Next.
var readers = map[string]func(t *testing.T, b *tables.Bucket, ns ...int64) array.RecordReader{
	"slice": func(_ *testing.T, _ *tables.Bucket, ns ...int64) array.RecordReader { return tabletest.Rows(ns...) },
	"ipc": func(t *testing.T, _ *tables.Bucket, ns ...int64) array.RecordReader {
		var stream bytes.Buffer
		w, r := ipc.NewWriter(&stream, ipc.WithSchema(tabletest.Numbers)), tabletest.Rows(ns...)
		for r.Next() {
			must.Do(t, w.Write(r.RecordBatch()))
		}
		must.Do(t, w.Close())
		return must.Get(ipc.NewReader(&stream, ipc.WithAllocator(memory.DefaultAllocator)))(t)
	},
	"iter": func(_ *testing.T, _ *tables.Bucket, ns ...int64) array.RecordReader {
		r := tabletest.Rows(ns...)
		return array.ReaderFromIter(tabletest.Numbers, func(yield func(arrow.RecordBatch, error) bool) {
			for r.Next() {
				r.RecordBatch().Retain()
				if !yield(r.RecordBatch(), nil) {
					return
				}
			}
		})
	},
	"structs": func(t *testing.T, _ *tables.Bucket, ns ...int64) array.RecordReader {
		type row struct {
			N int64 `arrow:"n"`
		}
		rows := make([]row, len(ns))
		for i, n := range ns {
			rows[i].N = n
		}
		return must.Get(tables.Records(rows))(t)
	},
	"scan": func(t *testing.T, b *tables.Bucket, ns ...int64) array.RecordReader {
		tabletest.PutRows(t, b, "source", tabletest.Rows(ns...), tables.PutReplace, nil)
		return must.Get(b.Table("source").Scan(t.Context(), nil))(t)
	},
}

// TestPutDrainedReader checks that Put returns an error for a reader that another Put has already read, whatever the
// kind of reader, even with an Observer, and even if the first Put wrote files batch by batch.
func TestPutDrainedReader(t *testing.T) {
	for name, o := range map[string]*tables.Options{"tail": nil, "files": {FoldBytes: 1}, "observed": {Observer: &recordingObserver{}}} {
		b := tabletest.Open(t, t.TempDir(), o).Bucket("b")
		for kind, reader := range readers {
			t.Run(name+"/"+kind, func(t *testing.T) {
				r := reader(t, b, 1, 2)
				defer r.Release()
				tabletest.PutRows(t, b, kind, r, tables.PutAppend, nil)
				for name, put := range map[string]func() error{
					"append":  func() error { _, err := b.Table(kind).Put(t.Context(), r, tables.PutAppend, nil); return err },
					"replace": func() error { _, err := b.Table(kind).Put(t.Context(), r, tables.PutReplace, nil); return err },
					"upsert": func() error {
						return must.Err(b.Table(kind).Upsert(t.Context(), r, &tables.UpsertOptions{Keys: []string{"n"}}))
					},
					"nil reader":             func() error { _, err := b.Table(kind).Put(t.Context(), nil, tables.PutAppend, nil); return err },
					"upsert of a nil reader": func() error { _, err := b.Table(kind).Upsert(t.Context(), nil, nil); return err },
					"update": func() error {
						return b.Store().Update(t.Context(), func(x *tables.Txn) error { return x.Put("b", kind, r, tables.PutReplace, nil) })
					},
					"update with a nil reader": func() error {
						return b.Store().Update(t.Context(), func(x *tables.Txn) error { return x.Put("b", kind, nil, tables.PutReplace, nil) })
					},
				} {
					must.Fail(t, put(), "the reader", "%s", name)
				}
				tabletest.WantRows(t, b, kind, 1, 2)
			})
		}
	}
}

// TestReaderTwiceInUpdate checks that a reader can be put only once within one Update.
func TestReaderTwiceInUpdate(t *testing.T) {
	b := tabletest.Open(t, t.TempDir(), nil).Bucket("b")
	for kind, reader := range readers {
		r := reader(t, b, 1, 2)
		err := b.Store().Update(t.Context(), func(x *tables.Txn) error {
			if err := x.Put("b", kind, r, tables.PutError, nil); err != nil {
				t.Errorf("%v: first Put: %v", kind, err)
			}
			return x.Put("b", kind+" again", r, tables.PutError, nil)
		})
		must.Fail(t, err, "the reader", "%s: the second put", kind)
		r.Release()
	}
}

// TestReaderWithoutRows checks that a reader without rows can be put repeatedly, because no rows are lost.
func TestReaderWithoutRows(t *testing.T) {
	b := tabletest.Open(t, t.TempDir(), nil).Bucket("b")
	for kind, reader := range readers {
		r := reader(t, b)
		for range 3 {
			if _, err := b.Table(kind).Put(t.Context(), r, tables.PutAppend, nil); err != nil {
				t.Errorf("%s: put of a reader without rows: %v", kind, err)
			}
		}
		r.Release()
	}
}

// customReader is a reader whose RecordBatch panics before the first Next, and returns the last batch after the end.
type customReader struct {
	array.RecordReader
	batches []arrow.RecordBatch
	next    int
}

func (s *customReader) Next() bool {
	if s.next == len(s.batches) {
		return false
	}
	s.next++
	return true
}

func (s *customReader) RecordBatch() arrow.RecordBatch { return s.batches[s.next-1] }

// TestCustomReader checks that Put does not ask a custom reader for a batch before its first Next, and does not put
// a batch again that the reader returns after its end. Like a queue, the reader can have more rows later.
func TestCustomReader(t *testing.T) {
	type row struct {
		N int64 `arrow:"n"`
	}
	rows := must.Get(tables.Records([]row{{1}}))(t)
	b, custom := tablestest.Open(t, nil).Bucket("b"), &customReader{RecordReader: rows}
	put := func() {
		t.Helper()
		must.Get(b.Table("own").Put(t.Context(), custom, tables.PutAppend, nil))(t)
	}
	put()
	rows.Next()
	custom.batches = []arrow.RecordBatch{rows.RecordBatch()}
	put()
	put()
	more := must.Get(tables.Records([]row{{2}}))(t)
	more.Next()
	custom.batches = append(custom.batches, more.RecordBatch())
	put()
	tablestest.Expect(t, b, "own", `[{"n":1},{"n":2}]`)
}
