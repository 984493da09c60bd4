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

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

type messageReader interface {
	Messages() iter.Seq[*flight.FlightData]
	Err() error
}

// messageStream adapts a sequence of FlightData to the stream that a Flight reader expects.
type messageStream struct {
	next func() (*flight.FlightData, bool)
}

func (m messageStream) Recv() (*flight.FlightData, error) {
	data, ok := m.next()
	if !ok {
		return nil, io.EOF
	}
	return data, nil
}

// TestMessages checks that the results of statements can be read as the encoded messages that their processes send.
func TestMessages(t *testing.T) {
	observer := &queryObserver{}
	for _, o := range []tables.Observer{nil, observer} {
		testMessages(t, observedStore(t, &duck.Options{Processes: true, Queries: 1}, o), observer)
	}
	if len(observer.queries) != 4 {
		t.Errorf("Observer received %v, want 4 queries", observer.queries)
	}
}

// queryObserver is an Observer that records the outcomes of queries.
type queryObserver struct {
	mu      sync.Mutex
	queries []tables.Outcome
}

func (o *queryObserver) Begin(ctx context.Context, op tables.Operation) (context.Context, func(tables.Outcome)) {
	return ctx, func(out tables.Outcome) {
		o.mu.Lock()
		defer o.mu.Unlock()
		if op.Name == "query" {
			o.queries = append(o.queries, out)
		}
	}
}

func testMessages(t *testing.T, s *tables.Store, observer *queryObserver) {
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
			t.Fatalf("%v: Query: %v", sql, err)
		}
		encoded, ok := r.(messageReader)
		if !ok {
			t.Fatalf("%T has no messages", r)
		}
		next, stop := iter.Pull(encoded.Messages())
		in, err := flight.NewRecordReader(messageStream{next})
		if err != nil {
			t.Fatalf("%v: NewRecordReader: %v", sql, err)
		}
		n, err := tabletest.CountRows(in)
		if n != want || err != nil || encoded.Err() != nil || !in.Schema().Equal(r.Schema()) {
			t.Errorf("%s: got %d rows of schema %v, want %d of %v; errors %v and %v", sql, n, in.Schema(), want, r.Schema(), err, encoded.Err())
		}
		stop()
		r.Release()
		if i := len(observer.queries) - 1; i >= 0 && (observer.queries[i].Rows != want || observer.queries[i].Err != nil) {
			t.Errorf("%s: Observer received %+v, want %d rows and no error", sql, observer.queries[i], want)
		}
	}
}

// TestMessagesFail checks that an error after the first rows is reported, and that reading can stop early.
func TestMessagesFail(t *testing.T) {
	testMessagesFail(t, newStore(t, &duck.Options{Processes: true, Queries: 1}))
	observer := &queryObserver{}
	testMessagesFail(t, observedStore(t, &duck.Options{Processes: true, Queries: 1}, observer))
	if len(observer.queries) != 3 || !errors.As(observer.queries[0].Err, new(*tables.SQLError)) || observer.queries[1].Err != nil {
		t.Errorf("Observer received %+v, want 3 queries, of which only the first failed", observer.queries)
	}
}

func testMessagesFail(t *testing.T, s *tables.Store) {
	t.Helper()
	r, err := s.Query(t.Context(), "SELECT CASE WHEN range < 900000 THEN '1' ELSE 'x' END::INT FROM range(1000000)", nil)
	must.Do(t, err)
	encoded := r.(messageReader) //nolint:forcetypeassert // TestMessages checks it
	n := 0
	for range encoded.Messages() {
		n++
	}
	if n < 2 || !errors.As(encoded.Err(), new(*tables.SQLError)) || !strings.Contains(encoded.Err().Error(), "Could not convert") {
		t.Errorf("got %d messages and error %v, want several messages and then a conversion error", n, encoded.Err())
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
