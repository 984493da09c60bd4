package formats

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/apache/arrow-go/v18/parquet/schema"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/internal/sql/worker"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestProgressOfParquet checks that Count gets about the size of a Parquet file, also of one that comes from a pipe.
func TestProgressOfParquet(t *testing.T) {
	written := encode(t, Parquet(), false, mixed, mixedRows(t, 5000))
	for i, in := range []*Input{fileOf(t, "x.parquet", written), pipeOf(t, "x.parquet", written)} {
		counted := 0
		in.Count = func(n int) { counted += n }
		if _, err := content(t, in); err != nil || counted < len(written)/2 || counted > len(written) {
			t.Errorf("from a pipe: %v: %d bytes of %d were counted, error %v", i == 1, counted, len(written), err)
		}
	}
}

// TestTextsOfParquet checks that columns with the logical types JSON, which DuckDB writes, and ENUM are read as
// strings.
func TestTextsOfParquet(t *testing.T) {
	for _, logical := range []schema.LogicalType{schema.JSONLogicalType{}, schema.EnumLogicalType{}} {
		node := schema.MustPrimitive(schema.NewPrimitiveNodeLogical("v", parquet.Repetitions.Required, logical, parquet.Types.ByteArray, 0, -1))
		element := schema.MustPrimitive(schema.NewPrimitiveNodeLogical("element", parquet.Repetitions.Required, logical, parquet.Types.ByteArray, 0, -1))
		list := schema.MustGroup(schema.ListOf(element, parquet.Repetitions.Required, -1))
		root := schema.MustGroup(schema.NewGroupNode("root", parquet.Repetitions.Required, schema.FieldList{node, list}, -1))
		var written bytes.Buffer
		w := file.NewParquetWriter(&written, root)
		rows := must.Get(w.AppendRowGroupChecked())(t)
		write := func(defined, repeated []int16, values ...parquet.ByteArray) {
			column := must.Get(rows.NextColumn())(t).(*file.ByteArrayColumnChunkWriter)
			must.Get(column.WriteBatch(values, defined, repeated))(t)
		}
		write(nil, nil, []byte(`{}`), []byte(`x`))
		write([]int16{1, 1, 0}, []int16{0, 1, 0}, []byte(`1`), []byte(`2`))
		must.Do(t, w.Close())
		got, err := content(t, fileOf(t, "x.parquet", written.String()))
		if want := "v utf8, element list<element: utf8>, \n{\"v\":\"{}\",\"element\":[\"1\",\"2\"]}\n{\"v\":\"x\",\"element\":[]}\n"; got != want || err != nil {
			t.Errorf("column of type %s: read %q, %v, want %q", logical, got, err, want)
		}
	}
}

// oneColumn returns a Parquet file with a column v of two nulls. The column's data page (version 2) contains no
// values, but claims that they are compressed. number encodes small numbers as Thrift does.
func oneColumn(t *testing.T, physicalType parquet.Type, logical string, codec compress.Compression, encoding parquet.Encoding) *Input {
	t.Helper()
	number := func(n int) string { return string([]byte{byte(2 * n)}) }
	page := "\x15\x06\x15\x04\x15\x04\x5c\x15\x04\x15\x04\x15\x04\x15" + number(int(encoding)) + "\x15\x04\x15\x00\x11\x00\x00\x04\x00"
	size := number(len(page))
	footer := "\x15\x04\x19\x2c\x48\x01r\x15\x02\x00" + // the version, and the root with one child
		"\x15" + number(int(physicalType)) + "\x15\x08\x15\x02\x18\x01v" + logical + "\x00\x16\x04" + // optional column v, with length 4 in case its size is fixed; two rows
		"\x19\x1c\x19\x1c\x26\x08\x1c\x15" + number(int(physicalType)) + "\x19\x15" + number(int(encoding)) + "\x19\x18\x01v" +
		"\x15" + number(int(codec)) + "\x16\x04\x16" + size + "\x16" + size + "\x26\x08\x00\x00\x16" + size + "\x16\x04\x00\x00"
	return fileOf(t, "v.parquet", "PAR1"+page+footer+string(binary.LittleEndian.AppendUint32(nil, uint32(len(footer))))+"PAR1")
}

