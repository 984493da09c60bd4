package tables_test

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/state/commit"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
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
			v, err := b.Table("other").View(t.Context(), false)
			if err != nil {
				t.Fatal(err)
			}
			files, err := datafile.Files(t.Context(), v.Table())
			if err != nil {
				t.Fatal(err)
			}
			if c.newFiles != nil {
				files = c.newFiles(files)
			}
			if v, err = b.Table("t").View(t.Context(), false); err != nil {
				t.Fatal(err)
			}
			c.updates = append(c.updates, table.NewSetPropertiesUpdate(iceberg.Properties{table.WriteMetadataPathKey: v.Table().Location() + "/other"}))
			if s := v.Table().CurrentSnapshot(); s != nil {
				c.updates = append(c.updates, table.NewSetSnapshotRefUpdate(table.MainBranch, s.SnapshotID, table.BranchRef, 0, 1e9, 5))
			}
			meta, err := table.UpdateTableMetadata(v.Table().Metadata(), c.updates, "")
			if err != nil {
				t.Fatal(err)
			}
			a := hourOldAttempt(t, b)
			cur := a.Table(meta)
			old, err := datafile.Files(t.Context(), cur)
			if err != nil {
				t.Fatal(err)
			}
			want, err := commit.ReplaceFiles(t.Context(), cur, old, files, nil)
			if err != nil {
				t.Fatal(err)
			}
			got, err := a.ReplaceAll(t.Context(), cur, files)
			if err != nil {
				t.Fatal(err)
			}
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

// hourOldAttempt returns an attempt to change the table t that started an hour ago.
func hourOldAttempt(t *testing.T, b *tables.Bucket) *commit.Attempt {
	t.Helper()
	e, release, err := b.Table("t").Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	change := e.NewChange()
	return &commit.Attempt{Change: &change, IO: b.Store().Catalog().NewIO(), Now: time.Now().Add(-time.Hour)}
}

// TestSnapshotAfterClockChange checks that a snapshot can be added although the clock has been set back since the
// table's metadata changed. Iceberg's library rejects a snapshot that is a minute older than the metadata.
func TestSnapshotAfterClockChange(t *testing.T) {
	t.Parallel()
	b := tabletest.Open(t, t.TempDir(), nil).Bucket("")
	createIceberg(t, b, iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "n", Type: iceberg.PrimitiveTypes.Int64}), nil, 2)
	v, err := b.Table("t").View(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	meta, err := hourOldAttempt(t, b).AddSnapshot(v.Table().Metadata(), 1, &table.Summary{Operation: table.OpDelete}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, least := meta.CurrentSnapshot().TimestampMs, v.Table().Metadata().LastUpdatedMillis(); got < least {
		t.Errorf("the snapshot's timestamp is %d, want at least %d, the metadata's", got, least)
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
	list, err := s.Manifests(a.IO)
	if err != nil {
		t.Fatal(err)
	}
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
			if err != nil {
				t.Fatal(err)
			}
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
