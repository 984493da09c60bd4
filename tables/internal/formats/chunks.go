package formats

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/records"
	"github.com/go-partd/partd/tables/internal/parallel"
)

// textWorkers is the number of chunks processed concurrently, if there are few columns.
const textWorkers = 4

// Variables that tests replace.
var (
	chunkBytes = 1 << 20 // size of a chunk, if there are few columns and no long record
	fewColumns = 1 << 10 // the number of columns that still counts as few
)

// text is a file of records that is divided into chunks.
type text struct {
	in             *Input
	r              io.Reader
	layout         records.Layout
	names          []string // from a header, or nil
	maxRecordBytes int      // maximum bytes of a record
	errTooLong     error    // error for a longer record
	size           int      // size of chunks, unless a record is longer

	block   []byte        // data that was read and is not in a chunk yet
	line    int64         // lines before block
	eof     bool          // the file was read to its end
	large   []byte        // buffer for long records
	allUsed chan struct{} // closed after all earlier chunks were used
}

// chunk is a sequence of whole records of a text.
type chunk struct {
	data []byte
	line int64         // lines before the chunk
	turn chan struct{} // closed after all earlier chunks were used
	used chan struct{} // must be closed after this chunk was used
}

// newText returns a text, after reading its header if it has one.
func (in *Input) newText(ctx context.Context, r io.Reader) (*text, error) {
	t := &text{in: in, r: r, size: chunkBytes, allUsed: make(chan struct{})}
	close(t.allUsed)
	if in.Format == CSV {
		t.layout = records.Layout{Format: records.CSV, Sep: in.Sep}
		t.maxRecordBytes, t.errTooLong = maxRecord, fmt.Errorf("%w: the record has more than %d MiB", partd.ErrTooLarge, maxRecord>>20)
		return t, t.header(ctx)
	}
	t.layout = records.Layout{Format: records.JSONL}
	t.maxRecordBytes, t.errTooLong = maxRecord-1, bufio.ErrTooLong
	return t, nil
}

// nextChunk returns the next chunk, or io.EOF after the last.
func (t *text) nextChunk(ctx context.Context) (chunk, error) {
	n := t.layout.WholeRecords(t.block)
	for n == 0 && !t.eof {
		if err := t.fill(ctx); err != nil {
			return chunk{}, err
		}
		n = t.layout.WholeRecords(t.block)
	}
	if n == 0 {
		n = len(t.block) // its reader will report the fault
	}
	if n == 0 {
		return chunk{}, io.EOF
	}
	c := chunk{t.block[:n], t.line, t.allUsed, make(chan struct{})}
	t.block, t.allUsed = t.block[n:], c.used
	t.line += int64(bytes.Count(c.data, []byte("\n")))
	return c, nil
}

// fill reads more data into block. Before it reads the rest of a record longer than a chunk, it waits until
// all earlier chunks were used, so that only one such record is in memory.
func (t *text) fill(ctx context.Context) error {
	if len(t.block) > t.maxRecordBytes {
		return fmt.Errorf("%s, line %d: %w", t.in.Name, t.line+1, t.errTooLong)
	}
	size := t.size
	var block []byte // with room for a newline
	if 2*len(t.block) < size {
		block = make([]byte, size, size+1)
	} else {
		if err := canceled.Wait(ctx, t.allUsed); err != nil {
			return err
		}
		size = min(4*len(t.block), t.maxRecordBytes+1)
		if cap(t.large) <= size {
			t.large = make([]byte, size+1)
		}
		block = t.large[:size]
	}
	n := copy(block, t.block)
	added, err := io.ReadFull(t.r, block[n:])
	t.eof = err == io.EOF || err == io.ErrUnexpectedEOF
	if err != nil && !t.eof {
		return fmt.Errorf("%s, after line %d: %w", t.in.Name, t.line+1, err)
	}
	t.block = block[:n+added]
	if t.eof && len(t.block) > 0 && !bytes.HasSuffix(t.block, []byte("\n")) {
		t.block = append(t.block, '\n')
	}
	return nil
}

// inOrder calls f for each chunk, for several chunks concurrently. To act in the order of the text, f waits
// for the chunk's turn. The first error in that order stops all calls.
func (t *text) inOrder(ctx context.Context, workers int, f func(context.Context, chunk) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var cutErr error // error of nextChunk
	chunks := func(yield func(chunk) bool) {
		for {
			c, err := t.nextChunk(ctx)
			if err == io.EOF {
				return
			}
			if cutErr = err; err != nil || !yield(c) {
				return
			}
		}
	}
	err := parallel.Each(ctx, chunks, workers, func(_ context.Context, c chunk) (err error) {
		func() {
			defer func() {
				if p := recover(); p != nil {
					err = fmt.Errorf("%s: the file is damaged: %v", t.in.Name, p)
				}
			}()
			err = f(ctx, c)
		}()
		if waitErr := canceled.Wait(ctx, c.turn); waitErr != nil {
			return waitErr
		}
		if err != nil {
			cancel(canceled.Failure(err))
			return err
		}
		close(c.used)
		return nil
	})
	return cmp.Or(err, cutErr)
}
