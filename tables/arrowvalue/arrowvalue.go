// Package arrowvalue keeps Arrow record batches as values of any partd store:
// batches are appended under a key, by however many writers, and the key is read
// back as one stream. No table, catalog or directory is needed.
//
// A key's value is a row of frames, as package frame has them, one an append:
//
//	+----------------+------+---------------------------------------+
//	| length, 8 bytes| kind | messages of Arrow's IPC stream format |
//	+----------------+------+---------------------------------------+
//
// With kind 1 the schema is the first message; with kind 0 it is that of the
// frames before. Then come dictionaries and record batches. The end-of-stream
// message is left out. Frames of kind 1 may repeat the schema, but not change it.
package arrowvalue

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/frame"
)

// ErrSchema is wrapped by the error for batches whose schema is not that of the
// key.
var ErrSchema = errors.New("not the schema of the key")

const (
	kindBatches = 0
	kindSchema  = 1
)

// Entry returns what to append to a key for these batches, with their schema, so
// that many keys can be appended to at once. Batches must be of one schema; with
// none, the schema alone is kept.
func Entry(key string, schema *arrow.Schema, batches ...arrow.RecordBatch) (partd.Entry, error) {
	return entry(key, schema, true, batches)
}

func entry(key string, schema *arrow.Schema, withSchema bool, batches []arrow.RecordBatch) (partd.Entry, error) {
	m := messages{value: frame.Begin(nil), withSchema: withSchema}
	m.value = append(m.value, kindBatches)
	if withSchema {
		m.value[frame.HeaderLen] = kindSchema
	}
	w := ipc.NewWriterWithPayloadWriter(&m, ipc.WithSchema(schema))
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
	return partd.Entry{Key: key, Value: frame.End(m.value, 0)}, nil
}

// messages gathers the messages of a stream, with the schema's or without it.
type messages struct {
	value      []byte
	withSchema bool
	any        bool // the schema's, which is the first, was there
}

// Start is called before the first message.
func (m *messages) Start() error { return nil }

// Close would write the end of the stream.
func (m *messages) Close() error { return nil }

// WritePayload adds a message.
func (m *messages) WritePayload(p ipc.Payload) error {
	if first := !m.any; first {
		if m.any = true; !m.withSchema {
			return nil
		}
	}
	_, err := p.WritePayload((*appender)(&m.value))
	return err
}

type appender []byte

func (a *appender) Write(p []byte) (int, error) {
	*a = append(*a, p...)
	return len(p), nil
}

// Append appends batches to a key, together with their schema: as one append,
// which is visible whole or not at all. For many small appends a [Writer] takes
// less room.
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

// Writer appends to one key, and stores the schema with its first append only. It
// may be used by many goroutines. Once others removed the key, make another one.
type Writer struct {
	store  partd.Partd
	key    string
	schema *arrow.Schema

	mu    sync.Mutex
	known bool // an append with the schema was acknowledged
}

// NewWriter returns a Writer.
func NewWriter(store partd.Partd, key string, schema *arrow.Schema) *Writer {
	return &Writer{store: store, key: key, schema: schema}
}

// Append appends batches, as one append.
func (w *Writer) Append(ctx context.Context, batches ...arrow.RecordBatch) error {
	w.mu.Lock()
	if w.known {
		w.mu.Unlock()
		return w.append(ctx, false, batches)
	}
	defer w.mu.Unlock() // the first one goes before all others
	err := w.append(ctx, true, batches)
	w.known = err == nil
	return err
}

func (w *Writer) append(ctx context.Context, withSchema bool, batches []arrow.RecordBatch) error {
	e, err := entry(w.key, w.schema, withSchema, batches)
	if err != nil {
		return err
	}
	return w.store.Append(ctx, e)
}
