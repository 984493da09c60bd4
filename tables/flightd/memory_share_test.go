package flightd

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/go-partd/partd/internal/testutil/must"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

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
