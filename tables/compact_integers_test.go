package tables_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	pqfile "github.com/apache/arrow-go/v18/parquet/file"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// columnTypes returns the physical and logical type of each column of a file.
func columnTypes(t *testing.T, path string) string {
	t.Helper()
	r, err := pqfile.OpenParquetFile(strings.TrimPrefix(path, "file://"), false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close() //nolint:errcheck // it was only read
	var all []string
	for i := range r.MetaData().Schema.NumColumns() {
		c := r.MetaData().Schema.Column(i)
		logical, _, _ := strings.Cut(c.LogicalType().String(), "(")
		all = append(all, c.PhysicalType().String()+" "+logical)
	}
	return strings.Join(all, ", ")
}

// TestPlainIntegers checks that integer columns in Parquet files have no annotations, because Spark cannot read an
// annotated int column that was widened to a long. Compact rewrites files with annotations, but only once.
func TestPlainIntegers(t *testing.T) {
	columns := arrow.NewSchema([]arrow.Field{
		tabletest.Nullable("at", &arrow.TimestampType{Unit: arrow.Microsecond}),
		tabletest.Nullable("i", arrow.PrimitiveTypes.Int32),
		tabletest.Nullable("l", arrow.PrimitiveTypes.Int64),
		tabletest.Nullable("small", arrow.PrimitiveTypes.Uint16),
		tabletest.Nullable("day", arrow.FixedWidthTypes.Date32),
		tabletest.Nullable("all", arrow.ListOf(arrow.PrimitiveTypes.Int32)),
	}, nil)
	const rows = `[{"at": "2026-01-01 00:00:00", "i": -7, "l": 8, "small": 65535, "day": "2026-01-01", "all": [1, null]}, {"at": "2026-01-02 00:00:00"}]`
	for fields, want := range map[int]string{
		5: "INT64 Timestamp, INT32 None, INT64 None, INT32 None, INT32 Date",
		6: "INT64 Timestamp, INT32 None, INT64 None, INT32 None, INT32 Date, INT32 None",
	} {
		for kind, settings := range map[string]*tables.Settings{"unordered": nil, "ordered": {Time: "at"}} {
			t.Run(fmt.Sprint(fields, " ", kind), func(t *testing.T) {
				b := tabletest.BucketWithoutTail(t)
				batch, _, err := array.RecordFromJSON(memory.DefaultAllocator, arrow.NewSchema(columns.Fields()[:fields], nil), strings.NewReader(rows))
				if err != nil {
					t.Fatal(err)
				}
				tabletest.PutRows(t, b, "t", tabletest.OneBatch(batch), tables.PutAppend, &tables.PutOptions{Settings: settings})
				rowsBefore := scanJSON(t, b, "t", nil)
				check := func() {
					t.Helper()
					if types := columnTypes(t, tabletest.FilesOf(t, b, "t")[0]); types != want {
						t.Errorf("the file's column types are %s, want %s", types, want)
					}
					if now := scanJSON(t, b, "t", nil); now != rowsBefore {
						t.Errorf("the rows are %s, want the rows before the compaction, %s", now, rowsBefore)
					}
				}
				check()
				rewriteWithOldEncodings(t, strings.TrimPrefix(tabletest.FilesOf(t, b, "t")[0], "file://"))
				if types := columnTypes(t, tabletest.FilesOf(t, b, "t")[0]); types == want {
					t.Errorf("a file with the old encodings has column types without annotations: %s", types)
				}
				for _, replacedFiles := range []int{1, 0} {
					if r, err := b.Store().Compact(t.Context(), nil); err != nil || r.FilesBefore != replacedFiles || r.FilesAfter != replacedFiles {
						t.Fatalf("Compact = %+v, %v; want FilesBefore and FilesAfter %d", r, err, replacedFiles)
					}
					check()
				}
			})
		}
	}
}
