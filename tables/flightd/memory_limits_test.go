package flightd

import (
	"context"
	"errors"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
)

// waitFor waits until ok returns true. If this takes too long, it fails the test with the given message.
func waitFor(t *testing.T, failure string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(failure)
		}
	}
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
			if _, _, err := beginPut(ctx, c, command, 3, 100_000); err != nil {
				t.Fatal(err)
			}
			cancel()
		}
		_ = c.Close()
	}
	waitFor(t, "canceled puts still hold their slots", func() bool { running, waiting := s.Puts.Counts(); return running+waiting == 0 })
	if _, err := store.Bucket("").Table("cut").Info(t.Context()); !errors.Is(err, tables.ErrNotFound) {
		t.Errorf("after canceled puts, Table error = %v, want ErrNotFound", err)
	}
	table := store.Bucket("").Table("kept")
	if info, err := table.Info(t.Context()); err != nil || info.Rows != 10 {
		t.Errorf("table kept has %d rows, want 10; error: %v", info.Rows, err)
	}
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
		if _, _, err := beginPut(t.Context(), greedy, `{"name":"stalled"}`, 1, 1); err != nil {
			t.Fatal(err)
		}
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