// TestEmptyPages checks that pages without values can be read even if they claim to be compressed.
func TestEmptyPages(t *testing.T) {
	for _, codec := range []compress.Compression{compress.Codecs.Uncompressed, compress.Codecs.Snappy, compress.Codecs.Gzip, compress.Codecs.Brotli, compress.Codecs.Zstd, compress.Codecs.Lz4Raw} {
		if got, err := content(t, oneColumn(t, parquet.Types.Int64, "", codec, parquet.Encodings.Plain)); got != "v int64, \n{\"v\":null}\n{\"v\":null}\n" || err != nil {
			t.Errorf("empty page with %s compression: read %q, %v, want two nulls", codec, got, err)
		}
	}
}

// TestUnknownLogicalTypes checks that columns with logical types that arrow-go does not know are read as
// their physical types.
func TestUnknownLogicalTypes(t *testing.T) {
	for name, logical := range map[string]string{
		"id 19": "\x6c\x0c\x26\x00\x00", "id 19 in long form": "\x0c\x14\x0c\x26\x00\x00", "id 9": "\x6c\x9c\x00\x00", "empty": "\x6c\x00",
		"id 19 with content": "\x6c\x0c\x26\x15\x02\x1c\x1c\x00\x00\x00\x00", "id 19 before another field": "\x6c\x0c\x26\x00\x00\x15\x02",
	} {
		if got, err := content(t, oneColumn(t, parquet.Types.ByteArray, logical, 0, parquet.Encodings.Plain)); got != "v binary, \n{\"v\":null}\n{\"v\":null}\n" || err != nil {
			t.Errorf("logical type %q: read %q, %v, want two binary nulls", name, got, err)
		}
	}
	if got, err := content(t, oneColumn(t, parquet.Types.ByteArray, "\x6c\x1c\x00\x00", 0, parquet.Encodings.Plain)); !strings.HasPrefix(got, "v utf8,") || err != nil {
		t.Errorf("logical type STRING: read %q, %v, want a column of type utf8", got, err)
	}
}

// TestFixedDeltas checks that DELTA_BYTE_ARRAY of values of fixed size, which arrow-go cannot read, is refused.
func TestFixedDeltas(t *testing.T) {
	in := oneColumn(t, parquet.Types.FixedLenByteArray, "", 0, parquet.Encodings.DeltaByteArray)
	want := `v.parquet: column "v": DELTA_BYTE_ARRAY is not supported for values of fixed size: `
	if _, err := content(t, in); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("reading DELTA_BYTE_ARRAY of fixed size: got error %v, want %s", err, want)
	}
}

// TestDeepParquet checks that a file is refused if its schema has so many levels that a recursive
// reader would overflow its stack.
func TestDeepParquet(t *testing.T) {
	const levels = 2000
	footer := string(binary.AppendUvarint([]byte("\x15\x02\x19\xfc"), levels+1)) + // the version and a list of nodes
		strings.Repeat("\x48\x01a\x15\x02\x00", levels) + "\x48\x01a\x00" + // each except the last has one child
		"\x16\x00\x19\x0c\x00" // no rows, no groups
	length := string(binary.LittleEndian.AppendUint32(nil, uint32(len(footer))))
	in := fileOf(t, "deep.parquet", "PAR1"+footer+length+"PAR1")
	in.Format = Parquet()
	if _, err := content(t, in); err == nil || err.Error() != "deep.parquet: its schema has more than 256 levels at node 257 of 2001" {
		t.Errorf("a schema of %d levels: got error %v, want an error about node 257 and the limit of 256 levels", levels, err)
	}
}

