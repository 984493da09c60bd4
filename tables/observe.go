package tables

import (
	"cmp"
	"context"
	"iter"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"

	"github.com/go-partd/partd/tables/internal/arrowsafe"
	"github.com/go-partd/partd/tables/internal/datafile"
)

// Observer is told of what is done with tables, for metrics and traces. Package tablesotel
// has one for OpenTelemetry, package flightd one for Prometheus. Many goroutines call it at
// once, and wait for it: it must be fast. What one operation does for another is told of,
// too: a scan by a query, a fold by an update.
type Observer interface {
	// Begin is called as an operation begins. The operation goes on with the context
	// returned, which may hold a span; end is called once, when it has ended.
	Begin(ctx context.Context, o Operation) (_ context.Context, end func(Outcome))
}

// Operation is what an Observer is told of.
type Operation struct {
	// Name is put, scan, query, update (of tables by a transaction), rewrite (of some
	// rows: DeleteRows, ReplaceRange, Upsert), fold, compact or expire.
	Name          string
	Bucket, Table string // "" where it is about many
}

// Outcome is how an operation ended.
type Outcome struct {
	Rows     int64         // that were put, read, deleted and written, or folded
	Bytes    int64         // of those put or read, about, as Arrow has them
	Duration time.Duration // of a scan or a query, until its reader was released
	Err      error         // nil: it succeeded
}

func ignore(Outcome) {}

// begin tells the Observer of an operation, if there is one.
func (s *Store) begin(ctx context.Context, name, bucket, table string) (_ context.Context, end func(Outcome)) {
	if s.opts.Observer == nil {
		return ctx, ignore
	}
	start := time.Now()
	ctx, tell := s.opts.Observer.Begin(ctx, Operation{name, bucket, table})
	return ctx, func(o Outcome) {
		o.Duration = time.Since(start)
		tell(o)
	}
}

// counted counts what is read of a reader.
type counted struct {
	array.RecordReader
	sum Outcome
}

func (c *counted) Next() bool {
	more := c.RecordReader.Next()
	if more {
		b := c.RecordBatch()
		c.sum.Rows += b.NumRows()
		c.sum.Bytes += datafile.SizeOf(b)
	}
	return more
}

// Unwrap returns the reader itself.
func (c *counted) Unwrap() array.RecordReader { return c.RecordReader }

// count counts what is read of a reader, if there is an Observer, and a reader.
func (s *Store) count(r array.RecordReader) (array.RecordReader, *counted) {
	c := &counted{RecordReader: r}
	if s.opts.Observer == nil || r == nil {
		return r, c
	}
	return c, c
}

// observed tells of the end of a scan or query once its reader is released.
func (s *Store) observed(r array.RecordReader, end func(Outcome)) array.RecordReader {
	if s.opts.Observer == nil {
		return r
	}
	_, c := s.count(r)
	each := arrowsafe.Each(c, func(b arrow.RecordBatch) (arrow.RecordBatch, error) {
		b.Retain()
		return b, nil
	})
	out := arrowsafe.Reader(r.Schema(), each, func() {
		c.sum.Err = r.Err()
		r.Release()
		end(c.sum)
	})
	if apart, ok := r.(undecoded); ok {
		return &observedApart{out, apart, c}
	}
	return out
}

// undecoded is a result of an engine that Flight can send as it came.
type undecoded interface {
	Messages() iter.Seq[*flight.FlightData]
	Err() error
}

// observedApart is observed, and can be read undecoded, too.
type observedApart struct {
	array.RecordReader
	apart undecoded
	c     *counted
}

func (o *observedApart) Messages() iter.Seq[*flight.FlightData] {
	return func(yield func(*flight.FlightData) bool) {
		for m := range o.apart.Messages() {
			o.c.sum.Rows += arrowsafe.Message{Header: m.DataHeader, Body: m.DataBody}.Rows()
			o.c.sum.Bytes += int64(len(m.DataBody))
			if !yield(m) {
				return
			}
		}
	}
}

func (o *observedApart) Err() error { return cmp.Or(o.RecordReader.Err(), o.apart.Err()) }
