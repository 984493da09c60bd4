package tables

import (
	"cmp"
	"context"
	"iter"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"

	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/rows/arrowsafe"
)

// Observer is called for operations on tables, for metrics and traces. Packages tablesotel and flightd implement it for
// OpenTelemetry and Prometheus. An Observer must be safe for concurrent use, and fast, because operations wait for it.
// It is also called for operations within other operations, such as the scan of a query or the fold of an update.
type Observer interface {
	// Begin is called when an operation begins. It returns the context for the operation, which can hold a span, and a
	// function that is called exactly once, when the operation ends.
	Begin(ctx context.Context, o Operation) (_ context.Context, end func(Outcome))
}

// Operation identifies an operation for an Observer.
type Operation struct {
	// Name is put, scan, changes, query, exec, update (a transaction), rewrite (DeleteRows, ReplaceRange or Upsert),
	// fold, compact, expire or maintain (of one table).
	Name string

	// Bucket and Table are "" if the operation can concern several tables. For query and exec, Bucket is the option
	// Bucket.
	Bucket, Table string
}

// Outcome is the result of an operation.
type Outcome struct {
	Rows     int64         // rows put, read, folded or changed by exec, or the sum of rows deleted and written
	Bytes    int64         // approximate size, in Arrow format, of the rows put or read
	Duration time.Duration // an operation that returns a reader ends when the reader is released
	Err      error
}

func ignoreOutcome(Outcome) {}

// begin reports the start of an operation to the Observer, if there is one.
func (o *Options) begin(ctx context.Context, name, bucket, table string) (_ context.Context, end func(Outcome)) {
	if o.Observer == nil {
		return ctx, ignoreOutcome
	}
	start := time.Now()
	ctx, report := o.Observer.Begin(ctx, Operation{name, bucket, table})
	return ctx, func(result Outcome) {
		result.Duration = time.Since(start)
		report(result)
	}
}

// withCounts wraps r to count its rows and bytes in the Outcome. Without an Observer, the counts stay 0.
func (o *Options) withCounts(r array.RecordReader) (array.RecordReader, *Outcome) {
	sum := &Outcome{}
	if o.Observer == nil || r == nil {
		return r, sum
	}
	return &arrowsafe.Counted{RecordReader: r, OnBatch: func(b arrow.RecordBatch) {
		sum.Rows += b.NumRows()
		sum.Bytes += datafile.SizeOf(b)
	}}, sum
}

// observe returns a reader of r's batches that counts rows and bytes, and calls end with the counts when the reader is
// released.
func (o *Options) observe(r array.RecordReader, end func(Outcome)) array.RecordReader {
	if o.Observer == nil {
		return r
	}
	counted, sum := o.withCounts(r)
	out := arrowsafe.Reader(r.Schema(), arrowsafe.Batches(counted), func() {
		sum.Err = r.Err()
		r.Release()
		end(*sum)
	})
	if encoded, ok := r.(encodedReader); ok {
		return &observedEncoded{out, encoded, sum}
	}
	return out
}

// encodedReader is a query result that Flight can send without decoding it.
type encodedReader interface {
	Messages() iter.Seq[*flight.FlightData]
	Err() error
}

type observedEncoded struct {
	array.RecordReader
	encoded encodedReader
	sum     *Outcome
}

func (o *observedEncoded) Messages() iter.Seq[*flight.FlightData] {
	return func(yield func(*flight.FlightData) bool) {
		for m := range o.encoded.Messages() {
			o.sum.Rows += arrowsafe.Message{Header: m.DataHeader, Body: m.DataBody}.Rows()
			o.sum.Bytes += int64(len(m.DataBody))
			if !yield(m) {
				return
			}
		}
	}
}

func (o *observedEncoded) Err() error { return cmp.Or(o.RecordReader.Err(), o.encoded.Err()) }
