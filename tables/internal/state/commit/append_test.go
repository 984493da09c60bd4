package commit

import (
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/state/tail"
)

// TestAppendOfPreparedRows checks that prepared rows do not go to the tail if the table or the bucket's rules have
// changed, or if a concurrent put with the same ID was faster.
func TestAppendOfPreparedRows(t *testing.T) {
	ctx := t.Context()
	s := must.Get(tail.Open(ctx, partd.NewDict(), "w", false, 1<<20))(t)
	columns := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, columns)
	b.Field(0).(*array.Int64Builder).Append(1)
	frame := must.Get(new(tail.Encoder).Encode(columns, []arrow.RecordBatch{b.NewRecordBatch()}, "id"))(t)
	e := (&Tables{shared: shared{Options: Options{FoldBytes: 1 << 20}, Tail: s}}).newEntry(icecat.TableName{})
	e.bucketRules, e.state = "rules", state{location: "location", folded: -1}
	e.log = s.Log("uuid", -1)
	must.Get(e.log.Append(ctx, []tail.Frame{frame}, time.Now()))(t)
	for _, a := range []*appendAttempt{
		{location: "location", rules: "earlier rules"}, {location: "earlier location", rules: "rules"}, {location: "location", rules: "rules", id: "id"},
	} {
		a.frame = frame
		if err := e.append(ctx, a); err != nil || a.changed != (a.id == "") {
			t.Errorf("append(%+v): changed = %v, error %v", a, a.changed, err)
		}
		if rows, _, _, _ := e.log.Size(-1); rows != 1 {
			t.Fatalf("after append(%+v), the tail has %d rows, want 1", a, rows)
		}
	}
}
