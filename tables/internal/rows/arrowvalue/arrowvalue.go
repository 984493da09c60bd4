// Package arrowvalue stores Arrow record batches as values in any partd store. Any number of writers can append batches
// to a key, and a reader gets all of them as one stream. Package tables is not needed.
//
// The value of a key is a sequence of frames, one per append, in the format of package frame. Each frame contains a
// complete stream in Arrow's IPC format. All streams of a key have the same schema.
package arrowvalue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/frame"
	"github.com/go-partd/partd/storekit"
	"github.com/go-partd/partd/tables/internal/rows/arrowsafe"
	"github.com/go-partd/partd/tables/internal/rows/batches"
)

// errSchema is the error for a batch whose schema differs from the schema of its key.
var errSchema = errors.New("the schema differs from the key's")

// Entry returns an entry that appends batches to a key. Use it to append to several keys at once. Every batch must have
// the given schema. Without batches, the entry only records the schema.
func Entry(key string, schema *arrow.Schema, batches ...arrow.RecordBatch) (_ partd.Entry, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("arrowvalue: append %s: %w", storekit.QuoteKey(key), err)
		}
	}()
	value := bytes.NewBuffer(frame.Begin(nil))
	w := ipc.NewWriter(value, ipc.WithSchema(schema))
	for i, b := range batches {
		if b == nil || !b.Schema().Equal(schema) {
			return partd.Entry{}, fmt.Errorf("batch %d: %w", i+1, errSchema)
		}
		if err := w.Write(b); err != nil {
			return partd.Entry{}, err
		}
	}
	if err := w.Close(); err != nil {
		return partd.Entry{}, err
	}
	return partd.Entry{Key: key, Value: frame.End(value.Bytes(), 0)}, nil
}

// readLimit is the maximum memory for reading one append, including batches that the caller retains, in bytes.
const readLimit = 1 << 30

// Read returns a reader of all batches that were appended to a key. If nothing was appended, the error wraps
// fs.ErrNotExist. The reader checks each batch, so its values are safe to access even if the stored bytes are corrupt.
// The caller must release the reader.
func Read(ctx context.Context, store partd.Partd, key string) (array.RecordReader, error) {
	return read(ctx, store, key, readLimit)
}

func read(ctx context.Context, store partd.Partd, key string, limit int64) (array.RecordReader, error) {
	r := &reader{ctx: ctx, key: key, limit: limit, checker: arrowsafe.Checker{Limit: limit}}
	value, err := partd.Open(ctx, store, key)
	if err != nil {
		return nil, err
	}
	var stop func()
	r.nextFrame, stop = iter.Pull2(frame.Read(value, r.limit))
	release := func() {
		if r.ipc != nil {
			r.ipc.Release()
		}
		stop()
		_ = value.Close() // opened only for reading
	}
	err = r.advance()
	if err == nil && r.ipc == nil {
		err = fmt.Errorf("nothing was appended to the key (%w)", fs.ErrNotExist)
	}
	if err != nil {
		release()
		return nil, r.wrapError(err)
	}
	return batches.Reader(r.schema, r.batches, release), nil
}

type reader struct {
	ctx       context.Context
	key       string
	limit     int64
	nextFrame func() ([]byte, error, bool)
	schema    *arrow.Schema

	content *bytes.Reader // unread bytes of the current frame
	ipc     *ipc.Reader   // reads content; nil after the last frame
	checker arrowsafe.Checker
}

func (r *reader) wrapError(err error) error {
	return fmt.Errorf("arrowvalue: read %s: %w", storekit.QuoteKey(r.key), err)
}

// advance moves to the next frame.
func (r *reader) advance() error {
	if r.ipc != nil {
		r.ipc.Release()
		r.ipc = nil
	}
	content, err, ok := r.nextFrame()
	if !ok || err != nil {
		return err
	}
	r.content = bytes.NewReader(content)
	r.ipc, err = arrowsafe.NewReader(r.content, int64(len(content)), r.limit)
	if err != nil {
		return err
	}
	if r.schema == nil {
		r.schema = r.ipc.Schema()
	} else if !r.schema.Equal(r.ipc.Schema()) {
		return fmt.Errorf("one of the appends: %w", errSchema)
	}
	return nil
}

func (r *reader) batches(yield func(arrow.RecordBatch, error) bool) {
	for r.ipc != nil {
		batch, err := r.ipc.Read()
		switch {
		case errors.Is(err, io.EOF) && r.content.Len() > 0:
			err = fmt.Errorf("%d bytes after the end of a stream", r.content.Len())
		case errors.Is(err, io.EOF):
			err = r.advance()
			if err == nil {
				continue
			}
		case err == nil:
			_, err = r.checker.Check(r.ctx, batch)
		}
		if err != nil {
			yield(nil, r.wrapError(err))
			return
		}
		batch.Retain()
		if !yield(batch, nil) {
			return
		}
	}
}