// leaf is the content of a Parquet leaf column: its values, and their definition and repetition
// levels.
type leaf struct {
	values   []int32
	def, rep []int16
}

// TestLegacyLists checks that lists and maps are read in every form that the backward-compatibility rules
// of Parquet's LogicalTypes.md describe.
func TestLegacyLists(t *testing.T) {
	const required, optional, repeated = 0, 1, 2
	number := func(name string, r parquet.Repetition) schema.Node { return schema.NewInt32Node(name, r, -1) }
	group := func(name string, r parquet.Repetition, logicalType schema.LogicalType, fields ...schema.Node) schema.Node {
		if logicalType == nil {
			return schema.MustGroup(schema.NewGroupNode(name, r, fields, -1))
		}
		return schema.MustGroup(schema.NewGroupNodeLogical(name, r, fields, logicalType, -1))
	}
	list, mapType := schema.NewListLogicalType(), schema.MapLogicalType{}
	oldMap := func(fields ...schema.Node) schema.Node {
		return schema.MustGroup(schema.NewGroupNodeConverted("v", optional, fields, schema.ConvertedTypes.MapKeyValue, -1))
	}
	lists := leaf{[]int32{1, 2, 3, 4}, []int16{3, 3, 3, 3, 0, 1, 2}, []int16{0, 2, 1, 2, 0, 0, 0}} // [[1,2],[3,4]], null, [] and [[]]
	flat := leaf{[]int32{1, 2}, []int16{2, 2, 0, 1}, []int16{0, 1, 0, 0}}                          // [1,2], null and []
	pairs := leaf{[]int32{1, 2, 3}, []int16{3, 3, 3, 0}, []int16{0, 2, 1, 0}}
	for name, c := range map[string]struct {
		node   schema.Node
		leaves []leaf
		want   string
	}{
		"three levels":        {group("v", optional, list, group("list", repeated, nil, number("element", required))), []leaf{flat}, `[1,2] null []`},
		"repeated values":     {group("v", optional, list, number("element", repeated)), []leaf{flat}, `[1,2] null []`},
		"list of structs":     {group("v", optional, list, group("element", repeated, nil, number("a", required), number("b", required))), []leaf{flat, flat}, `[{"a":1,"b":1},{"a":2,"b":2}] null []`},
		"group named array":   {group("v", optional, list, group("array", repeated, nil, number("a", required))), []leaf{flat}, `[{"a":1},{"a":2}] null []`},
		"group named v_tuple": {group("v", optional, list, group("v_tuple", repeated, nil, number("a", required))), []leaf{flat}, `[{"a":1},{"a":2}] null []`},
		"lists in two levels": {group("v", optional, list, group("array", repeated, list, number("array", repeated))), []leaf{lists}, `[[1,2],[3,4]] null [] [[]]`},
		"lists named bag":     {group("v", optional, list, group("bag", repeated, list, number("item", repeated))), []leaf{lists}, `[[1,2],[3,4]] null [] [[]]`},
		"mixed levels":        {group("v", optional, list, group("array", repeated, list, group("list", repeated, nil, number("element", required)))), []leaf{lists}, `[[1,2],[3,4]] null [] [[]]`},
		"list in a struct":    {group("v", optional, list, group("bag", repeated, nil, number("a", repeated))), []leaf{lists}, `[{"a":[1,2]},{"a":[3,4]}] null [] [{"a":[]}]`},
		"list of maps": {
			group("v", optional, list, group("array", repeated, mapType, group("key_value", repeated, nil, number("key", required), number("value", required)))),
			[]leaf{pairs, pairs},
			`[[{"key":1,"value":1},{"key":2,"value":2}],[{"key":3,"value":3}]] null`,
		},
		"nested lists in a struct": {
			group("v", optional, nil, group("a", required, list, group("array", repeated, list, number("array", repeated)))),
			[]leaf{{lists.values, []int16{3, 3, 3, 3, 0, 1}, []int16{0, 2, 1, 2, 0, 0}}},
			`{"a":[[1,2],[3,4]]} null {"a":[]}`,
		},
		"in a map": {
			group("v", required, mapType, group("key_value", repeated, nil, number("key", required), group("value", required, list, group("array", repeated, list, number("array", repeated))))),
			[]leaf{{[]int32{7}, []int16{1}, []int16{0}}, {lists.values, []int16{3, 3, 3, 3}, []int16{0, 3, 2, 3}}},
			`[{"key":7,"value":[[1,2],[3,4]]}]`,
		},
		"MAP_KEY_VALUE": {oldMap(group("map", repeated, nil, number("k", required), number("w", required))), []leaf{flat, flat}, `[{"key":1,"value":1},{"key":2,"value":2}] null []`},
	} {
		t.Run(name, func(t *testing.T) {
			var written bytes.Buffer
			w := file.NewParquetWriter(&written, group("root", required, nil, c.node).(*schema.GroupNode))
			rows := must.Get(w.AppendRowGroupChecked())(t)
			for _, l := range c.leaves {
				column := must.Get(rows.NextColumn())(t)
				must.Get(column.(*file.Int32ColumnChunkWriter).WriteBatch(l.values, l.def, l.rep))(t)
			}
			must.Do(t, w.Close())
			got, err := content(t, fileOf(t, "x.parquet", written.String()))
			_, got, _ = strings.Cut(got, "\n")
			got = strings.NewReplacer(`{"v":`, "", "}\n", " ").Replace(got)
			if err != nil || strings.TrimSpace(got) != c.want {
				t.Errorf("read %s, %v, want %s", got, err, c.want)
			}
		})
	}
}

