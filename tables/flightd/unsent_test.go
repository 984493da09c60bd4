package flightd

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/go-partd/partd/internal/testutil/must"
	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

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
	used := peak(func() {
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

func countRows(t *testing.T, ctx context.Context, c flight.Client, name string) (rows int64) { //nolint:revive // like the other helpers
	t.Helper()
	st := must.Get(c.DoGet(ctx, &flight.Ticket{Ticket: []byte(`{"name":"` + name + `"}`)}))(t)
	r := must.Get(flight.NewRecordReader(st))(t)
	defer r.Release()
	for r.Next() {
		rows += r.RecordBatch().NumRows()
	}
	if r.Err() != nil {
		t.Errorf("reading table %s: %v", name, r.Err())
	}
	return rows
}
