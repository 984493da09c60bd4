package tables_test

import (
	"strings"
	"testing"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// TestLongValues checks that a condition finds the rows of a file whose greatest string is too long for the statistics in the
// file's footer, and that the manifest has no wrong upper bound.
func TestLongValues(t *testing.T) {
	b := bucketWithoutTail(t)
	long := strings.Repeat("k", 1<<13)
	texts := array.NewStringBuilder(memory.DefaultAllocator)
	texts.AppendValues([]string{long, "7", ""}, nil)
	columns := arrow.NewSchema([]arrow.Field{nullable("s", arrow.BinaryTypes.String)}, nil)
	if _, err := b.Table("t").Put(t.Context(), tabletest.OneBatch(array.NewRecordBatch(columns, []arrow.Array{texts.NewArray()}, 3)), tables.PutAppend, nil); err != nil {
		t.Fatal(err)
	}
	v, err := b.Table("t").View(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	tasks, err := v.Table().Scan().PlanFiles(t.Context())
	if err != nil || len(tasks) != 1 {
		t.Fatalf("PlanFiles returned %d files, %v; want one", len(tasks), err)
	}
	if upper := tasks[0].File.UpperBoundValues(); upper[1] != nil && string(upper[1]) < long {
		t.Errorf("the manifest has the upper bound %q, but the file has a greater value", upper[1])
	}
	for _, text := range []string{long, "7", ""} {
		result, err := b.Table("t").DeleteRows(t.Context(), tabletest.ParseFilter(t, "s = '"+text+"'"))
		if err != nil || result.Deleted != 1 {
			t.Errorf("deleting the row with s = %.10q: %+v, %v; want Deleted 1", text, result, err)
		}
	}
}
