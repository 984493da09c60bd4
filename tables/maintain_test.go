package tables_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestTooManyColumns checks that a table cannot get more columns than a fold can write, and that a table with almost as
// many can be folded. Long names make the limit low.
func TestTooManyColumns(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{Tail: partd.NewDict(), FoldAge: -1})
	wide := func(n int) array.RecordReader {
		fields := make([]arrow.Field, n)
		for i := range fields {
			fields[i] = arrow.Field{Name: fmt.Sprintf("%s%d", strings.Repeat("x", 10_000), i), Type: arrow.PrimitiveTypes.Int8, Nullable: true}
		}
		b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema(fields, nil))
		for _, f := range b.Fields() {
			f.AppendEmptyValue()
		}
		return tabletest.OneBatch(b.NewRecordBatch())
	}
	for _, mode := range []tables.PutMode{tables.PutAppend, tables.PutReplace, tables.PutError} {
		_, err := s.Bucket("").Table("t").Put(t.Context(), wide(100), mode, nil)
		if !errors.As(err, new(*tables.ArgumentError)) || !strings.Contains(err.Error(), "the 100 columns are too many") {
			t.Errorf("put with mode %v of 100 columns with long names: error %v, want an ArgumentError", mode, err)
		}
	}
	b := s.Bucket("")
	tabletest.PutRows(t, b, "t", wide(95), tables.PutAppend, nil)
	var changes []tables.ColumnChange
	for i := range 4 {
		changes = append(changes, tables.ColumnChange{Op: tables.AddColumn, Column: fmt.Sprintf("%s%d", strings.Repeat("y", 10_000), i), Type: "int64"})
	}
	if err := b.Table("t").Evolve(t.Context(), changes...); !errors.As(err, new(*tables.ArgumentError)) {
		t.Errorf("4 more columns: error %v, want an ArgumentError", err)
	}
	if r, err := s.Fold(t.Context(), nil); r.Rows != 1 || err != nil {
		t.Errorf("Fold = %d rows, error %v; want 1 row", r.Rows, err)
	}
}

// TestUnfoldableTable checks that a table that cannot be folded, which an earlier version can have left, hinders neither
// other tables nor Close.
func TestUnfoldableTable(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{Tail: partd.NewDict(), FoldAge: -1})
	for _, bucket := range []string{"a", "b"} {
		for _, name := range []string{"bad", "good"} {
			if bucket == "b" && name == "bad" {
				continue
			}
			tabletest.Put(t, s.Bucket(bucket), name, tables.PutAppend, 1)
		}
	}
	tabletest.Fold(t, s)
	cur, err := s.Catalog().Load(t.Context(), tables.NamespaceOf("a"), "bad")
	if err != nil {
		t.Fatal(err)
	}
	meta, err := table.UpdateTableMetadata(cur.Metadata(), []table.Update{table.NewSetPropertiesUpdate(iceberg.Properties{table.DefaultWriteMetricsModeKey: "x"})}, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Catalog().Commit(t.Context(), nil, &icecat.Change{Namespace: tables.NamespaceOf("a"), Name: "bad", Base: cur, New: meta, IOs: []*icecat.FileIO{s.Catalog().NewIO()}}); err != nil {
		t.Fatal(err)
	}
	tabletest.Put(t, s.Bucket("a"), "bad", tables.PutAppend, 2)
	tabletest.Put(t, s.Bucket("a"), "good", tables.PutAppend, 2)
	tabletest.Put(t, s.Bucket("b"), "good", tables.PutAppend, 2)
	if r, err := s.Fold(t.Context(), nil); r.Rows != 2 || err == nil || !strings.Contains(err.Error(), `fold "bad" in bucket "a"`) {
		t.Errorf("Fold = %d rows, error %v; want 2 rows, and an error about the table bad", r.Rows, err)
	}
	if _, err := s.Bucket("b").Snapshot(t.Context(), "s"); err != nil {
		t.Errorf("a snapshot of the other bucket: %v", err)
	}
	if _, err := s.Bucket("a").Snapshot(t.Context(), "s"); err == nil || !strings.Contains(err.Error(), `"bad"`) {
		t.Errorf("a snapshot of the table's bucket: error %v, want one that names the table", err)
	}
	tabletest.WantRows(t, s.Bucket("a"), "bad", 1, 2)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestFoldFreesTailSpace(t *testing.T) {
	for _, background := range []bool{false, true} {
		t.Run(fmt.Sprintf("background=%t", background), func(t *testing.T) { foldFreesTailSpace(t, background) })
	}
}

func foldFreesTailSpace(t *testing.T, background bool) {
	dir := t.TempDir()
	s := tabletest.Open(t, dir, &tables.Options{FoldAge: -1})
	tailSize := func() (sum int64) {
		t.Helper()
		err := fs.WalkDir(os.DirFS(filepath.Join(dir, "tail")), ".", func(_ string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				info, err := d.Info()
				sum += info.Size()
				return err
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	row := 0
	for range 5 {
		rows := make([]tick, 40_000)
		for i := range rows {
			rows[i], row = tick{int64(row), "a", int64(row * 7919), 0}, row+1
		}
		tabletest.PutRows(t, s.Bucket("b"), "t", ticksOf(rows, len(rows)), tables.PutAppend, nil)
	}
	if n := tailSize(); n < 5<<20 {
		t.Fatalf("before the fold, the tail has %d bytes, want at least 5 MiB for this test", n)
	}
	if background {
		if _, err := s.MaintainEach(t.Context(), "fold", nil, tables.Fold); err != nil { // like a fold in the background, which does not free space
			t.Fatal(err)
		}
	}
	tabletest.Fold(t, s)
	if n := tailSize(); n > 3<<20 { // the two write-ahead files have 1 MiB each
		t.Errorf("after the fold, the tail has %d bytes, want at most 3 MiB", n)
	}
}
