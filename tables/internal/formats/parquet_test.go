package formats

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/apache/arrow-go/v18/parquet/schema"

	"github.com/go-partd/partd/tables/internal/worker"
)

// noted returns a Parquet file with one column. In the Arrow schema that the file also contains,
// the column has the type as.
func noted(t *testing.T, column arrow.Array, as arrow.DataType) *Input {
	t.Helper()
	name := filepath.Join(t.TempDir(), "noted.parquet")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	field := []arrow.Field{{Name: "v", Type: column.DataType(), Nullable: true}}
	is := arrow.NewSchema(field, nil)
	w, err := pqarrow.NewFileWriter(is, f, nil, pqarrow.DefaultWriterProps())
	if err != nil {
		t.Fatal(err)
	}
	note := base64.StdEncoding.EncodeToString(worker.Schema(arrow.NewSchema([]arrow.Field{{Name: "v", Type: as, Nullable: true}}, nil)))
	err = w.AppendKeyValueMetadata("ARROW:schema", note)
	if err = errors.Join(err, w.Write(array.NewRecordBatch(is, []arrow.Array{column}, int64(column.Len()))), w.Close()); err != nil {
		t.Fatal(err)
	}
	if f, err = os.Open(name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return &Input{Name: "noted.parquet", File: f, Format: Parquet}
}

// TestDurationsOfParquet reads durations as pandas writes them.
func TestDurationsOfParquet(t *testing.T) {
	integers, _, err := array.FromJSON(memory.DefaultAllocator, arrow.PrimitiveTypes.Int64, strings.NewReader(`[1,null,-9]`))
	if err != nil {
		t.Fatal(err)
	}
	lists, _, err := array.FromJSON(memory.DefaultAllocator, arrow.ListOf(arrow.PrimitiveTypes.Int64), strings.NewReader(`[[1,null],null]`))
	if err != nil {
		t.Fatal(err)
	}
	for want, of := range map[string]struct {
		arrow.Array
		as arrow.DataType
	}{
		`v duration[ms], {"v":"1ms"}{"v":null}{"v":"-9ms"}`:                     {integers, arrow.FixedWidthTypes.Duration_ms},
		`v list<element: duration[ns], nullable>, {"v":["1ns",null]}{"v":null}`: {lists, arrow.ListOf(arrow.FixedWidthTypes.Duration_ns)},
	} {
		got, err := content(t, noted(t, of.Array, of.as))
		if err != nil || strings.ReplaceAll(got, "\n", "") != want {
			t.Errorf("%s: %s %v", want, got, err)
		}
	}
}

// TestArrowReadsDurations fails when arrow-go can read durations in Parquet. noteIntegers is then
// no longer needed.
func TestArrowReadsDurations(t *testing.T) {
	integers, _, err := array.FromJSON(memory.DefaultAllocator, arrow.PrimitiveTypes.Int64, strings.NewReader(`[1]`))
	if err != nil {
		t.Fatal(err)
	}
	in := noted(t, integers, arrow.FixedWidthTypes.Duration_ms)
	if _, err := pqarrow.ReadTable(t.Context(), in.File, nil, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator); err == nil {
		t.Error("it reads them")
	}
}

// TestTextsOfParquet checks that columns of JSON, as DuckDB writes them, and of enums are read as
// texts.
func TestTextsOfParquet(t *testing.T) {
	for _, logical := range []schema.LogicalType{schema.JSONLogicalType{}, schema.EnumLogicalType{}} {
		name := filepath.Join(t.TempDir(), "x.parquet")
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		node, err := schema.NewPrimitiveNodeLogical("v", parquet.Repetitions.Required, logical, parquet.Types.ByteArray, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		root, err := schema.NewGroupNode("root", parquet.Repetitions.Required, schema.FieldList{node}, -1)
		if err != nil {
			t.Fatal(err)
		}
		w := file.NewParquetWriter(f, root)
		rows, err := w.AppendRowGroupChecked()
		if err != nil {
			t.Fatal(err)
		}
		column, err := rows.NextColumn()
		if err != nil {
			t.Fatal(err)
		}
		_, err = column.(*file.ByteArrayColumnChunkWriter).WriteBatch([]parquet.ByteArray{[]byte(`{}`), []byte(`x`)}, nil, nil)
		if err = errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		if f, err = os.Open(name); err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		got, err := content(t, &Input{Name: name, File: f, Format: Parquet})
		if want := "v utf8, \n{\"v\":\"{}\"}\n{\"v\":\"x\"}\n"; got != want || err != nil {
			t.Errorf("%s: %q %v", logical, got, err)
		}
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
	in.Format = Parquet
	if _, err := content(t, in); err == nil || err.Error() != "deep.parquet: its schema has more than 256 levels at node 257 of 2001" {
		t.Error(err)
	}
}
