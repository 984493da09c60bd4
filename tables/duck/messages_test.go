//go:build cgo && linux

package duck_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"strings"
	"sync"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/flight"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
)

type messageReader interface {
	Messages() iter.Seq[*flight.FlightData]
	Err() error
}

// messages is a stream of FlightData for a reader.
type messages struct {
	next func() (*flight.FlightData, bool)
}

func (m messages) Recv() (*flight.FlightData, error) {
	data, ok := m.next()
	if !ok {
		return nil, io.EOF
	}
	return data, nil
}

// TestMessages reads results of processes as messages, one after another from the same process.
func TestMessages(t *testing.T) {
	observer := &outcomes{}
	for _, o := range []tables.Observer{nil, observer} {
		testMessages(t, observedStore(t, &duck.Options{Processes: true, Queries: 1}, o), observer)
	}
	if len(observer.queries) != 4 {
		t.Errorf("the Observer received %v", observer.queries)
	}
}

// outcomes is an Observer that records the outcomes of queries.
type outcomes struct {
	mu      sync.Mutex
	queries []tables.Outcome
}

func (o *outcomes) Begin(ctx context.Context, op tables.Operation) (context.Context, func(tables.Outcome)) {
	return ctx, func(out tables.Outcome) {
		o.mu.Lock()
		defer o.mu.Unlock()
		if op.Name == "query" {
			o.queries = append(o.queries, out)
		}
	}
}

func testMessages(t *testing.T, s *tables.Store, observer *outcomes) {
	t.Helper()
	put(t, s, "b", "t", numbers(0, 100_000))
	for sql, want := range map[string]int64{
		"SELECT * FROM b.t":                           100_000,
		"SELECT * FROM b.t WHERE k < 0":               0,
		"SELECT [k] AS l, {'s': s} AS o FROM b.t":     100_000,
		"SELECT s::ENUM ('s1') AS e FROM b.t LIMIT 0": 0,
	} {
		r, err := s.Query(t.Context(), sql, nil)
		if err != nil {
			t.Fatal(sql, err)
		}
		encoded, ok := r.(messageReader)
		if !ok {
			t.Fatalf("%T has no messages", r)
		}
		next, stop := iter.Pull(encoded.Messages())
		in, err := flight.NewRecordReader(messages{next})
		if err != nil {
			t.Fatal(sql, err)
		}
		var n int64
		for in.Next() {
			n += in.RecordBatch().NumRows()
		}
		if n != want || in.Err() != nil || encoded.Err() != nil || !in.Schema().Equal(r.Schema()) {
			t.Errorf("%s: %d rows, %v, %v, %v; want %d", sql, n, in.Err(), encoded.Err(), in.Schema(), want)
		}
		in.Release()
		stop()
		r.Release()
		if i := len(observer.queries) - 1; i >= 0 && (observer.queries[i].Rows != want || observer.queries[i].Err != nil) {
			t.Errorf("%s: the Observer received %+v", sql, observer.queries[i])
		}
	}
}

// TestMessagesFail runs a statement that fails after its first rows, and stops reading another one.
func TestMessagesFail(t *testing.T) {
	testMessagesFail(t, newStore(t, &duck.Options{Processes: true, Queries: 1}))
	observer := &outcomes{}
	testMessagesFail(t, observedStore(t, &duck.Options{Processes: true, Queries: 1}, observer))
	if len(observer.queries) != 3 || !errors.As(observer.queries[0].Err, new(*tables.SQLError)) || observer.queries[1].Err != nil {
		t.Errorf("the Observer received %+v", observer.queries)
	}
}

func testMessagesFail(t *testing.T, s *tables.Store) {
	t.Helper()
	r, err := s.Query(t.Context(), "SELECT CASE WHEN range < 900000 THEN '1' ELSE 'x' END::INT FROM range(1000000)", nil)
	if err != nil {
		t.Fatal(err)
	}
	encoded := r.(messageReader) //nolint:forcetypeassert // TestMessages checks it
	n := 0
	for range encoded.Messages() {
		n++
	}
	if n < 2 || !errors.As(encoded.Err(), new(*tables.SQLError)) || !strings.Contains(encoded.Err().Error(), "Could not convert") {
		t.Errorf("%d messages, %v", n, encoded.Err())
	}
	r.Release()
	if r, err = s.Query(t.Context(), "SELECT * FROM range(100000000)", nil); err != nil {
		t.Fatal(err)
	}
	for range r.(messageReader).Messages() { //nolint:forcetypeassert // as above
		break
	}
	r.Release()
	expect(t, s, "SELECT 1", nil, "1")
}