// TestInt96 checks that times in INT96 are read as microseconds in all years, or as the known columns say, and that an
// error names the column and the row of a value that has no exact timestamp.
func TestInt96(t *testing.T) {
	noEnd, day1, year2 := time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC), time.Unix(0, 1000).UTC(), time.Date(2, 1, 1, 0, 0, 0, 0, time.UTC)
	minimum, maximum := time.Unix(0, -1<<63).UTC(), time.Unix(0, 1<<63-1).UTC() // in nanoseconds
	known := func(x arrow.DataType) *arrow.Schema {
		element := arrow.StructOf(arrow.Field{Name: "x", Type: x})
		return arrow.NewSchema([]arrow.Field{{Name: "T", Type: arrow.FixedWidthTypes.Date32}, {Name: "l", Type: arrow.ListOf(element)}, {Name: "t", Type: x}}, nil)
	}
	nanoseconds := &arrow.TimestampType{Unit: arrow.Nanosecond}
	for _, c := range []struct {
		times []time.Time
		known *arrow.Schema
		want  string
	}{
		{
			[]time.Time{noEnd, {}, day1, year2}, nil, `t timestamp[us], l list<element: struct<x: timestamp[us]>>,
{"t":"9999-12-31T23:59:59.999999","l":[{"x":"9999-12-31T23:59:59.999999"}]}
{"t":null,"l":[{"x":"0001-01-01T00:00:00"}]}
{"t":"1970-01-01T00:00:00.000001","l":[{"x":"1970-01-01T00:00:00.000001"}]}
{"t":"0002-01-01T00:00:00","l":[{"x":"0002-01-01T00:00:00"}]}
`,
		},
		{
			[]time.Time{minimum, day1, maximum}, known(nanoseconds), `t timestamp[ns], l list<element: struct<x: timestamp[ns]>>,
{"t":"1677-09-21T00:12:43.145224192","l":[{"x":"1677-09-21T00:12:43.145224192"}]}
{"t":"1970-01-01T00:00:00.000001","l":[{"x":"1970-01-01T00:00:00.000001"}]}
{"t":"2262-04-11T23:47:16.854775807","l":[{"x":"2262-04-11T23:47:16.854775807"}]}
`,
		},
		{[]time.Time{day1}, known(arrow.FixedWidthTypes.Timestamp_us), `t timestamp[us, tz=UTC], l list<element: struct<x: timestamp[us, tz=UTC]>>,
{"t":"1970-01-01T00:00:00.000001Z","l":[{"x":"1970-01-01T00:00:00.000001Z"}]}
`},
		{[]time.Time{day1, {}, noEnd.Add(1)}, nil, `x.parquet, row group 0: row 3: column "t": the INT96 time 9999-12-31 23:59:59.999999001 has digits that are too small for timestamp[us]`},
		{
			[]time.Time{{}, day1.Add(1)},
			arrow.NewSchema([]arrow.Field{{Name: "t", Type: nanoseconds}}, nil),
			`row 2: column "l": field "x": the INT96 time 1970-01-01 00:00:00.000001001 has digits that are too small for timestamp[us]`,
		},
		{[]time.Time{minimum.Add(-1)}, known(nanoseconds), `row 1: column "t": the INT96 time 1677-09-21 00:12:43.145224191 is outside the range of timestamp[ns]`},
		{[]time.Time{day1, maximum.Add(1)}, known(nanoseconds), `row 2: column "t": the INT96 time 2262-04-11 23:47:16.854775808 is outside the range of timestamp[ns]`},
	} {
		in := fileOf(t, "x.parquet", string(tabletest.Int96File(t, c.times...)))
		in.Known = c.known
		got, err := content(t, in)
		if err != nil {
			got = err.Error()
		}
		if got = strings.ReplaceAll(got, ", \n", ",\n"); got != c.want && (err == nil || !strings.Contains(got, c.want)) {
			t.Errorf("reading %v: got\n%s\nwant\n%s", c.times, got, c.want)
		}
	}
	times := append(make([]time.Time, batchRows), day1.Add(1))
	in := fileOf(t, "x.parquet", string(tabletest.Int96File(t, times...)))
	must.Fail(t, must.Err(content(t, in)), `row 16385: column "t"`, "read of a row after the first batch")
}

