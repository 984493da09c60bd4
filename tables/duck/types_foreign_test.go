//go:build cgo

package duck_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/schema"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
)

// scanText returns the first column of a table as text.
func scanText(t *testing.T, s *tables.Store, bucket, name string) (string, error) {
	t.Helper()
	r, err := s.Bucket(bucket).Table(name).Scan(t.Context(), nil)
	if err != nil {
		return "", err
	}
	defer r.Release()
	text := ""
	for r.Next() {
		for i := range int(r.RecordBatch().NumRows()) {
			text += r.RecordBatch().Column(0).ValueStr(i) + ";"
		}
	}
	return text, r.Err()
}

// truncateFile opens the only Parquet file of a store, so that a test can write other contents.
func truncateFile(t *testing.T, s *tables.Store) *os.File {
	t.Helper()
	path := ""
	must.Do(t, filepath.WalkDir(s.Dir(), func(name string, _ fs.DirEntry, err error) error {
		if filepath.Ext(name) == ".parquet" {
			path = name
		}
		return err
	}))
	return must.Get(os.Create(path))(t)
}

// TestTextsThatAreNotUTF8 checks that statements fail if a file contains a text that is not UTF-8, with DuckDB and
// without it.
func TestTextsThatAreNotUTF8(t *testing.T) {
	s := newStore(t, nil)
	columns := arrow.NewSchema([]arrow.Field{nullable("v", arrow.BinaryTypes.String)}, nil)
	put(t, s, "b", "t", jsonBatch(t, columns, `{"v":"a"}`))
	fold(t, s)
	for range 2 {
		expect(t, s, "SELECT v FROM b.t", nil, "a")
	}
	w := file.NewParquetWriter(truncateFile(t, s), schema.MustGroup(schema.NewGroupNode("root", parquet.Repetitions.Required, schema.FieldList{
		schema.MustPrimitive(schema.NewPrimitiveNodeLogical("v", parquet.Repetitions.Required, schema.StringLogicalType{}, parquet.Types.ByteArray, 0, 1)),
	}, -1)))
	group := must.Get(w.AppendRowGroupChecked())(t)
	column, err := group.NextColumn()
	must.Do(t, err)
	_, err = column.(*file.ByteArrayColumnChunkWriter).WriteBatch([]parquet.ByteArray{[]byte("\xff")}, nil, nil)
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{"SELECT v FROM b.t", "SELECT v FROM b.t WHERE true"} {
		if got, err := rows(t, s, sql, nil); err == nil || !strings.Contains(strings.ToLower(err.Error()), "utf") {
			t.Errorf("%s = %q, error %v; want an error about UTF-8", sql, got, err)
		}
	}
}

// TestOldListsInFiles checks that lists are read correctly if a file of a table uses Parquet's old list format, which
// has two levels per list. The file has Iceberg's IDs or not.
func TestOldListsInFiles(t *testing.T) {
	for _, ids := range []int32{0, -10} {
		s := newStore(t, nil)
		columns := arrow.NewSchema([]arrow.Field{{Name: "v", Type: arrow.ListOf(arrow.ListOf(arrow.PrimitiveTypes.Int32)), Nullable: true}}, nil)
		put(t, s, "b", "t", jsonBatch(t, columns, `{"v":[[9]]}`))
		fold(t, s)
		f := truncateFile(t, s)
		inner := schema.MustGroup(schema.NewGroupNodeLogical("array", parquet.Repetitions.Repeated, schema.FieldList{schema.NewInt32Node("array", parquet.Repetitions.Repeated, ids+3)}, schema.NewListLogicalType(), ids+2))
		outer := schema.MustGroup(schema.NewGroupNodeLogical("v", parquet.Repetitions.Optional, schema.FieldList{inner}, schema.NewListLogicalType(), ids+1))
		w := file.NewParquetWriter(f, schema.MustGroup(schema.NewGroupNode("root", parquet.Repetitions.Required, schema.FieldList{outer}, -1)))
		group := must.Get(w.AppendRowGroupChecked())(t)
		column, err := group.NextColumn()
		must.Do(t, err)
		_, err = column.(*file.Int32ColumnChunkWriter).WriteBatch([]int32{1, 2, 3, 4}, []int16{3, 3, 3, 3}, []int16{0, 2, 1, 2})
		if err = errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		if got, err := scanText(t, s, "b", "t"); err != nil || got != "[[1,2],[3,4]];" {
			t.Errorf("with IDs from %d: scan = %s, error %v; want [[1,2],[3,4]]", ids, got, err)
		}
		expect(t, s, "SELECT v FROM b.t", nil, "[[1,2],[3,4]]") // DuckDB itself would read nulls from the file
		change(t, s, "INSERT INTO t VALUES ([[5]]), ([[6]])", 2)
		change(t, s, "UPDATE t SET v = [[7]] WHERE v = [[5]]", 1)
		change(t, s, "DELETE FROM t WHERE v = [[1, 2], [3, 4]]", 1)
		expect(t, s, "SELECT v FROM b.t ORDER BY v", nil, "[[6]]", "[[7]]")
	}
}
