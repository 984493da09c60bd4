package flightd

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables/internal/faces/serving"
)

// usedMemory returns the memory of reachable objects and of goroutines.
func usedMemory() int64 {
	for range 3 { // pools release their contents in the second collection
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// putWide puts one batch with many columns.
func putWide(ctx context.Context, c flight.Client, rows, columns int) error {
	batch := floatBatch(rows)
	fields, arrays := make([]arrow.Field, columns), make([]arrow.Array, columns)
	for i := range columns {
		fields[i], arrays[i] = arrow.Field{Name: fmt.Sprint("c", i), Type: arrow.PrimitiveTypes.Float64, Nullable: true}, batch.Column(0)
	}
	schema := arrow.NewSchema(fields, nil)
	st, err := c.DoPut(ctx)
	if err != nil {
		return err
	}
	w := flight.NewRecordWriter(st, ipc.WithSchema(schema))
	w.SetFlightDescriptor(&flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: []string{"wide"}})
	_ = w.Write(array.NewRecordBatch(schema, arrays, int64(rows))) // if it fails, Recv returns the reason
	_ = w.Close()
	_ = st.CloseSend()
	_, err = st.Recv()
	return err
}

// TestOneMessage checks that the server accepts a message of 500,000 rows with 50 columns by default, and
// refuses a message above MaxMessage.
func TestOneMessage(t *testing.T) {
	const rows, columns = 500_000, 50
	_, store, address := serveTest(t, nil)
	must.Do(t, putWide(t.Context(), dialTest(t, address), rows, columns))
	table := store.Bucket("").Table("wide")
	if info, err := table.Info(t.Context()); err != nil || info.Rows != rows {
		t.Errorf("table wide has %d rows, want %d; error: %v", info.Rows, rows, err)
	}
	_, _, limitedAddress := serveTest(t, &Options{MaxMessage: 1 << 20})
	if err := putWide(t.Context(), dialTest(t, limitedAddress), 5000, columns); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a message above MaxMessage: got %v, want ResourceExhausted", err)
	}
}

// TestManyConnections checks that connections that only send a preface use little memory, are limited in number,
// and do not block other clients. PARTD_CONNECTIONS sets the number of connections.
func TestManyConnections(t *testing.T) {
	const hello = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" // empty settings
	const maxEach = 128 << 10                                                                 // bytes per connection, mostly gRPC's buffers
	n := procs.Number(t, "PARTD_CONNECTIONS", 1500)
	s, _, address := serveTest(t, nil)
	good := dialTest(t, address)
	must.Do(t, putTest(t.Context(), good, `{"name":"t"}`, 1, 10))
	before, goroutines, longest := usedMemory(), runtime.NumGoroutine(), time.Duration(0)
	for i := range n {
		c := must.Get(net.Dial("tcp", address))(t)
		defer c.Close()
		_, _ = c.Write([]byte(hello)) // fails if the server closed c in favor of another connection
		if i%100 == 0 {
			start := time.Now()
			if _, err := readCounts(t.Context(), good, "t"); err != nil {
				t.Errorf("a get with %d idle connections failed: %v", i, err)
			}
			longest = max(longest, time.Since(start))
		}
	}
	const maxOpen = serving.DefaultConnections/4 + 1 // including the regular client's connection
	waitFor(t, "too many connections stay open", func() bool { return s.Conns.Count() <= maxOpen })
	if s.Conns.Count() < min(n, maxOpen)/2 {
		t.Errorf("only %d connections are open: too few to measure", s.Conns.Count())
	}
	waitFor(t, "the server has not started goroutines for all connections", func() bool { return runtime.NumGoroutine() >= goroutines+2*(s.Conns.Count()-1) })
	bytesEach := (usedMemory() - before) / int64(s.Conns.Count())
	t.Logf("%d of %d connections stay open, with %d KiB each; a get took %v at most", s.Conns.Count(), n, bytesEach>>10, longest)
	if bytesEach > maxEach {
		t.Errorf("a connection uses %d bytes, want at most %d", bytesEach, maxEach)
	}
	if longest > 5*time.Second {
		t.Errorf("the longest get took %v, want at most 5 s", longest)
	}
}

// TestNeverRead checks that clients that never read are disconnected, their results use bounded memory, and
// other clients are served. PARTD_STALLED sets the number of clients that never read.
func TestNeverRead(t *testing.T) {
	const rows, batches = 400_000, 10 // 32 MB, far more than a connection buffers
	n := procs.Number(t, "PARTD_STALLED", 24)
	idle := 500 * time.Millisecond
	s, _, address := serveTest(t, &Options{IdleTimeout: idle})
	good := dialTest(t, address)
	must.Do(t, putTest(t.Context(), good, `{"name":"t"}`, batches, rows))
	must.Do(t, putTest(t.Context(), good, `{"name":"small"}`, 1, 10))
	before := usedMemory()
	for range n {
		must.Get(dialTest(t, address).DoGet(t.Context(), &flight.Ticket{Ticket: []byte(`{"name":"t"}`)}))(t)
	}
	waitFor(t, "no query runs", func() bool { running, _ := s.Queries.Counts(); return running > 0 })
	turns := n/s.Queries.PerHost + 1 // rounds of stalled calls that each use all slots of the host; all of them arrived before the other client's call
	limit := 2*time.Duration(turns)*idle + 5*time.Second
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	start := time.Now()
	if _, err := readCounts(ctx, good, "small"); err != nil {
		t.Errorf("another client was not served within %v: %v", limit, err)
	}
	elapsed, used := time.Since(start), usedMemory()-before
	t.Logf("%d clients that never read: %d MiB; another client waited %v", n, used>>20, elapsed)
	if used > 512<<20 {
		t.Errorf("the results of clients that never read use %d MiB, want at most 512", used>>20)
	}
	for end := time.Now().Add(limit); ; time.Sleep(10 * time.Millisecond) {
		running, waiting := s.Queries.Counts()
		if running+waiting == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%v queries still run and %v wait, want none", running, waiting)
		}
	}
}
