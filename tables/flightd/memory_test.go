package flightd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
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
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/serving"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// waitFor waits until ok returns true. If this takes too long, it fails the test with the given message.
func waitFor(t *testing.T, failure string, ok func() bool) {
	t.Helper()
	must.Eventually(t, 20*time.Second, failure, ok)
}

// TestLostBuffers checks that buffers of canceled streams are subtracted from the server's memory budget
// within seconds, even if the server is idle.
func TestLostBuffers(t *testing.T) {
	s, _, _ := serveTest(t, nil)
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	s.memory.Get(8 << 20)
	if used := s.memory.Used(); used < 8<<20 {
		t.Fatalf("the budget counts %d bytes, want at least 8 MiB", used)
	}
	waitFor(t, "a lost buffer is still counted", func() bool { return s.memory.Used() < 1<<20 })
}

// TestCutPut checks that interrupted puts leave no rows, table, slot or memory.
func TestCutPut(t *testing.T) {
	s, store, address := serveTest(t, nil)
	for range 20 {
		c := dialTest(t, address)
		must.Do(t, putTest(t.Context(), c, `{"name":"kept","mode":"replace"}`, 1, 10))
		for _, command := range []string{`{"name":"cut"}`, `{"name":"kept","mode":"append"}`, `{"name":"kept","mode":"replace"}`} {
			ctx, cancel := context.WithCancel(t.Context())
			_, _, err := beginPut(ctx, c, command, 3, 100_000)
			must.Do(t, err)
			cancel()
		}
		_ = c.Close()
	}
	waitFor(t, "canceled puts still hold their slots", func() bool { running, waiting := s.Puts.Counts(); return running+waiting == 0 })
	if _, err := store.Bucket("").Table("cut").Info(t.Context()); !errors.Is(err, tables.ErrNotFound) {
		t.Errorf("after canceled puts, Table error = %v, want ErrNotFound", err)
	}
	tabletest.WantCount(t, store.Bucket("").Table("kept"), 10)
	waitFor(t, "canceled puts still hold memory", func() bool {
		runtime.GC()
		return s.memory.Used() < 1<<20
	})
}

// TestStalled checks that clients that receive or send nothing are disconnected, while others are served.
func TestStalled(t *testing.T) {
	s, _, address := serveTest(t, &Options{IdleTimeout: 500 * time.Millisecond, Queries: 4, Puts: 4})
	good := dialTest(t, address)
	must.Do(t, putTest(t.Context(), good, `{"name":"t"}`, 20, 200_000))
	greedy := dialTest(t, address)
	for range 10 {
		must.Get(greedy.DoGet(t.Context(), &flight.Ticket{Ticket: []byte(`{"name":"t"}`)}))(t) // the client reads nothing
		_, _, err := beginPut(t.Context(), greedy, `{"name":"stalled"}`, 1, 1)
		must.Do(t, err)
	}
	start := time.Now()
	must.Do(t, putTest(t.Context(), good, `{"name":"t","mode":"append"}`, 1, 1))
	if rows := countRows(t, t.Context(), good, "t"); rows != 4_000_001 {
		t.Errorf("got %d rows, want 4,000,001", rows)
	}
	if elapsed := time.Since(start); elapsed > 10*time.Second {
		t.Errorf("the calls of another client took %s, want at most 10 s", elapsed)
	}
	waitFor(t, "the stalled clients were not cut off", func() bool {
		queries, q := s.Queries.Counts()
		puts, p := s.Puts.Counts()
		return queries+q+puts+p == 0
	})
}

