package tail

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/internal/rows/take"
)

const table = "4fd8a7cb-8f9d-4a83-8f4d-5a6a0e1d5a10"

var columns = arrow.NewSchema([]arrow.Field{
	{Name: "n", Type: arrow.PrimitiveTypes.Int64}, {Name: "s", Type: arrow.BinaryTypes.String, Nullable: true},
}, nil)

// openLog opens a tail, and returns it with a new log of the table.
func openLog(t *testing.T, p partd.Partd, sync bool, memory int64) (*Store, *Log) {
	t.Helper()
	s := must.Get(Open(t.Context(), p, "w", sync, memory))(t)
	return s, s.Log(table, -1)
}

// batchOf returns rows with the given numbers, and with texts that are null in every other row.
func batchOf(t *testing.T, schema *arrow.Schema, ns ...int64) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	for i, n := range ns {
		b.Field(0).(*array.Int64Builder).Append(n)
		if i%2 == 0 {
			b.Field(1).AppendNull()
		} else {
			b.Field(1).(*array.StringBuilder).Append("text")
		}
	}
	return b.NewRecordBatch()
}

func appendTo(ctx context.Context, l *Log, id string, timestamp time.Time, batches ...arrow.RecordBatch) error {
	f, err := new(Encoder).Encode(columns, batches, id)
	if err != nil {
		return err
	}
	receipt, err := l.Append(ctx, []Frame{f}, timestamp)
	if err != nil {
		return err
	}
	return receipt.Sync(ctx)
}

// recoverLog returns the table's log, or nil if the store has no epochs of it. folded is the last folded epoch.
func recoverLog(ctx context.Context, s *Store, folded int64) (*Log, error) {
	err := s.Recover(ctx, func([]string) (map[string]bool, error) { return map[string]bool{table: true}, nil })
	if err != nil {
		return nil, err
	}
	return s.Claim(ctx, table, folded)
}

// TestMessages checks that the stored messages form one Arrow stream, equal to payloads encoded
// separately, even after reopening and after a refused append.
func TestMessages(t *testing.T) {
	ctx := t.Context()
	p := partd.NewDict()
	var l *Log
	open := func() {
		s := must.Get(Open(ctx, p, "w", false, 1<<20))(t)
		if l = must.Get(recoverLog(ctx, s, -1))(t); l == nil {
			l = s.Log(table, -1)
		}
	}
	open()
	want := map[string][]byte{} // by epoch
	rows := int64(0)
	for i := range int64(9) {
		if i == 5 {
			otherSchema := arrow.NewSchema([]arrow.Field{columns.Field(0), {Name: "other", Type: arrow.BinaryTypes.String, Nullable: true}}, nil)
			foreign := batchOf(t, otherSchema, 1)
			if err := appendTo(ctx, l, "", time.Now(), foreign); err == nil {
				t.Fatal("columns of another schema were accepted")
			}
			foreign.Release()
		}
		b := batchOf(t, columns, make([]int64, i+1)...)
		must.Do(t, appendTo(ctx, l, "", time.Now(), b, b))
		rows += 2 * b.NumRows()
		payload, err := ipc.GetRecordBatchPayload(b)
		must.Do(t, err)
		var message bytes.Buffer
		must.Get(payload.WritePayload(&message))(t)
		payload.Release()
		b.Release()
		key := l.key(l.current)
		if want[key] == nil {
			want[key] = must.Get(schemaMessage(columns))(t)
		}
		want[key] = slices.Concat(want[key], message.Bytes(), message.Bytes())
		if i == 2 {
			open()
		}
	}
	if len(want) != 2 { // the first epoch ended when the tail was reopened
		t.Fatalf("got %d epochs, want 2", len(want))
	}
	for key, want := range want {
		values := must.Get(p.Get(ctx, key))(t)
		var got []byte
		for v, first := values[0], true; len(v) > 0; first = false {
			f, rest, err := nextFrame(v)
			if err != nil || f.schema != first {
				t.Fatalf("frame of key %s: has schema = %v, %v, want %v", key, f.schema, err, first)
			}
			got, v = append(got, f.messages...), rest
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: the messages have %d bytes, and differ from the expected %d bytes", key, len(got), len(want))
		}
	}
	open()
	all := must.Get(l.Rows(ctx, -1, 1<<40))(t)
	for _, b := range all {
		rows -= b.NumRows()
	}
	take.Release(all)
	if rows != 0 {
		t.Fatalf("%d rows are missing", rows)
	}
}

func TestInvalidFrames(t *testing.T) {
	valid := make([]byte, 200)
	binary.LittleEndian.PutUint32(valid, uint32(len(valid)-4))
	if _, remaining, err := nextFrame(valid); err != nil || len(remaining) > 0 {
		t.Errorf("nextFrame of a valid frame left %d bytes, error %v", len(remaining), err)
	}
	for name, change := range map[string]func(v []byte) []byte{
		"a truncated header": func(v []byte) []byte { return v[:frameHeaderLen-1] },
		"a truncated frame":  func(v []byte) []byte { return v[:len(v)-1] },
		"an ID that is longer than the frame": func(v []byte) []byte {
			binary.LittleEndian.PutUint32(v, 50)
			v[17] = 100
			return v
		},
	} {
		if _, _, err := nextFrame(change(bytes.Clone(valid))); !errors.Is(err, errFrame) {
			t.Errorf("nextFrame of %s: error = %v, want %v", name, err, errFrame)
		}
	}
}

func TestStoreWithoutSync(t *testing.T) {
	for _, syncs := range []bool{false, true} {
		if _, err := Open(t.Context(), partd.NewDict(), "w", syncs, 1<<20); errors.Is(err, errors.ErrUnsupported) != syncs {
			t.Errorf("with syncs %v: Open error = %v, want %v only with syncs", syncs, err, errors.ErrUnsupported)
		}
	}
}
