package formats

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// TestWideParquet checks that a row group with many columns takes little memory, and that its rows are the same as
// without a limit.
func TestWideParquet(t *testing.T) {
	one := mixedRows(t, 4000)
	var fields []arrow.Field
	var arrays []arrow.Array
	for i := range 400 / int(one.NumCols()) {
		for c, f := range mixed.Fields() {
			f.Name = fmt.Sprint(f.Name, i)
			fields, arrays = append(fields, f), append(arrays, one.Column(c))
		}
	}
	columns := arrow.NewSchema(fields, nil)
	file := encode(t, Parquet(), false, columns, array.NewRecordBatch(columns, arrays, one.NumRows()))
	want, err := content(t, fileOf(t, "x.parquet", file))
	in := fileOf(t, "x.parquet", file)
	in.JobMemory = 16 << 20
	got, limitedErr := content(t, in)
	if err != nil || limitedErr != nil || got != want {
		t.Errorf("the rows differ: %d and %d bytes, errors %v and %v", len(got), len(want), limitedErr, err)
	}
	used := procs.HeapPeak(func() {
		r, err := in.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer r.Release()
		for r.Next() {
		}
	})
	if used > 44<<20 {
		t.Errorf("reading took %d MiB of memory", used>>20)
	}
}

// TestLargeRows checks that a row of more than a quarter of a job's memory is an error.
func TestLargeRows(t *testing.T) {
	columns := arrow.NewSchema([]arrow.Field{{Name: "v", Type: arrow.BinaryTypes.String}}, nil)
	for _, rows := range []int{1, 40} {
		b := array.NewRecordBuilder(memory.DefaultAllocator, columns)
		for range rows - 1 {
			b.Field(0).(*array.StringBuilder).Append("x")
		}
		b.Field(0).(*array.StringBuilder).Append(strings.Repeat("x", 3<<20))
		batch := b.NewRecordBatch()
		for _, format := range []*Format{Parquet(), Arrow(), JSONL()} {
			for memory, want := range map[int64]error{8 << 20: partd.ErrTooLarge, 16 << 20: nil} {
				in := fileOf(t, "x."+format.Name, encode(t, format, true, columns, batch))
				in.JobMemory = memory
				_, err := content(t, in)
				if !errors.Is(err, want) || err != nil && !strings.Contains(err.Error(), "3 MiB, more than a quarter of --memory: use --memory 1") {
					t.Errorf("%s with %d rows and %d bytes of memory: error %v, want %v", format, rows, memory, err, want)
				}
			}
		}
	}
}

// TestDamagedFooter changes each bit of a footer. The file is refused, or has as many rows as before.
func TestDamagedFooter(t *testing.T) {
	const rows = 20
	batch := listOf(t, arrow.PrimitiveTypes.Int64, rows, 1, "7")
	file := []byte(encode(t, Parquet(), false, batch.Schema(), batch))
	in, refused := fileOf(t, "x.parquet", ""), 0
	footer := len(file) - 8 - int(binary.LittleEndian.Uint32(file[len(file)-8:]))
	for bit := 8 * footer; bit < 8*len(file); bit++ {
		file[bit/8] ^= 1 << (bit % 8)
		must.Do(t, os.WriteFile(in.File.Name(), file, 0o666))
		file[bit/8] ^= 1 << (bit % 8)
		text, err := content(t, &Input{Name: in.Name, File: in.File, Format: in.Format})
		if n := strings.Count(text, "\n") - 1; err == nil && n != rows {
			t.Errorf("with bit %d changed, the file has %d rows", bit, n)
		}
		if err != nil {
			refused++
		}
	}
	if refused < 1000 {
		t.Errorf("only %d files were refused", refused)
	}
}

// listOf returns rows with a list of n copies of a value.
func listOf(t *testing.T, value arrow.DataType, rows, n int, text string) arrow.RecordBatch {
	t.Helper()
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: "v", Type: arrow.ListOf(value)}}, nil))
	list := b.Field(0).(*array.ListBuilder)
	for range rows {
		list.Append(true)
		for range n {
			must.Do(t, list.ValueBuilder().AppendValueFromString(text))
		}
	}
	return b.NewRecordBatch()
}

// TestRepeatedValues checks that values that repeat, which take few bytes in Parquet, are not decoded to batches that
// exceed the memory, even if the footer does not mention the dictionary.
func TestRepeatedValues(t *testing.T) {
	texts := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: "v", Type: arrow.BinaryTypes.String}}, nil))
	for i := range 2000 {
		texts.Field(0).(*array.StringBuilder).Append(strings.Repeat(fmt.Sprint(i%7), 20<<10))
	}
	for _, batch := range []arrow.RecordBatch{texts.NewRecordBatch(), listOf(t, arrow.PrimitiveTypes.Int64, 1000, 5000, "7")} {
		var file bytes.Buffer
		w := must.Get(pqarrow.NewFileWriter(batch.Schema(), &file, nil, pqarrow.DefaultWriterProps()))(t)
		must.Do(t, w.WriteBuffered(batch))
		batch.Release()
		must.Do(t, w.Close())
		footer := must.Get(w.FileMetadata())(t)
		for _, c := range footer.RowGroups[0].Columns {
			if c.MetaData.DictionaryPageOffset != nil {
				c.MetaData.DataPageOffset, c.MetaData.DictionaryPageOffset = *c.MetaData.DictionaryPageOffset, nil
			}
		}
		for _, content := range []string{file.String(), withFooter(t, bytes.Clone(file.Bytes()), footer)} {
			in, rows := fileOf(t, "x.parquet", content), int64(0)
			in.JobMemory = 8 << 20
			used := procs.HeapPeak(func() {
				r := must.Get(in.Read(t.Context()))(t)
				defer r.Release()
				for r.Next() {
					rows += r.RecordBatch().NumRows()
				}
				must.Do(t, r.Err())
			})
			if rows < 1000 || used > 72<<20 {
				t.Errorf("reading %d rows from %d bytes took %d MiB", rows, len(content), used>>20)
			}
		}
	}
}

// TestListRows checks the sizes of rows with lists: small values count with their own size, and a list can have any
// number of values.
func TestListRows(t *testing.T) {
	for _, c := range []struct {
		batch arrow.RecordBatch
		want  error
	}{
		{listOf(t, arrow.PrimitiveTypes.Uint8, 1, 1<<20, "7"), nil},                // 1 MiB
		{listOf(t, arrow.BinaryTypes.String, 1, 5<<20, "xxxx"), partd.ErrTooLarge}, // 20 MiB
	} {
		in := fileOf(t, "x.arrow", encode(t, Arrow(), true, c.batch.Schema(), c.batch))
		in.JobMemory = 16 << 20
		r := must.Get(in.Read(t.Context()))(t)
		for r.Next() {
		}
		if err := r.Err(); !errors.Is(err, c.want) {
			t.Errorf("%s: error %v, want %v", c.batch.Schema(), err, c.want)
		}
		r.Release()
	}
}
