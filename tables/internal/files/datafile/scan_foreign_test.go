package datafile

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/parquet"
	pqfile "github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	pqschema "github.com/apache/arrow-go/v18/parquet/schema"
	iceio "github.com/apache/iceberg-go/io"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/rows/take"
)

var foreignColumns = []Column{
	foreignColumn(1, "n", arrow.PrimitiveTypes.Int64), foreignColumn(2, "i", arrow.PrimitiveTypes.Int64),
	foreignColumn(3, "f", arrow.PrimitiveTypes.Float64), foreignColumn(4, "g", arrow.PrimitiveTypes.Float64),
	foreignColumn(5, "t", arrow.BinaryTypes.String), foreignColumn(6, "s", arrow.BinaryTypes.String), foreignColumn(7, "b", arrow.BinaryTypes.Binary),
	foreignColumn(8, "d", arrow.FixedWidthTypes.Date32), foreignColumn(9, "at", &arrow.TimestampType{Unit: arrow.Microsecond}),
}

func foreignColumn(id int, name string, t arrow.DataType) Column {
	return column(id, name, t, t)
}

func randomTerm(r *rand.Rand, rows arrow.RecordBatch) string {
	column := r.IntN(int(rows.NumCols()))
	name, a, row := rows.ColumnName(column), rows.Column(column), r.IntN(int(rows.NumRows()))
	text := a.ValueStr(row)
	switch b := a.(type) {
	case *array.Binary:
		text = "'" + string(b.Value(row)) + "'"
		if !b.IsValid(row) || strings.ToValidUTF8(text, "") != text {
			text = "'a'"
		}
	case *array.String, *array.Date32, *array.Timestamp:
		text = "'" + text + "'"
	}
	number := arrow.IsInteger(a.DataType().ID()) || arrow.IsFloating(a.DataType().ID())
	if _, err := strconv.ParseFloat(text, 64); a.IsNull(row) || number && (err != nil || strings.ContainsAny(text, "IN")) {
		return name + []string{" is null", " is not null"}[r.IntN(2)]
	}
	if a.DataType().ID() == arrow.STRING && r.IntN(4) == 0 {
		return name + " like '" + text[1:1+r.IntN(len(text)-1)] + "%'"
	}
	return fmt.Sprint(name, " ", []string{"=", "!=", "<", "<=", ">", ">="}[r.IntN(6)], " ", text)
}

// TestForeignFiles checks that conditions select the right rows from files of other programs, which may
// truncate the bounds in the page index.
func TestForeignFiles(t *testing.T) {
	python := procs.Python(t, "pytables")
	seeds := 1
	if n, err := strconv.Atoi(os.Getenv("PARTD_DIFF_SECONDS")); err == nil {
		seeds = max(1, n/60)
	}
	for seed := range seeds {
		dir := t.TempDir()
		if out, err := exec.CommandContext(t.Context(), python, filepath.Join("testdata", "strangers.py"), dir, fmt.Sprint(seed)).CombinedOutput(); err != nil {
			t.Fatalf("strangers.py failed: %v\n%s", err, out)
		}
		files, err := filepath.Glob(filepath.Join(dir, "*.parquet"))
		if err != nil || len(files) < 10 {
			t.Fatalf("got files %q, %v, want at least ten", files, err)
		}
		r := rand.New(rand.NewPCG(35, uint64(seed)))
		for _, path := range files {
			if err := checkForeignFile(t, r, path); err != nil {
				t.Errorf("seed %d, %s: %v", seed, filepath.Base(path), err)
			}
		}
	}
}

func checkForeignFile(t *testing.T, r *rand.Rand, path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	read := func(s *Scan) (arrow.RecordBatch, error) {
		s.Open = func(string) (parquet.ReaderAtSeeker, error) { return bytes.NewReader(content), nil }
		all := []arrow.RecordBatch{array.NewRecordBatch(s.Schema(), emptyColumns(s.Schema()), 0)}
		for b, err := range s.Read(t.Context(), []File{{Path: "a file"}}) {
			if err != nil {
				return nil, err
			}
			all = append(all, b)
		}
		return take.Concat(all)
	}
	allRows, err := read(&Scan{Rows: BatchRows, Columns: foreignColumns})
	if err != nil {
		return err
	}
	for i, c := range allRows.Columns() {
		if c.Len() != 30_000 || c.NullN() == c.Len() {
			return fmt.Errorf("column %s has %d nulls in %d rows, want 30,000 rows, not all null", allRows.ColumnName(i), c.NullN(), c.Len())
		}
	}
	for range 30 {
		cond := randomTerm(r, allRows)
		for range r.IntN(3) {
			cond = fmt.Sprintf("%s (%s) %s %s", []string{"", "not"}[r.IntN(2)], cond, []string{"and", "or"}[r.IntN(2)], randomTerm(r, allRows))
		}
		e, err := filter.Parse(cond)
		if err != nil {
			return fmt.Errorf("%s: %w", cond, err)
		}
		wanted, err := e.Filter(t.Context(), allRows)
		if err != nil {
			return err
		}
		s := &Scan{Rows: []int64{BatchRows, 700, 5000}[r.IntN(3)], Workers: r.IntN(4), Memory: 1 << 20}
		if s.Where, err = e.Bind(allRows.Schema()); err != nil {
			return err
		}
		for i, c := range foreignColumns {
			if r.IntN(2) == 0 || i == 0 {
				s.Columns = append(s.Columns, c)
			}
		}
		for _, name := range s.Where.Columns {
			s.ConditionColumns = append(s.ConditionColumns, foreignColumns[allRows.Schema().FieldIndices(name)[0]])
		}
		got, err := read(s)
		if err != nil {
			return fmt.Errorf("%s: %w", cond, err)
		}
		for i, c := range s.Columns {
			want := wanted.Column(allRows.Schema().FieldIndices(c.Field.Name)[0])
			if !array.Equal(floatBits(got.Column(i)), floatBits(want)) {
				return fmt.Errorf("%s, %d rows per batch: column %s: the %d rows read differ from the %d wanted rows", cond, s.Rows, c.Field.Name, got.NumRows(), wanted.NumRows())
			}
		}
	}
	return nil
}

