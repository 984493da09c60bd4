package datafile

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	pqfile "github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/rows/sorted"
)

func withID(id int, f arrow.Field) arrow.Field {
	f.Metadata = arrow.NewMetadata([]string{IDKey}, []string{fmt.Sprint(id)})
	f.Nullable = true
	return f
}

func column(id int, name string, t, ids arrow.DataType) Column {
	return Column{Field: arrow.Field{Name: name, Type: t, Nullable: true}, IDs: withID(id, arrow.Field{Name: name, Type: ids})}
}

// nestedTypes returns the type of a struct that contains a list of structs and a map. plain has no field IDs;
// ids has them.
func nestedTypes(inner string, x arrow.DataType) (plain, ids arrow.DataType) {
	build := func(id func(int, arrow.Field) arrow.Field) arrow.DataType {
		item := arrow.StructOf(id(12, arrow.Field{Name: inner, Type: x, Nullable: true}), id(13, arrow.Field{Name: "y", Type: arrow.BinaryTypes.String, Nullable: true}))
		list := arrow.ListOfField(id(11, arrow.Field{Name: "element", Type: item, Nullable: true}))
		key := withID(15, arrow.Field{Name: "key", Type: arrow.BinaryTypes.String})
		key.Nullable = false
		entries := arrow.MapOfFields(key, withID(16, arrow.Field{Name: "value", Type: x}))
		return arrow.StructOf(id(10, arrow.Field{Name: "l", Type: list, Nullable: true}), id(14, arrow.Field{Name: "m", Type: entries, Nullable: true}))
	}
	return build(func(_ int, f arrow.Field) arrow.Field { return f }), build(withID)
}

// encodeFile returns a Parquet file with the rows in json, in row groups of two rows.
func encodeFile(t testing.TB, json string, fields ...arrow.Field) []byte {
	t.Helper()
	batch, _, err := array.RecordFromJSON(memory.DefaultAllocator, arrow.NewSchema(fields, nil), strings.NewReader(json))
	must.Do(t, err)
	var groups []arrow.RecordBatch
	for i := int64(0); i < batch.NumRows(); i += 2 {
		groups = append(groups, batch.NewSlice(i, min(i+2, batch.NumRows())))
	}
	return writtenGroups(t, groups, []pqarrow.WriterOption{pqarrow.WithStoreSchema()}, parquet.WithMaxRowGroupLength(2), parquet.WithStats(true))
}

// written returns a Parquet file that the library wrote.
func written(t testing.TB, rows arrow.RecordBatch, o []pqarrow.WriterOption, properties ...parquet.WriterProperty) []byte {
	t.Helper()
	return writtenGroups(t, []arrow.RecordBatch{rows}, o, properties...)
}

func writtenGroups(t testing.TB, groups []arrow.RecordBatch, o []pqarrow.WriterOption, properties ...parquet.WriterProperty) []byte {
	t.Helper()
	var out bytes.Buffer
	w := must.Get(pqarrow.NewFileWriter(groups[0].Schema(), &out, parquet.NewWriterProperties(properties...), pqarrow.NewArrowWriterProperties(o...)))(t)
	for _, group := range groups {
		must.Do(t, w.Write(group))
	}
	must.Do(t, w.Close())
	return out.Bytes()
}

// parse returns the library's reader of a Parquet file.
func parse(t testing.TB, content []byte) *pqfile.Reader {
	t.Helper()
	return must.Get(pqfile.NewParquetReader(bytes.NewReader(content)))(t)
}

func bind(t testing.TB, condition string, columns *arrow.Schema) *filter.Condition {
	t.Helper()
	e := must.Get(filter.Parse(condition))(t)
	return must.Get(e.Bind(columns))(t)
}

// columnsOf returns the columns of a file whose schema has IDs.
func columnsOf(ids *arrow.Schema) (columns []Column) {
	for _, f := range ids.Fields() {
		columns = append(columns, Column{Field: arrow.Field{Name: f.Name, Type: f.Type, Nullable: true}, IDs: f})
	}
	return columns
}

// choose makes the scan read the rows that satisfy a condition on the given columns.
func (s *Scan) choose(where *filter.Condition, columns []Column) {
	s.Where = where
	for _, name := range where.Columns {
		s.ConditionColumns = append(s.ConditionColumns, columns[slices.IndexFunc(columns, func(c Column) bool { return c.Field.Name == name })])
	}
}

func (s *Scan) readAll(ctx context.Context, content []byte) (string, error) {
	s.Open = func(string) (parquet.ReaderAtSeeker, error) { return bytes.NewReader(content), nil }
	var out strings.Builder
	for b, err := range s.Read(ctx, []File{{Path: "a file"}}) {
		if err != nil {
			return out.String(), err
		}
		text, err := b.MarshalJSON()
		if err != nil {
			return "", err
		}
		out.Write(bytes.Trim(bytes.ReplaceAll(text, []byte("\n"), nil), "[] "))
		out.WriteByte(',')
	}
	return strings.TrimSuffix(out.String(), ","), nil
}

