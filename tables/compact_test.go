package tables_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	pqfile "github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// rewriteWithOldEncodings rewrites a file with zstd and the library's default encodings, like other programs.
func rewriteWithOldEncodings(t *testing.T, path string) {
	t.Helper()
	old := must.Get(pqfile.OpenParquetFile(path, false))(t)
	defer old.Close() //nolint:errcheck // it was only read
	r := must.Get(pqarrow.NewFileReader(old, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator))(t)
	all := must.Get(r.ReadTable(t.Context()))(t)
	defer all.Release()
	out := must.Get(os.Create(path + ".new"))(t)
	o := parquet.NewWriterProperties(parquet.WithCompression(compress.Codecs.Zstd), parquet.WithDictionaryCostFallbackFor("price", false))
	must.Do(t, pqarrow.WriteTable(all, out, all.NumRows(), o, pqarrow.DefaultWriterProps()))
	must.Do(t, os.Rename(path+".new", path))
}

// columnEncodings returns a description of the encodings of a file's columns.
func columnEncodings(t *testing.T, path string) string {
	t.Helper()
	r := must.Get(pqfile.OpenParquetFile(strings.TrimPrefix(path, "file://"), false))(t)
	defer r.Close() //nolint:errcheck // it was only read
	var encodings strings.Builder
	for i := range r.MetaData().Schema.NumColumns() {
		chunk := must.Get(r.MetaData().RowGroup(0).ColumnChunk(i))(t)
		for _, e := range chunk.Encodings() {
			encodings.WriteString(e.String() + " ")
		}
		encodings.WriteString(chunk.Compression().String())
		if location := chunk.GetOffsetIndexLocation(); location != nil {
			encodings.WriteString(" index")
		}
		encodings.WriteString(", ")
	}
	return encodings.String()
}

