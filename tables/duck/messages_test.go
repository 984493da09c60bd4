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

type encoded interface {
	Messages() iter.Seq[*flight.FlightData]
	Err() error
}

// messages are FlightData that a reader takes.
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

// TestMessages reads results of processes as messages, one after the other from the
// same process.
func TestMessages(t *testing.T) {
	told := &outcomes{}
	for _, o := range []tables.Observer{nil, told} {
		testMessages(t, observedStore(t, &duck.Options{Processes: true, Queries: 1}, o), told)
	}
	if len(told.queries) != 4 {
		t.Errorf("the Observer was told of %v", told.queries)
	}
}

// outcomes is an Observer that keeps how queries ended.
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

func testMessages(t *testing.T, s *tables.Store, told *outcomes) {
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
		all, ok := r.(encoded)
		if !ok {
			t.Fatalf("%T has no messages", r)
		}
		next, stop := iter.Pull(all.Messages())
		in, err := flight.NewRecordReader(messages{next})
		if err != nil {
			t.Fatal(sql, err)
		}
		var n int64
		for in.Next() {
			n += in.RecordBatch().NumRows()
		}
		if n != want || in.Err() != nil || all.Err() != nil || !in.Schema().Equal(r.Schema()) {
			t.Errorf("%s: %d rows, %v, %v, %v; want %d", sql, n, in.Err(), all.Err(), in.Schema(), want)
		}
		in.Release()
		stop()
		r.Release()
		if i := len(told.queries) - 1; i >= 0 && (told.queries[i].Rows != want || told.queries[i].Err != nil) {
			t.Errorf("%s: the Observer was told %+v", sql, told.queries[i])
		}
	}
}

// TestMessagesFail fails a statement behind its first rows, and leaves another one.
func TestMessagesFail(t *testing.T) {
	testMessagesFail(t, newStore(t, &duck.Options{Processes: true, Queries: 1}))
	told := &outcomes{}
	testMessagesFail(t, observedStore(t, &duck.Options{Processes: true, Queries: 1}, told))
	if len(told.queries) != 3 || !errors.As(told.queries[0].Err, new(*tables.SQLError)) || told.queries[1].Err != nil {
		t.Errorf("the Observer was told %+v", told.queries)
	}
}

func testMessagesFail(t *testing.T, s *tables.Store) {
	t.Helper()
	r, err := s.Query(t.Context(), "SELECT CASE WHEN range < 900000 THEN '1' ELSE 'x' END::INT FROM range(1000000)", nil)
	if err != nil {
		t.Fatal(err)
	}
	all := r.(encoded) //nolint:forcetypeassert // as TestMessages
	n := 0
	for range all.Messages() {
		n++
	}
	if n < 2 || !errors.As(all.Err(), new(*tables.SQLError)) || !strings.Contains(all.Err().Error(), "Could not convert") {
		t.Errorf("%d messages, %v", n, all.Err())
	}
	r.Release()
	if r, err = s.Query(t.Context(), "SELECT * FROM range(100000000)", nil); err != nil {
		t.Fatal(err)
	}
	for range r.(encoded).Messages() { //nolint:forcetypeassert // as above
		break
	}
	r.Release()
	expect(t, s, "SELECT 1", nil, "1")
}