const fiveRows = `[{"s":{"l":[{"x":1,"y":"a"},null],"m":[{"key":"k","value":2}]},"n":5,"t":"u"},{"s":null,"n":null,"t":"v"},
{"s":{"l":[],"m":null},"n":-7,"t":null},{"s":{"l":null,"m":[]},"n":8,"t":"w"},{"s":{"l":[{"x":null,"y":null}],"m":[{"key":"z","value":null}]},"n":9,"t":"x"}]`

func fileWithFiveRows(t testing.TB) []byte {
	_, ids := nestedTypes("x", arrow.PrimitiveTypes.Int32)
	return encodeFile(t, fiveRows, withID(1, arrow.Field{Name: "s", Type: ids}), withID(20, arrow.Field{Name: "n", Type: arrow.PrimitiveTypes.Int32}), withID(21, arrow.Field{Name: "t", Type: arrow.BinaryTypes.String}))
}

// TestByID checks that columns and nested fields are found by ID even if they were renamed, moved or
// widened. A column that the file lacks must be null.
func TestByID(t *testing.T) {
	plain, ids := nestedTypes("renamed", arrow.PrimitiveTypes.Int64)
	s := &Scan{Rows: 3, Columns: []Column{
		column(21, "n", arrow.BinaryTypes.String, arrow.BinaryTypes.String), column(99, "none", arrow.PrimitiveTypes.Int16, arrow.PrimitiveTypes.Int16),
		column(20, "t", arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Int64), column(1, "S", plain, ids),
	}}
	want := `{"S":{"l":[{"renamed":1,"y":"a"},null],"m":[{"key":"k","value":2}]},"n":"u","none":null,"t":5},{"S":null,"n":"v","none":null,"t":null},` +
		`{"S":{"l":[],"m":null},"n":null,"none":null,"t":-7},{"S":{"l":null,"m":[]},"n":"w","none":null,"t":8},{"S":{"l":[{"renamed":null,"y":null}],"m":[{"key":"z","value":null}]},"n":"x","none":null,"t":9}`
	for workers := range 3 {
		s.Workers = workers
		if got, err := s.readAll(t.Context(), fileWithFiveRows(t)); err != nil || got != want {
			t.Errorf("%d workers: got error %v, rows\n%s, want\n%s", workers, err, got, want)
		}
	}
	// Rows are counted even if every column is absent.
	s.Columns = s.Columns[1:2]
	if got, err := s.readAll(t.Context(), fileWithFiveRows(t)); err != nil || strings.Count(got, "null") != 5 {
		t.Errorf("scan of an absent column: got rows %s, %v, want five nulls", got, err)
	}
}

// TestDefaultMatchesCondition checks that a condition on a column that the file lacks is applied to its default value.
func TestDefaultMatchesCondition(t *testing.T) {
	d := column(99, "d", arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Int64)
	b := array.NewInt64Builder(memory.DefaultAllocator)
	b.Append(7)
	d.Absent = b.NewArray()
	for cond, want := range map[string]int{"d = 7": 5, "d = 8": 0, "d is null": 0} {
		where := bind(t, cond, arrow.NewSchema([]arrow.Field{d.Field}, nil))
		s := &Scan{Rows: 100, Columns: []Column{d}, Where: where, ConditionColumns: []Column{d}}
		if got, err := s.readAll(t.Context(), fileWithFiveRows(t)); err != nil || strings.Count(got, `"d":7`) != want {
			t.Errorf("scan with %s: got error %v, rows %s, want %d rows", cond, err, got, want)
		}
	}
}

// TestValidBounds checks that a file's bounds are not used if their unit differs from that of the table's column.
func TestValidBounds(t *testing.T) {
	micros, millis := arrow.FixedWidthTypes.Timestamp_us, arrow.FixedWidthTypes.Timestamp_ms
	if !hasValidBounds(micros, micros) || hasValidBounds(millis, micros) || hasValidBounds(arrow.PrimitiveTypes.Int64, micros) {
		t.Error("hasValidBounds accepts other bounds for microseconds than those in microseconds")
	}
}

// TestOrderOfFiles checks that files are read in the order of their commits, and the files of a commit by number.
func TestOrderOfFiles(t *testing.T) {
	const early, late = "0190a000-0000-7000-8000-000000000000", "0190b000-0000-7000-8000-000000000000"
	want := []string{"00000-0-" + late + "-00001.parquet", "00000-9-" + early + "-00010.parquet", "00000-10-" + early + "-00011.parquet"}
	var tasks []table.FileScanTask
	for i, name := range []string{want[2], want[1], want[0]} {
		b := must.Get(iceberg.NewDataFileBuilder(*iceberg.UnpartitionedSpec, iceberg.EntryContentData, "data/"+name, iceberg.ParquetFile, nil, nil, nil, 1, 1))(t)
		sequence := int64(1)
		if i < 2 {
			sequence = 2
		}
		tasks = append(tasks, table.FileScanTask{File: b.Build(), DataSequenceNumber: &sequence})
	}
	var got []string
	for _, task := range InOrder(tasks) {
		got = append(got, path.Base(task.File.FilePath()))
	}
	if !slices.Equal(got, want) {
		t.Errorf("InOrder = %q, want %q", got, want)
	}
}

