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
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestChangingDictionaries writes batches whose dictionaries differ, which the library cannot write as an Arrow file.
func TestChangingDictionaries(t *testing.T) {
	word := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: arrow.BinaryTypes.String}
	columns := arrow.NewSchema([]arrow.Field{{Name: "word", Type: word}}, nil)
	var out bytes.Buffer
	w := must.Get(NewWriter(Arrow, &out, columns, false))(t)
	for i := range 3 {
		b, _, err := array.RecordFromJSON(memory.DefaultAllocator, columns, strings.NewReader(fmt.Sprintf(`[{"word":"w%d"}]`, i)))
		if err != nil {
			t.Fatal(err)
		}
		must.Do(t, w.Write(b))
	}
	must.Do(t, w.Close())
	r := must.Get(ipc.NewReader(&out))(t)
	defer r.Release()
	for i := range 3 {
		if !r.Next() || r.RecordBatch().Column(0).ValueStr(0) != fmt.Sprintf("w%d", i) {
			t.Fatalf("batch %d: %v, %v", i, r.RecordBatch(), r.Err())
		}
	}
}