func emptyColumns(s *arrow.Schema) (columns []arrow.Array) {
	for _, f := range s.Fields() {
		columns = append(columns, array.MakeArrayOfNull(recycled.Allocator, f.Type, 0))
	}
	return columns
}

// TestForeignFile checks that files written by Iceberg's library get no width annotations, and no bounds of floats if
// rows contain NaN, and that the files keep their size and rows.
func TestForeignFile(t *testing.T) {
	fields := []arrow.Field{
		withID(1, arrow.Field{Name: "i", Type: arrow.PrimitiveTypes.Int32}), withID(2, arrow.Field{Name: "l", Type: arrow.PrimitiveTypes.Int64}),
		withID(3, arrow.Field{Name: "d", Type: arrow.FixedWidthTypes.Date32}), withID(4, arrow.Field{Name: "f", Type: arrow.PrimitiveTypes.Float64}),
	}
	annotated := encodeFile(t, `[{"i": 1, "l": 2, "d": "2026-01-01", "f": 1}, {"i": -1, "l": -2, "d": "2026-01-02", "f": 2}]`, fields...)
	for _, hasNaN := range []bool{false, true} {
		name := filepath.Join(t.TempDir(), "f.parquet")
		files := foreignFiles{iceio.LocalFS{}, &atomic.Bool{}, &sync.Map{}}
		files.hasNaN.Store(hasNaN)
		f := must.Get(files.Create(name))(t)
		footer := len(annotated) - 8 - int(annotated[len(annotated)-8]) - int(annotated[len(annotated)-7])<<8
		parts := [][]byte{annotated[:4], annotated[4:footer], annotated[footer : len(annotated)-8], annotated[len(annotated)-8 : len(annotated)-4], annotated[len(annotated)-4:]}
		for _, part := range parts {
			must.Get(f.Write(part))(t)
		}
		must.Do(t, f.Close())
		plain, err := os.ReadFile(name)
		if err != nil || len(plain) != len(annotated) {
			t.Fatalf("the file has %d bytes instead of %d: %v", len(plain), len(annotated), err)
		}
		metadataOf := func(content []byte) *metadata.FileMetaData {
			r := must.Get(pqfile.NewParquetReader(bytes.NewReader(content), pqfile.WithReadProps(parquet.NewReaderProperties(nil))))(t)
			return r.MetaData()
		}
		before, after := metadataOf(annotated), metadataOf(plain)
		for i, want := range []string{"None", "None", "Date", "None"} {
			if got := after.Schema.Column(i).LogicalType().String(); got != want {
				t.Errorf("column %d is annotated as %s, want %s", i, got, want)
			}
		}
		for i := range 4 {
			chunk := must.Get(after.RowGroup(0).ColumnChunk(i))(t)
			if s, err := chunk.Statistics(); err != nil || s.HasMinMax() == (hasNaN && i == 3) {
				t.Errorf("hasNaN %t, column %d: the file has bounds: %t; error: %v", hasNaN, i, s.HasMinMax(), err)
			}
		}
		if _, annotates := before.Schema.Column(0).LogicalType().(pqschema.IntLogicalType); !annotates {
			t.Error("the library does not annotate widths:", before.Schema)
		}
		scan := &Scan{Columns: []Column{column(1, "i", arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int32)}, Rows: 10, Workers: 1}
		if a, b := must.Get(scan.readAll(t.Context(), annotated))(t), must.Get(scan.readAll(t.Context(), plain))(t); a != b || a == "" {
			t.Errorf("without annotations: got rows %s, want %s", b, a)
		}
	}
}
