package operations

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestEmptyKeys checks that a ticket distinguishes nil, which means the table's keys, from an empty list, which means
// no keys.
func TestEmptyKeys(t *testing.T) {
	for _, keys := range [][]string{nil, {}} {
		var got Changes
		text, err := json.Marshal(Changes{Partd: ChangesCall, Keys: keys})
		if err == nil {
			err = Unmarshal(text, &got)
		}
		if err != nil || (got.Keys == nil) != (keys == nil) {
			t.Errorf("keys %#v arrive as %#v, error %v", keys, got.Keys, err)
		}
	}
}

// TestDecodeParameters checks that no rows of parameters are lost: a stream with more than one batch is refused.
func TestDecodeParameters(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "1", Type: arrow.PrimitiveTypes.Int64}}, nil)
	values := array.NewInt64Builder(memory.DefaultAllocator)
	values.AppendValues([]int64{1, 2}, nil)
	rows := array.NewRecordBatch(schema, []arrow.Array{values.NewArray()}, 2)
	stream := must.Get(EncodeParameters(rows))(t)
	if got, err := DecodeParameters(t.Context(), stream, 1<<20); err != nil || !array.RecordEqual(got, rows) {
		t.Errorf("decoded %v, error %v; want %v", got, err, rows)
	}
	var b bytes.Buffer
	w := ipc.NewWriter(&b, ipc.WithSchema(schema))
	for range 2 {
		must.Do(t, w.Write(rows))
	}
	must.Do(t, w.Close())
	if _, err := DecodeParameters(t.Context(), b.Bytes(), 1<<20); err == nil || !strings.Contains(err.Error(), "more than one batch") {
		t.Errorf("two batches: error %v, want more than one batch", err)
	}
}