// TestNullableKeys checks that rows that differ only in which column is null have different keys.
func TestNullableKeys(t *testing.T) {
	b := array.NewInt64Builder(memory.DefaultAllocator)
	b.AppendNull()
	b.Append(math.MinInt64)
	values := b.NewInt64Array()
	null, lowest := array.NewSlice(values, 0, 1), array.NewSlice(values, 1, 2)
	first, second := sorted.RowKeyAppender([]arrow.Array{null, lowest}, true)(nil, 0), sorted.RowKeyAppender([]arrow.Array{lowest, null}, true)(nil, 0)
	if bytes.Equal(first, second) {
		t.Errorf("both rows have the key %x", first)
	}
}

// TestDamaged checks that reading a damaged file returns rows or an error that names the file, and
// never panics.
func TestDamaged(t *testing.T) {
	plain, ids := nestedTypes("x", arrow.PrimitiveTypes.Int32)
	columns := []Column{column(1, "s", plain, ids), column(20, "n", arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int32), column(21, "t", arrow.BinaryTypes.String, arrow.BinaryTypes.String)}
	readDamaged(t, fileWithFiveRows(t), 2000, 0, 300, func(i int) *Scan { return &Scan{Rows: 100, Columns: columns, Workers: 1 + i%2, Memory: 1 << 20} })
	// Damage a file whose scan skips pages and reads strings as dictionary codes.
	paged := pagedRows(3000)
	columns = columnsOf(paged.Schema())
	where := bind(t, "n > 700 and often != 'text 5 1'", paged.Schema())
	conditionColumns := []Column{columns[0], columns[2]}
	undamaged := pagedFile(t, paged)
	readDamaged(t, undamaged, 600, len(undamaged)-500, 50, func(i int) *Scan {
		return &Scan{Rows: 1000, Columns: columns, ConditionColumns: conditionColumns, Where: where, Workers: 1 + i%2, Memory: 1 << 20}
	})
}

// readDamaged damages copies of a file in various ways, and reads them. It first changes each byte from an
// offset on, and then random bytes. At least minFailures of the reads must fail.
func readDamaged(t *testing.T, undamaged []byte, copies, firstChanged, minFailures int, scan func(i int) *Scan) {
	failed := 0
	for i := range copies {
		content := bytes.Clone(undamaged)
		switch {
		case firstChanged+i < len(undamaged):
			content[firstChanged+i] ^= byte(1 + rand.IntN(255))
		case i%10 == 0:
			content = content[:rand.IntN(len(content))]
		default:
			for range 1 + rand.IntN(4) {
				content[rand.IntN(len(content))] = byte(rand.Uint32())
			}
		}
		if _, err := scan(i).readAll(t.Context(), content); err != nil {
			if failed++; !strings.HasPrefix(err.Error(), "file a file: ") {
				t.Fatal("the error does not name the file:", err)
			}
		}
	}
	if failed < minFailures {
		t.Errorf("%d of %d damaged files were refused, want at least %d", failed, copies, minFailures)
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for workers := range 3 {
		s := &Scan{Rows: 1, Workers: workers, Columns: []Column{column(20, "n", arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int32)}}
		must.Fail(t, must.Err(s.readAll(ctx, fileWithFiveRows(t))), context.Canceled, "%d workers", workers)
	}
}

// TestConditionFirst checks that a row group that cannot match the condition is not decoded, and that the
// other groups yield the matching rows.
func TestConditionFirst(t *testing.T) {
	tableSchema := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, {Name: "t", Type: arrow.BinaryTypes.String, Nullable: true}}, nil)
	n, text := column(20, "n", arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Int64), column(21, "t", arrow.BinaryTypes.String, arrow.BinaryTypes.String)
	for cond, want := range map[string]struct {
		rows   string
		groups int
	}{
		"n > 8": {`{"t":"x"}`, 1}, "n < 0": {`{"t":null}`, 1}, "n is null": {`{"t":"v"}`, 1}, "n > 100": {"", 0}, "n != 5": {`{"t":null},{"t":"w"},{"t":"x"}`, 2},
		"t = 'u' or n = 9": {`{"t":"u"},{"t":"x"}`, 2}, "not n = 8": {`{"t":"u"},{"t":null},{"t":"x"}`, 3},
	} {
		where := bind(t, cond, tableSchema)
		s := &Scan{Rows: 100, Columns: []Column{text}}
		s.choose(where, []Column{n, text})
		if got, err := s.readAll(t.Context(), fileWithFiveRows(t)); err != nil || got != want.rows {
			t.Errorf("scan with %s: got error %v, rows %s, want %s", cond, err, got, want.rows)
		}
		f, err := s.open(t.Context(), File{Path: "a file"})
		if err != nil || len(f.groups) != want.groups {
			t.Errorf("open with %s: got error %v, %d groups, want %d", cond, err, len(f.groups), want.groups)
		}
	}
}