// columnTypes returns the physical and logical type of each column of a file.
func columnTypes(t *testing.T, path string) string {
	t.Helper()
	r := must.Get(pqfile.OpenParquetFile(strings.TrimPrefix(path, "file://"), false))(t)
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
// annotated int column that was widened to a long. Compact rewrites files with annotations, but only once. Earlier
// versions of this package wrote such files, which can still be read.
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
				r := rowsOfJSON(t, rows, columns.Fields()[:fields]...)
				tabletest.PutRows(t, b, "t", r, tables.PutAppend, &tables.PutOptions{Settings: settings})
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
				wantEqual(t, "rows of a file with the old encodings", scanJSON(t, b, "t", nil), rowsBefore)
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

// whileCommitting opens another store on b's directory and returns its bucket. The other store prepares its
// first commit, then calls change, which changes the table, and then commits.
func whileCommitting(t *testing.T, b *tables.Bucket, change func() error) *tables.Bucket {
	t.Helper()
	changing, attempts := countingAttempts(t, b, change)
	t.Cleanup(func() {
		if *attempts == 0 {
			t.Error("the other store did not commit")
		}
	})
	return changing
}

// countingAttempts is like whileCommitting, but also returns the number of times that the other store prepared a
// commit.
func countingAttempts(t *testing.T, b *tables.Bucket, change func() error) (*tables.Bucket, *int) {
	t.Helper()
	attempts := new(int)
	s := openHooked(t, b.Store().Dir(), &tables.Options{NoTail: true}, tables.Hooks{OnPrepared: func() {
		if *attempts++; *attempts == 1 {
			must.Check(t, change())
		}
	}})
	return s.Bucket(b.Name()), attempts
}

func wantValues(t *testing.T, b *tables.Bucket, name string, want ...int64) {
	t.Helper()
	rows := must.Get(ticksFrom(b.Table(name).Scan(t.Context(), nil)))(t)
	var got []int64
	for _, r := range rows {
		got = append(got, r.v)
	}
	if !slices.Equal(got, want) {
		t.Errorf("table %q has values %v, want %v", name, got, want)
	}
}

// TestCompactDuringSettingsChange removes the time column from the settings while a compaction merges files in time
// order. Then the rows must be in the order of their puts.
func TestCompactDuringSettingsChange(t *testing.T) {
	b := tabletest.BucketWithoutTail(t)
	o := &tables.PutOptions{Settings: &tables.Settings{Time: "ts"}}
	for _, rows := range [][]tick{{{ts: 3, v: 3}, {ts: 5, v: 5}}, {{ts: 1, v: 1}, {ts: 4, v: 4}}} {
		must.Get(b.Table("t").Put(t.Context(), ticksOf(rows, 10), tables.PutAppend, o))(t)
	}
	otherBucket := whileCommitting(t, b, func() error { return b.Table("t").SetSettings(t.Context(), tables.Settings{}) })
	must.Get(otherBucket.Store().Compact(t.Context(), nil))(t)
	wantValues(t, b, "t", 3, 5, 1, 4)
}

// TestCorrectDuringSettingsChange checks that if a table gets a rule for duplicates while a correction is in
// progress, the rule also applies to the correction's rows.
func TestCorrectDuringSettingsChange(t *testing.T) {
	b := tabletest.BucketWithoutTail(t)
	o := &tables.PutOptions{Settings: &tables.Settings{Time: "ts"}}
	must.Get(b.Table("t").Put(t.Context(), ticksOf([]tick{{ts: 1, v: 1}, {ts: 9, v: 9}}, 10), tables.PutAppend, o))(t)
	otherBucket := whileCommitting(t, b, func() error {
		return b.Table("t").SetSettings(t.Context(), tables.Settings{Time: "ts", OnDuplicate: tables.KeepLast})
	})
	rows := ticksOf([]tick{{ts: 5, v: 5}, {ts: 5, v: 6}}, 10)
	must.Get(otherBucket.Table("t").ReplaceRange(t.Context(), time.Unix(4, 0), time.Unix(6, 0), rows, nil))(t)
	wantValues(t, b, "t", 1, 6, 9)
}

// TestCompression checks the codecs and sizes of files with each kind of compression, also after the setting changes.
func TestCompression(t *testing.T) {
	b := tabletest.BucketWithoutTail(t)
	columns := arrow.NewSchema([]arrow.Field{tabletest.Nullable("n", arrow.PrimitiveTypes.Int64), tabletest.Nullable("url", arrow.BinaryTypes.String)}, nil)
	put := func(name string, s *tables.Settings) {
		t.Helper()
		rb := array.NewRecordBuilder(memory.DefaultAllocator, columns)
		for i := range 50_000 {
			rb.Field(0).(*array.Int64Builder).Append(int64(i))
			rb.Field(1).(*array.StringBuilder).Append(fmt.Sprintf("https://example.com/%d/page/%x", i%977, i*7919))
		}
		tabletest.PutRows(t, b, name, tabletest.OneBatch(rb.NewRecordBatch()), tables.PutReplace, &tables.PutOptions{Settings: s})
	}
	// check compares the codecs of a table's only file with want, and returns the file's size.
	check := func(name string, want ...string) int64 {
		t.Helper()
		path := tabletest.FilesOf(t, b, name)[0]
		encodings := strings.Split(columnEncodings(t, path), ", ")
		for i, codec := range want {
			if !strings.Contains(encodings[i], codec) {
				t.Errorf("table %s, column %d: encoding is %s, want %s", name, i, encodings[i], codec)
			}
		}
		stat := must.Get(os.Stat(strings.TrimPrefix(path, "file://")))(t)
		return stat.Size()
	}
	put("default", nil)
	put("fast", &tables.Settings{Compression: tables.CompressFast})
	put("small", &tables.Settings{Compression: tables.CompressSmall})
	check("default", "UNCOMPRESSED", "SNAPPY")
	fast, small := check("fast", "UNCOMPRESSED", "SNAPPY"), check("small", "ZSTD", "ZSTD")
	if 4*small > 3*fast {
		t.Errorf("the small file has %d bytes, want at most three quarters of %d", small, fast)
	}
	must.Do(t, b.Table("small").SetSettings(t.Context(), tables.Settings{}))
	check("small", "ZSTD", "ZSTD") // existing files stay as they are
	put("small", nil)
	check("small", "UNCOMPRESSED", "SNAPPY")
	if err := b.Table("fast").SetSettings(t.Context(), tables.Settings{Compression: "tiny"}); err == nil || !strings.Contains(err.Error(), `unknown compression "tiny": use one of ["fast" "small"]`) {
		t.Errorf("SetSettings with an unknown compression: error = %v, want an error that lists the valid ones", err)
	}
}

// TestCompactReencodesOldFiles checks that files with other encodings can be read, and that Compact merges them into
// files with the current encodings. In the old files, all columns have dictionaries and zstd, but no page index.
func TestCompactReencodesOldFiles(t *testing.T) {
	b := tabletest.BucketWithoutTail(t)
	columns := tabletest.ParseColumns(t, "at timestamp[us]; sym utf8; price float64; amount decimal(12, 4)")
	const rows = 20_000
	for f := range 2 {
		rb := array.NewRecordBuilder(memory.DefaultAllocator, columns)
		for i := f * rows; i < (f+1)*rows; i++ {
			rb.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(1e15 + i*1000))
			rb.Field(1).(*array.StringBuilder).Append(fmt.Sprint("S", i%100))
			rb.Field(2).(*array.Float64Builder).Append(1 / float64(i+1))
			must.Do(t, rb.Field(3).AppendValueFromString(fmt.Sprint(i, ".25")))
		}
		tabletest.PutRows(t, b, "t", tabletest.OneBatch(rb.NewRecordBatch()), tables.PutAppend, nil)
	}
	want := scanJSON(t, b, "t", nil)
	for _, path := range tabletest.FilesOf(t, b, "t") {
		rewriteWithOldEncodings(t, strings.TrimPrefix(path, "file://"))
		if encodings := columnEncodings(t, path); encodings != strings.Repeat("RLE_DICTIONARY PLAIN RLE ZSTD, ", 4) {
			t.Fatalf("%s was not rewritten with the old encodings: %s", path, encodings)
		}
	}
	if read := scanJSON(t, b, "t", nil); read != want {
		t.Error("after rewriting the files with the old encodings, the rows differ")
	}
	if r, err := b.Store().Compact(t.Context(), nil); err != nil || r.FilesBefore != 2 || r.FilesAfter != 1 {
		t.Fatalf("Compact = %+v, %v; want FilesBefore 2 and FilesAfter 1", r, err)
	}
	if read := scanJSON(t, b, "t", nil); read != want {
		t.Error("after the compaction, the rows differ")
	}
	encodings := columnEncodings(t, tabletest.FilesOf(t, b, "t")[0])
	deltas := "DELTA_BINARY_PACKED RLE UNCOMPRESSED index, "
	if encodings != deltas+"RLE_DICTIONARY PLAIN RLE UNCOMPRESSED index, "+"PLAIN RLE UNCOMPRESSED index, "+deltas {
		t.Errorf("after the compaction, the columns' encodings are %s", encodings)
	}
}
