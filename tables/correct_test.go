package tables_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

func deleteWhere(t testing.TB, b *tables.Bucket, name, where string) tables.RewriteResult {
	t.Helper()
	cond, err := filter.Parse(where)
	if err != nil {
		t.Fatal(err)
	}
	result, err := b.Table(name).DeleteRows(t.Context(), cond)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func TestDeleteRows(t *testing.T) {
	b := tabletest.BucketWithoutTail(t)
	for i := range int64(4) {
		tabletest.Put(t, b, "t", tables.PutAppend, tabletest.Sequence(10*i, 10)...)
	}
	before := tabletest.FilesOf(t, b, "t")
	result := deleteWhere(t, b, "t", "n >= 8 and n < 25 or n = 100")
	if result.Deleted != 17 || result.Files != 3 || result.Version != 5 || result.Written != 0 {
		t.Errorf("DeleteRows = %+v, want 17 rows deleted from 3 files, version 5", result)
	}
	tabletest.WantRows(t, b, "t", append(tabletest.Sequence(0, 8), tabletest.Sequence(25, 15)...)...)
	after := tabletest.FilesOf(t, b, "t")
	if len(after) != 3 || !slices.Contains(after, before[3]) {
		t.Errorf("files before: %q, after: %q; want two new files and the last of the old ones", before, after)
	}
	if result := deleteWhere(t, b, "t", "n > 1000 or s = 'row 9'"); result != (tables.RewriteResult{Version: 5}) {
		t.Errorf("DeleteRows without a matching row = %+v, want no change", result)
	}
	if result := deleteWhere(t, b, "t", "n = 3 and s = 'row 4'"); result != (tables.RewriteResult{Version: 5}) { // the files' bounds do not rule out such a row
		t.Errorf("DeleteRows without a matching row = %+v, want no change", result)
	}
	if now := tabletest.FilesOf(t, b, "t"); !slices.Equal(now, after) {
		t.Errorf("files before: %q, after: %q; want no change because no row was deleted", after, now)
	}
	if result := deleteWhere(t, b, "t", "n >= 0"); result.Deleted != 23 {
		t.Errorf("DeleteRows of all rows = %+v, want 23 rows deleted", result)
	}
	tabletest.WantRows(t, b, "t")
	tabletest.Put(t, b, "t", tables.PutAppend, 1)
	tabletest.WantRows(t, b, "t", 1)
}

// TestDeleteRowsInTail checks that DeleteRows deletes rows that are not yet in data files, but no rows that are put later.
func TestDeleteRowsInTail(t *testing.T) {
	b := tabletest.Open(t, t.TempDir(), nil).Bucket("")
	tabletest.Put(t, b, "t", tables.PutAppend, 1, 2, 3)
	tabletest.Put(t, b, "t", tables.PutAppend, 4)
	if result := deleteWhere(t, b, "t", "n = 2 or n = 4"); result.Deleted != 2 {
		t.Errorf("DeleteRows = %+v, want Deleted 2", result)
	}
	tabletest.Put(t, b, "t", tables.PutAppend, 4)
	tabletest.WantRows(t, b, "t", 1, 3, 4)
}

// TestDeleteRowsDropsUnread checks that files whose rows are all deleted are dropped without being read.
func TestDeleteRowsDropsUnread(t *testing.T) {
	b := tabletest.BucketWithoutTail(t)
	for i := range int64(3) {
		tabletest.Put(t, b, "t", tables.PutAppend, tabletest.Sequence(10*i, 10)...)
	}
	var reads atomic.Int64
	countingStore, err := tables.OpenHooked(t.Context(), b.Store().Dir(), &tables.Options{NoTail: true}, tables.Hooks{FS: countingFS{b.Store().HooksInUse().FS, &reads}})
	if err != nil {
		t.Fatal(err)
	}
	defer countingStore.Close()
	if result := deleteWhere(t, countingStore.Bucket("b"), "t", "n < 20"); result.Deleted != 20 || result.Files != 2 {
		t.Errorf("DeleteRows = %+v, want Deleted 20 and Files 2", result)
	}
	if n := reads.Load(); n > 0 {
		t.Errorf("read %d bytes of data files, want 0 because their bounds suffice", n)
	}
	deleteWhere(t, countingStore.Bucket("b"), "t", "n < 22") // a delete that must read, to show that reads are counted
	if reads.Load() == 0 {
		t.Error("reads are not counted")
	}
}

// TestDeleteRowsUnknown checks that rows where the condition is null are kept, even if all other rows in the
// file are deleted.
func TestDeleteRowsUnknown(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "i", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
		{Name: "f", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		{Name: "d", Type: arrow.BinaryTypes.String, Nullable: true},
	}, nil)
	b := tabletest.BucketWithoutTail(t)
	nan := math.NaN()
	ptr := func(f float64) *float64 { return &f }
	values := []*float64{ptr(1), ptr(2), nil, &nan}
	for trial, where := range []string{"f > 0", "f < 10", "not f > 10", "i = 1", "i = 1 and f > 0", "i = 1 or f > 0", "d is null", "d is not null", "f <> 1", "i in (1, 2)", "not (i in (1))", "not (f > 0 and i = 2)"} {
		name := fmt.Sprint("t", trial)
		var all []string
		isKept := map[string]bool{}
		cond, err := filter.Parse(where)
		if err != nil {
			t.Fatal(err)
		}
		// Some files have one value, so their bounds decide the condition; others have several values.
		for _, group := range [][]*float64{values[:1], values[1:2], values[2:3], values[3:], values[:2], {values[0], nil}, {values[0], &nan}, values} {
			rb := array.NewRecordBuilder(memory.DefaultAllocator, schema)
			for _, v := range group {
				if v == nil {
					rb.Field(0).AppendNull()
					rb.Field(1).AppendNull()
					rb.Field(2).AppendNull()
				} else {
					rb.Field(0).(*array.Int32Builder).Append(1)
					rb.Field(1).(*array.Float64Builder).Append(*v)
					rb.Field(2).(*array.StringBuilder).Append(fmt.Sprint(*v))
				}
			}
			batch := rb.NewRecordBatch()
			tabletest.PutRows(t, b, name, tabletest.OneBatch(batch), tables.PutAppend, nil)
			bound, err := cond.Bind(batch.Schema())
			if err != nil {
				t.Fatal(err)
			}
			mask, err := bound.Holds(int(batch.NumRows()), func(name string) arrow.Array { return batch.Column(batch.Schema().FieldIndices(name)[0]) })
			if err != nil {
				t.Fatal(err)
			}
			for i, isDeleted := range mask {
				row := fmt.Sprint(len(all), " ", batch.Column(1).ValueStr(i))
				all = append(all, row)
				isKept[row] = !isDeleted
			}
		}
		var want []string
		for _, row := range all {
			if isKept[row] {
				_, value, _ := strings.Cut(row, " ")
				want = append(want, value)
			}
		}
		result := deleteWhere(t, b, name, where)
		got := tabletest.ColumnTexts(t, b, name, "f")
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) || int(result.Deleted) != len(all)-len(want) {
			t.Errorf("DeleteRows(%s) = %+v; remaining rows are %q, want %q", where, result, got, want)
		}
	}
}
