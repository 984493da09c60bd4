package formats

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// TestChangingDictionaries writes batches whose dictionaries differ, which the library cannot write as an Arrow file.
func TestChangingDictionaries(t *testing.T) {
	word := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: arrow.BinaryTypes.String}
	columns := arrow.NewSchema([]arrow.Field{{Name: "word", Type: word}}, nil)
	var out bytes.Buffer
	w, err := NewWriter(Arrow, &out, columns, false)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		b, _, err := array.RecordFromJSON(memory.DefaultAllocator, columns, strings.NewReader(fmt.Sprintf(`[{"word":"w%d"}]`, i)))
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := ipc.NewReader(&out)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	for i := range 3 {
		if !r.Next() || r.RecordBatch().Column(0).ValueStr(0) != fmt.Sprintf("w%d", i) {
			t.Fatalf("batch %d: %v, %v", i, r.RecordBatch(), r.Err())
		}
	}
}