// emptyGroups returns a Parquet file with the rows of batch, each in a row group between groups without rows. As in
// pyarrow's files, column chunks without values have a dictionary, and 0 as the offset of the data pages that they lack.
func emptyGroups(t *testing.T, batch arrow.RecordBatch) string {
	t.Helper()
	var written bytes.Buffer
	w := must.Get(pqarrow.NewFileWriter(batch.Schema(), &written, nil, pqarrow.DefaultWriterProps()))(t)
	for i := range batch.NumRows() + 1 {
		must.Do(t, w.WriteBuffered(batch.NewSlice(i, i)))
		if i < batch.NumRows() {
			must.Do(t, w.NewBufferedRowGroupChecked())
			must.Do(t, w.WriteBuffered(batch.NewSlice(i, i+1)))
			must.Do(t, w.NewBufferedRowGroupChecked())
		}
	}
	must.Do(t, w.Close())
	footer := must.Get(w.FileMetadata())(t)
	for _, g := range footer.RowGroups {
		for _, c := range g.Columns {
			if c.MetaData.NumValues == 0 {
				c.MetaData.DataPageOffset, c.MetaData.DictionaryPageOffset = 0, new(int64(4))
			}
		}
	}
	return withFooter(t, written.Bytes(), footer)
}

// withFooter returns the content of a Parquet file with another footer.
func withFooter(t *testing.T, content []byte, footer *metadata.FileMetaData) string {
	t.Helper()
	file := bytes.NewBuffer(content[:len(content)-8-int(binary.LittleEndian.Uint32(content[len(content)-8:]))])
	start := file.Len()
	must.Get(footer.WriteTo(file, nil))(t)
	return file.String() + string(binary.LittleEndian.AppendUint32(nil, uint32(file.Len()-start))) + "PAR1"
}

