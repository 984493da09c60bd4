// Package arrowvalue keeps Arrow record batches as values of any partd store:
// batches are appended under a key, by however many writers, and the key is read
// back as one stream. No table, catalog or directory is needed.
//
// A key's value is a row of frames, as package frame has them, one an append. Each
// holds a whole stream of Arrow's IPC format; all have the same schema.
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

// ErrSchema is wrapped by the error for batches whose schema is not that of the
// key.
var ErrSchema = errors.New("not the schema of the key")

// Entry returns what to append to a key for these batches, so that many keys can
// be appended to at once. Batches must be of one schema; with none, the schema
// alone is kept.
func Entry(key string, schema *arrow.Schema, batches ...arrow.RecordBatch) (partd.Entry, error) {
	value := appender(frame.Begin(nil))
	w := ipc.NewWriter(&value, ipc.WithSchema(schema))
	for _, b := range batches {
		if !b.Schema().Equal(schema) {
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

// Append appends batches to a key, as one append, which is visible whole or not
// at all.
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
