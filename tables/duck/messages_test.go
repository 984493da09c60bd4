//go:build cgo && linux

package duck_test

import (
	"errors"
	"io"
	"iter"
	"strings"
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
	s := newStore(t, &duck.Options{Processes: true, Queries: 1})
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
	}
}

// TestMessagesFail fails a statement behind its first rows, and leaves another one.
func TestMessagesFail(t *testing.T) {
	s := newStore(t, &duck.Options{Processes: true, Queries: 1})
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