// TestEmptyGroups checks that row groups without rows are skipped, with any types and in jobs with limited memory.
func TestEmptyGroups(t *testing.T) {
	nested := listOf(t, arrow.BinaryTypes.String, 3, 2, "x")
	for _, rows := range []arrow.RecordBatch{mixedRows(t, 3), mixedRows(t, 3).NewSlice(0, 0), nested, nested.NewSlice(0, 0)} {
		want := must.Get(content(t, fileOf(t, "x.parquet", encode(t, Parquet(), false, rows.Schema(), rows))))(t)
		for _, memory := range []int64{0, 16 << 20} {
			in, counted := fileOf(t, "x.parquet", emptyGroups(t, rows)), 0
			in.JobMemory = memory
			in.Count = func(n int) { counted += n }
			got, err := content(t, in)
			if got != want || err != nil || counted < 0 {
				t.Errorf("%d rows with %d bytes of memory: read %s, %v, %d bytes, want %s", rows.NumRows(), memory, got, err, counted, want)
			}
		}
	}
}

// TestColumnsOfOneName checks that columns with the same name keep their values, although the Parquet library has the
// same options for them.
func TestColumnsOfOneName(t *testing.T) {
	rows, lists := mixedRows(t, 3000), listOf(t, arrow.BinaryTypes.String, 6000, 2, "x")
	all := append(rows.Columns(), lists.Column(0))
	for i, a := range all {
		for _, b := range all {
			columns := arrow.NewSchema([]arrow.Field{
				{Name: "a", Type: a.DataType(), Nullable: true}, {Name: "k", Type: all[0].DataType(), Nullable: true}, {Name: "a", Type: b.DataType(), Nullable: true},
			}, nil)
			batch := array.NewRecordBatch(columns, []arrow.Array{a, all[0], b}, 6000)
			want := encode(t, JSONL(), false, columns, batch)
			got, err := content(t, fileOf(t, "x.parquet", encode(t, Parquet(), false, columns, batch)))
			if _, got, _ := strings.Cut(got, "\n"); got != want || err != nil {
				t.Errorf("columns %d, %s and %s: read %.300s…, %v, want %.300s…", i, a.DataType(), b.DataType(), got, err, want)
			}
		}
	}
}

// TestListsOfDictionaries checks that lists without values keep their type if the values are in a dictionary, and that
// they can be written.
func TestListsOfDictionaries(t *testing.T) {
	lists := listOf(t, arrow.BinaryTypes.String, 3, 0, "")
	dictionaries := arrow.ListOf(&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: arrow.BinaryTypes.String})
	var written bytes.Buffer
	w := must.Get(pqarrow.NewFileWriter(lists.Schema(), &written, nil, pqarrow.DefaultWriterProps()))(t)
	must.Do(t, w.WriteBuffered(lists))
	columns := arrow.NewSchema([]arrow.Field{{Name: "v", Type: dictionaries}}, nil)
	must.Do(t, w.AppendKeyValueMetadata(arrowSchemaKey, base64.StdEncoding.EncodeToString(worker.Schema(columns))))
	must.Do(t, w.Close())
	r := must.Get(fileOf(t, "x.parquet", written.String()).Read(t.Context()))(t)
	defer r.Release()
	if !r.Next() || !arrow.TypeEqual(r.RecordBatch().Column(0).DataType(), dictionaries) {
		t.Fatalf("read columns %s, %v, want %s", r.Schema(), r.Err(), dictionaries)
	}
	for format, name := range map[*Format]string{Parquet(): "x.parquet", Arrow(): "x.arrow"} {
		got, err := content(t, fileOf(t, name, encode(t, format, true, r.Schema(), r.RecordBatch())))
		if _, rows, _ := strings.Cut(got, "\n"); err != nil || rows != strings.Repeat("{\"v\":[]}\n", 3) {
			t.Errorf("%s: read %q, %v, want three empty lists", format, got, err)
		}
	}
}