// TestMemory checks that the newest put fails if messages exceed the memory limit, and that the server continues.
func TestMemory(t *testing.T) {
	s, _, address := serveTest(t, &Options{Memory: 4 << 20, MaxMessage: 2 << 20})
	c := dialTest(t, address)
	s.memory.Add(3 << 20) // simulates other messages
	done := make(chan error, 1)
	go func() { done <- putTest(t.Context(), c, `{"name":"t"}`, 1, 1000) }()
	select {
	case err := <-done:
		t.Fatalf("a put did not wait for memory: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	s.memory.Add(2 << 20)
	if err := <-done; status.Code(err) != codes.ResourceExhausted {
		t.Errorf("the put returned %v, want ResourceExhausted", err)
	}
	s.memory.Add(-5 << 20)
	must.Do(t, putTest(t.Context(), c, `{"name":"t"}`, 1, 1000))
}

// TestDecompressedRowsShareMemory checks that puts of small messages that decompress to many rows stay within
// the memory limit: such puts wait for each other, and are refused if the other puts stay open.
func TestDecompressedRowsShareMemory(t *testing.T) {
	const puts, rows = 24, 500_000 // each put has 4 MB of rows, few enough for the store to buffer them in memory
	const limit = 64 << 20
	s, _, address := serveTest(t, &Options{Memory: limit, MaxMessage: 16 << 20, Puts: 64, IdleTimeout: 6 * time.Second})
	batch := floatBatch(rows)
	put := func(i int, canClose <-chan struct{}) error {
		st, err := dialTest(t, address).DoPut(t.Context())
		if err != nil {
			return err
		}
		w := flight.NewRecordWriter(st, ipc.WithSchema(floats), ipc.WithLZ4())
		w.SetFlightDescriptor(&flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: []string{"t" + string(rune('a'+i))}})
		if err := w.Write(batch); err != nil {
			return err
		}
		<-canClose
		_, _ = w.Close(), st.CloseSend() // if they fail, Recv returns the reason
		_, err = st.Recv()
		return err
	}
	var wg sync.WaitGroup
	alreadyClosed := make(chan struct{})
	close(alreadyClosed)
	for i := range puts {
		wg.Go(func() {
			if err := put(i, alreadyClosed); err != nil {
				t.Errorf("put %d failed: %v", i, err)
			}
		})
	}
	wg.Wait()
	waitFor(t, "memory was not released", func() bool { return s.memory.Used() < 1<<20 })

	peak := int64(0) // counted by the server only, because the clients of this process also use memory
	canFinish, results := make(chan struct{}), make(chan error, puts)
	for i := range puts {
		wg.Go(func() { results <- put(i, canFinish) })
	}
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		s.memory.mu.Lock()
		peak = max(peak, s.memory.rowsUsed)
		s.memory.mu.Unlock()
	}
	close(canFinish)
	wg.Wait()
	close(results)
	refused := 0
	for err := range results {
		if err == nil {
			continue
		}
		if refused++; status.Code(err) != codes.ResourceExhausted {
			t.Errorf("a put was refused with %v, want ResourceExhausted", err)
		}
	}
	t.Logf("%d of %d puts were refused; rows used at most %d MiB", refused, puts, peak>>20)
	if refused < puts/2 || refused == puts || peak > limit/4 {
		t.Errorf("%d of %d puts were refused and rows used %d MiB, want at least half of the puts refused, but not all, and at most %d MiB", refused, puts, peak>>20, limit/4>>20)
	}
	waitFor(t, "memory was not released", func() bool { return s.memory.Used() < 1<<20 })
}

// TestHalfReadResults checks that a query fails if its connection has too many half-read results, and that the
// error says what to do.
func TestHalfReadResults(t *testing.T) {
	_, _, address := serveTest(t, &Options{Queries: 8, IdleTimeout: 6 * time.Second})
	c := dialTest(t, address)
	must.Do(t, putTest(t.Context(), c, `{"name":"t"}`, 10, 400_000))
	get := func() (flight.FlightService_DoGetClient, error) {
		st, err := c.DoGet(t.Context(), &flight.Ticket{Ticket: []byte(`{"name":"t"}`)})
		if err == nil {
			_, err = st.Recv()
		}
		return st, err
	}
	for range 2 {
		must.Get(get())(t)
	}
	_, err := get()
	if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "read or close one of them") {
		t.Errorf("a third query on the connection returned %v, want ResourceExhausted with advice", err)
	}
}

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
	tabletest.WantCount(t, store.Bucket("").Table("wide"), rows)
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
	must.Eventually(t, limit, "queries still run or wait", func() bool { running, waiting := s.Queries.Counts(); return running+waiting == 0 })
}
