package flightd

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// sentMessages records the encoded messages of a stream.
type sentMessages struct {
	flight.FlightService_DoGetServer
	call        *call
	unsentLimit *unsentLimit
	sent        []mem.BufferSlice
}

func (s *sentMessages) SendMsg(m any) error {
	data, err := answerCodec{encoding.GetCodecV2(grpcproto.Name), s.unsentLimit}.Marshal(&answer{m, s.call})
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
			s := &Server{unsentLimit: unsentLimit{maxBytes: 1 << 30}}
			stream := &sentMessages{call: new(call), unsentLimit: &s.unsentLimit}
			must.Do(t, s.unsentLimit.sendRows(stream, r))
			r.Release()
			var messages []*flight.FlightData
			for _, data := range stream.sent {
				m := new(flight.FlightData)
				must.Do(t, encoding.GetCodecV2(grpcproto.Name).Unmarshal(data, m))
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
			if c.part > 10 && s.unsentLimit.bytes < c.part*12 {
				t.Errorf("%d bytes count as unsent, want at least %d", s.unsentLimit.bytes, c.part*12)
			}
			for _, data := range stream.sent {
				data.Free()
			}
			if s.unsentLimit.bytes != 0 {
				t.Errorf("after all messages are sent, %d bytes count as unsent", s.unsentLimit.bytes)
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
	s := &Server{unsentLimit: unsentLimit{maxBytes: 1 << 30}}
	stream := &sentMessages{call: new(call), unsentLimit: &s.unsentLimit}
	must.Do(t, s.unsentLimit.sendRows(stream, r))
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
			must.Fail(t, err, io.EOF, "a slow reader failed")
		})
	}
	readers.Wait()
}

// ask sends a complete message, and returns when the server begins its answer or closes the connection.
func (c *rawClient) ask(t *testing.T, method string, m proto.Message, headers ...string) {
	t.Helper()
	body := must.Get(proto.Marshal(m))(t)
	stream, err := c.begin(method, headers...)
	if err == nil {
		err = c.claim(stream, uint32(len(body)))
	}
	for err == nil && len(body) > 0 {
		part := body[:min(len(body), 16<<10)]
		body = body[len(part):]
		err = c.framer.WriteData(stream, len(body) == 0, part)
	}
	_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
	for err == nil {
		var f http2.Frame
		if f, err = c.framer.ReadFrame(); err == nil {
			if h, ok := f.(*http2.MetaHeadersFrame); ok && h.StreamID == stream {
				return
			}
		}
	}
	c.isClosed = true // the server has closed the connection
}

// TestUnsentAnswers checks that unsent answers use bounded memory, even if clients never receive them.
func TestUnsentAnswers(t *testing.T) {
	const limit = 64 << 20
	_, _, address := serveTest(t, &Options{Secret: testSecret, Memory: limit, MaxMessage: 8 << 20})
	ctx, _ := withToken(t, testSecret, Admin)
	honest := clientFrom(t, "127.0.0.3", address)
	must.Do(t, putTest(ctx, honest, `{"name":"t"}`, 1, 10))
	_, token := withToken(t, testSecret, Read)
	question := &flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: []byte(`{"name":"t","more":"` + strings.Repeat("x", 900<<10) + `"}`)}
	used := procs.HeapPeak(func() {
		for range 4 {
			c := dialRaw(t, "127.0.0.2", address)
			for i := 0; i < 60 && !c.isClosed; i++ {
				c.ask(t, "GetFlightInfo", question, "authorization", "Bearer "+token)
			}
		}
		checkServed(ctx, t, "127.0.0.3", address)
		if got := countRows(t, ctx, honest, "t"); got != 10 {
			t.Errorf("the table has %d rows, want 10", got)
		}
	})
	if used > 2*limit {
		t.Errorf("240 unsent answers of 0.9 MiB use %d MiB, want at most %d", used>>20, 2*limit>>20)
	}
}

// TestWaitingRequestsAndPuts checks that requests that wait for a slot leave enough memory for other clients' puts.
func TestWaitingRequestsAndPuts(t *testing.T) {
	s, _, address := serveTest(t, &Options{Secret: testSecret, Memory: 64 << 20, MaxMessage: 8 << 20, Queries: 4})
	ctx, token := withToken(t, testSecret, Admin)
	honest := clientFrom(t, "127.0.0.3", address)
	must.Do(t, putTest(ctx, honest, `{"name":"t"}`, 20, 200_000))
	for range 3 {
		dialRaw(t, "127.0.0.2", address).ask(t, "DoGet", &flight.Ticket{Ticket: []byte(`{"name":"t"}`)}, "authorization", "Bearer "+token)
	}
	waiting := make(chan error, 8)
	ticket := &flight.Ticket{Ticket: []byte(`{"name":"t","more":"` + strings.Repeat("x", 600<<10) + `"}`)}
	for range cap(waiting) {
		c := clientFrom(t, "127.0.0.2", address)
		go func() {
			st, err := c.DoGet(ctx, ticket)
			if err == nil {
				_, err = st.Recv()
			}
			waiting <- err
		}()
	}
	waitFor(t, "no query waits for a slot", func() bool { _, n := s.Queries.Counts(); return n > 0 })
	time.Sleep(200 * time.Millisecond)
	deadlineCtx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if err := putTest(deadlineCtx, honest, `{"name":"t","mode":"append"}`, 1, 10); err != nil {
		t.Errorf("a put by another client failed: %v", err)
	}
}

// TestDescribingNeedsSlot checks that a call that describes a statement needs a slot, like a call that reads the
// statement's rows.
func TestDescribingNeedsSlot(t *testing.T) {
	s, _, address := serveTest(t, &Options{Queries: 1})
	c := dialTest(t, address)
	must.Do(t, putTest(t.Context(), c, `{"name":"t"}`, 20, 200_000))
	must.Get(c.DoGet(t.Context(), &flight.Ticket{Ticket: []byte(`{"name":"t"}`)}))(t) // the client reads nothing
	waitFor(t, "the get does not run", func() bool { n, _ := s.Queries.Counts(); return n == 1 })
	describe := &flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: []byte(`{"name":"t","sql":"SELECT 1"}`)}
	deadlineCtx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := dialTest(t, address).GetFlightInfo(deadlineCtx, describe); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("describing a statement while the only slot is used: got %v, want DeadlineExceeded", err)
	}
}

func countRows(t *testing.T, ctx context.Context, c flight.Client, name string) int64 { //nolint:revive // like the other helpers
	t.Helper()
	st := must.Get(c.DoGet(ctx, &flight.Ticket{Ticket: []byte(`{"name":"` + name + `"}`)}))(t)
	return must.Get(tabletest.CountRows(must.Get(flight.NewRecordReader(st))(t)))(t)
}
