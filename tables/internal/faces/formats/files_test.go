package formats

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestReadFiles checks that the rows of files whose programs store texts and lists differently get the types of the
// first file, and that other differences are errors that name the column.
func TestReadFiles(t *testing.T) {
	text, large := arrow.BinaryTypes.String, arrow.BinaryTypes.LargeString
	items := func(t arrow.DataType) arrow.DataType {
		return arrow.StructOf(arrow.Field{Name: "name", Type: t, Nullable: true})
	}
	shared := arrow.NewSchema([]arrow.Field{{Name: "t", Type: text}, {Name: "l", Type: arrow.ListOf(items(text))}}, nil)
	for _, c := range []struct {
		t, l  arrow.DataType
		error string
	}{
		{text, arrow.ListOf(items(text)), ""},
		{large, arrow.LargeListOf(items(large)), ""},
		{arrow.BinaryTypes.StringView, arrow.ListOf(items(arrow.BinaryTypes.StringView)), ""},
		{&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: text}, arrow.LargeListOf(items(text)), ""},
		{arrow.PrimitiveTypes.Int64, arrow.ListOf(items(text)), `column "t" is int64, not utf8`},
		{text, text, `column "l" is utf8, not list<`},
	} {
		var files []string
		dir := t.TempDir()
		for i, columns := range []*arrow.Schema{shared, arrow.NewSchema([]arrow.Field{{Name: "l", Type: c.l}, {Name: "t", Type: c.t}}, nil)} {
			files = append(files, filepath.Join(dir, fmt.Sprint(i, ".arrows")))
			value := `[{"name":"x"},{"name":null}]`
			if c.l == text && i == 1 {
				value = `"x"`
			}
			b, _, err := array.RecordFromJSON(memory.DefaultAllocator, columns, strings.NewReader(`[{"t":"1","l":`+value+`}]`))
			if err != nil {
				t.Fatal(err)
			}
			writeRows(t, files[i], b)
			b.Release()
		}
		r := must.Get(ReadFiles(t.Context(), files, func(name string) (*Input, error) {
			f, err := os.Open(name)
			return &Input{Name: name, File: f, Format: Arrow}, err
		}))(t)
		rows := 0
		for r.Next() {
			b := r.RecordBatch()
			rows += int(b.NumRows())
			if got := b.Column(0).ValueStr(0) + b.Column(1).ValueStr(0); !b.Schema().Equal(shared) || got != `1[{"name":"x"},{"name":null}]` {
				t.Errorf("%s, %s: the row is %s with %s", c.t, c.l, got, b.Schema())
			}
		}
		if err := r.Err(); c.error == "" && (err != nil || rows != 2) || c.error != "" && (err == nil || !strings.Contains(err.Error(), c.error)) {
			t.Errorf("%s, %s: %d rows, error %v, want %q", c.t, c.l, rows, err, c.error)
		}
		r.Release()
	}
}

func writeRows(t *testing.T, file string, b arrow.RecordBatch) {
	t.Helper()
	f := must.Get(os.Create(file))(t)
	w, err := NewWriter(Arrow, f, b.Schema(), true)
	if err == nil {
		err = w.Write(b)
	}
	if err == nil {
		err = w.Close()
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}
