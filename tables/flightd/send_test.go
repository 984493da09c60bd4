package flightd

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
)

// sentMessages records the encoded messages of a stream.
type sentMessages struct {
	flight.FlightService_DoGetServer
	call   *call
	unsent *unsentLimit
	sent   []mem.BufferSlice
}

func (s *sentMessages) SendMsg(m any) error {
	data, err := answerCodec{encoding.GetCodecV2(proto.Name), s.unsent}.Marshal(&answer{m, s.call})
	s.sent = append(s.sent, data)
	return err
}

// TestSendRows checks that messages contain the rows, and that a message keeps its batch, and counts as unsent, until
// gRPC frees it. A message that would keep a much larger batch must have a copy of its rows instead.
func TestSendRows(t *testing.T) {
	for name, c := range map[string]struct {
		rows, part int64
		keeps      bool
	}{
		"small":                {10, 10, false},
		"large":                {100_000, 100_000, true},
		"part of a larger one": {150_000, 20_000, false},
	} {
		t.Run(name, func(t *testing.T) {
			allocator := memory.NewCheckedAllocator(memory.DefaultAllocator)
			defer allocator.AssertSize(t, 0)
			schema := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}, {Name: "s", Type: arrow.BinaryTypes.String, Nullable: true}}, nil)
			b := array.NewRecordBuilder(allocator, schema)
			for i := range c.rows {
				b.Field(0).(*array.Int64Builder).Append(i)
				b.Field(1).(*array.StringBuilder).AppendValues([]string{"text"}, []bool{i%2 == 0})
			}
			full := b.NewRecordBatch()
			b.Release()
			part := full.NewSlice(c.rows-c.part, c.rows)
			want := part.NewSlice(0, c.part)
			r := must.Get(array.NewRecordReader(schema, []arrow.RecordBatch{part}))(t)
			s := &Server{unsent: unsentLimit{limit: 1 << 30}}
			stream := &sentMessages{call: new(call), unsent: &s.unsent}
			must.Do(t, s.unsent.sendRows(stream, r))
			r.Release()
			var messages []*flight.FlightData
			for _, data := range stream.sent {
				m := new(flight.FlightData)
				must.Do(t, encoding.GetCodecV2(proto.Name).Unmarshal(data, m))
				messages = append(messages, m)
			}
			got := must.Get(flight.NewRecordReader(&receivedMessages{messages: messages}, ipc.WithAllocator(memory.DefaultAllocator)))(t)
			if !got.Next() || !array.RecordEqual(got.RecordBatch(), want) {
				t.Errorf("the messages do not contain the rows: %v", got.Err())
			}
			got.Release()
			part.Release()
			want.Release()
			full.Release()
			if keeps := allocator.CurrentAlloc() > 0; keeps != c.keeps {
				t.Errorf("an unsent message keeps its batch: %v, want %v", keeps, c.keeps)
			}
			if c.part > 10 && s.unsent.bytes < c.part*12 {
				t.Errorf("%d bytes count as unsent, want at least %d", s.unsent.bytes, c.part*12)
			}
			for _, data := range stream.sent {
				data.Free()
			}
			if s.unsent.bytes != 0 {
				t.Errorf("after all messages are sent, %d bytes count as unsent", s.unsent.bytes)
			}
		})
	}
}

// receivedMessages is a stream of messages.
type receivedMessages struct {
	flight.DataStreamReader
	messages []*flight.FlightData
}

func (r *receivedMessages) Recv() (*flight.FlightData, error) {
	if len(r.messages) == 0 {
		return nil, io.EOF
	}
	m := r.messages[0]
	r.messages = r.messages[1:]
	return m, nil
}

// TestSizeOfWideMessages checks that messages with many columns, which have long headers, stay below 4 MiB.
func TestSizeOfWideMessages(t *testing.T) {
	const columns, rows = 8000, 61
	fields, arrays := make([]arrow.Field, columns), make([]arrow.Array, columns)
	for i := range fields {
		fields[i] = arrow.Field{Name: fmt.Sprint(i), Type: arrow.PrimitiveTypes.Float64, Nullable: true}
	}
	wide := arrow.NewSchema(fields, nil)
	for i := range fields {
		values := memory.NewBufferBytes(make([]byte, 8*rows))
		arrays[i] = array.NewFloat64Data(array.NewData(arrow.PrimitiveTypes.Float64, rows, []*memory.Buffer{nil, values}, nil, 0, 0))
	}
	r := must.Get(array.NewRecordReader(wide, []arrow.RecordBatch{array.NewRecordBatch(wide, arrays, rows)}))(t)
	s := &Server{unsent: unsentLimit{limit: 1 << 30}}
	stream := &sentMessages{call: new(call), unsent: &s.unsent}
	must.Do(t, s.unsent.sendRows(stream, r))
	for i, data := range stream.sent {
		if data.Len() > 4<<20 {
			t.Errorf("message %d has %d bytes, more than many programs accept", i, data.Len())
		}
	}
}

// TestSlowReaders checks that several clients that read slowly get all rows from a server with little memory. Each of
// their calls has several unsent messages, so the server must send small ones.
func TestSlowReaders(t *testing.T) {
	_, store, address := serveTest(t, &Options{Memory: 64 << 20, MaxMessage: 32 << 20})
	values := array.NewFloat64Builder(memory.DefaultAllocator)
	for range 60_000 {
		values.Append(rand.Float64())
	}
	column := values.NewArray()
	wide := arrow.NewSchema(nil, nil)
	columns := make([]arrow.Array, 50)
	for i := range columns {
		wide, _ = wide.AddField(i, arrow.Field{Name: fmt.Sprint("x", i), Type: column.DataType()})
		columns[i] = column
	}
	r := must.Get(array.NewRecordReader(wide, []arrow.RecordBatch{array.NewRecordBatch(wide, columns, int64(column.Len()))}))(t)
	must.Get(store.Bucket("").Table("t").Put(t.Context(), r, tables.PutError, nil))(t)
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			st, err := dialTest(t, address).DoGet(t.Context(), &flight.Ticket{Ticket: []byte(`{"name":"t"}`)})
			for err == nil {
				_, err = st.Recv()
				time.Sleep(100 * time.Millisecond)
			}
			if !errors.Is(err, io.EOF) {
				t.Errorf("a slow reader failed: %v", err)
			}
		})
	}
	readers.Wait()
}
