package tables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"

	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/rows/arrowsafe"
	"github.com/go-partd/partd/tables/internal/rows/batches"
)

// withDefaults returns a copy of o in which defaults are filled in, or an error if an option is invalid.
func (o *Options) withDefaults() (Options, error) {
	opts := *cmp.Or(o, new(Options))
	opts.FoldAge = cmp.Or(opts.FoldAge, DefaultFoldAge)
	opts.Memory = cmp.Or(opts.Memory, DefaultMemory)
	opts.Logger = cmp.Or(opts.Logger, slog.New(slog.DiscardHandler))
	// Divide by 32, because a fold uses several times its rows' memory, and several folds run concurrently.
	opts.FoldBytes = min(cmp.Or(opts.FoldBytes, DefaultFoldBytes), opts.Memory/32, 1<<30)
	switch {
	case opts.NoTail && opts.Tail != nil:
		return opts, errors.New("options Tail and NoTail cannot be combined")
	case opts.Memory < 1<<20:
		return opts, fmt.Errorf("option Memory is %d bytes: it must be at least 1 MiB", opts.Memory)
	case opts.FoldBytes < 0:
		return opts, fmt.Errorf("option FoldBytes is %d: it must not be negative", opts.FoldBytes)
	}
	return opts, nil
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
	return &batches.Counted{RecordReader: r, OnBatch: func(b arrow.RecordBatch) {
		sum.Rows += b.NumRows()
		sum.Bytes += datafile.SizeOf(b)
	}}, sum
}

// observe returns a reader of r's batches that counts rows and bytes. When the reader is released, it calls end with
// the counts. If err is not nil, observe calls end and returns err.
func (o *Options) observe(r array.RecordReader, err error, end func(Outcome)) (array.RecordReader, error) {
	if err != nil {
		end(Outcome{Err: err})
		return nil, err
	}
	if o.Observer == nil {
		return r, nil
	}
	counted, sum := o.withCounts(r)
	out := batches.Reader(r.Schema(), batches.Of(counted), func() {
		sum.Err = r.Err()
		r.Release()
		end(*sum)
	})
	if encoded, ok := r.(encodedReader); ok {
		return &observedEncoded{out, encoded, sum}, nil
	}
	return out, nil
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
