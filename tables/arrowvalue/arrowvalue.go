// Package arrowvalue stores Arrow record batches as values in any partd store: any number
// of writers append batches to a key, and a reader gets all of them as one stream. It needs
// no table, catalog or directory.
//
// The value of a key is a sequence of frames, in the format of package frame, one per
// append. Each frame holds a complete stream in Arrow's IPC format. All streams of a key
// have the same schema.
package arrowvalue

import (
	"context"
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/frame"
)

// ErrSchema is wrapped by the error for batches whose schema differs from that of their
// key.
var ErrSchema = errors.New("not the schema of the key")

// Entry returns an entry that appends batches to a key, so that one append can cover many
// keys. Every batch must have the given schema. Without batches, the entry records the
// schema alone.
func Entry(key string, schema *arrow.Schema, batches ...arrow.RecordBatch) (partd.Entry, error) {
	value := appender(frame.Begin(nil))
	w := ipc.NewWriter(&value, ipc.WithSchema(schema))
	for _, b := range batches {
		if b == nil || !b.Schema().Equal(schema) {
			return partd.Entry{}, fmt.Errorf("arrowvalue: append %s: a batch has %w", partd.QuoteKey(key), ErrSchema)
		}
		if err := w.Write(b); err != nil {
			return partd.Entry{}, fmt.Errorf("arrowvalue: append %s: %w", partd.QuoteKey(key), err)
		}
	}
	if err := w.Close(); err != nil {
		return partd.Entry{}, fmt.Errorf("arrowvalue: append %s: %w", partd.QuoteKey(key), err)
	}
	return partd.Entry{Key: key, Value: frame.End(value, 0)}, nil
}

type appender []byte

func (a *appender) Write(p []byte) (int, error) {
	*a = append(*a, p...)
	return len(p), nil
}

// Append appends batches of one schema to a key in a single append: readers see all of them
// or none. Without batches it does nothing.
func Append(ctx context.Context, store partd.Partd, key string, batches ...arrow.RecordBatch) error {
	if len(batches) == 0 {
		return nil
	}
	e, err := Entry(key, batches[0].Schema(), batches...)
	if err != nil {
		return err
	}
	return store.Append(ctx, e)
}
