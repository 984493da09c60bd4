package formats

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/jobs/records"
	"github.com/go-partd/partd/tables/internal/rows/parallel"
)

// textWorkers is the number of chunks that are processed concurrently, unless there are many columns.
const textWorkers = 4

// These are variables because tests replace them.
var (
	chunkBytes = 1 << 20 // bytes of a chunk, unless there are many columns or a record is longer
	fewColumns = 1 << 10 // files with more columns are processed one chunk at a time
)

// text is a text file, divided into chunks of whole records. A chunk counts as used once forEachChunk's callback has
// returned for it and for all earlier chunks.
type text struct {
	in     *Input
	r      io.Reader
	layout records.Layout
	names  []string // column names from the header; nil for formats without a header
	size   int      // bytes of a chunk, unless a record is longer

	block       []byte        // data that has been read but does not belong to a chunk yet
	linesBefore int64         // number of lines before block
	eof         bool          // the file has been read to its end
	largeBuffer []byte        // buffer for long records
	allUsed     chan struct{} // closed when all chunks before block have been used
}

// chunk is a sequence of whole records.
type chunk struct {
	data        []byte
	linesBefore int64         // number of lines before the chunk
	turn        chan struct{} // closed when all earlier chunks have been used
	used        chan struct{} // forEachChunk closes it when this chunk has been used
}

// newText returns a text that reads from r. If the format has a header, newText reads it.
func (in *Input) newText(ctx context.Context, r io.Reader) (_ *text, err error) {
	t := &text{in: in, r: r, size: chunkBytes, allUsed: make(chan struct{})}
	close(t.allUsed)
	if info, err := in.File.Stat(); err == nil && info.Mode().IsRegular() {
		// Small files, even compressed ones, need only small chunks.
		t.size = int(min(int64(t.size), 1+100*info.Size()))
	}
	if in.Format.Records == records.JSONL {
		t.r = linesOfArray(r)
	}
	if err := t.fill(ctx); err != nil {
		return nil, err
	}
	t.block = bytes.TrimPrefix(t.block, []byte("\ufeff"))
	if !in.Format.HasHeader() {
		t.layout = records.Layout{Format: in.Format.Records}
		return t, nil
	}
	t.layout, err = in.TextOptions.Layout(in.Format.Records)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", in.Name, err)
	}
	return t, t.readHeader(ctx)
}

func (t *text) nextChunk(ctx context.Context) (chunk, error) {
	length := t.layout.WholeRecords(t.block)
	for length == 0 && !t.eof {
		if err := t.fill(ctx); err != nil {
			return chunk{}, err
		}
		length = t.layout.WholeRecords(t.block)
	}
	if length == 0 {
		length = len(t.block) // The last record is incomplete; parsing the chunk will report that.
	}
	if length == 0 {
		return chunk{}, io.EOF
	}
	c := chunk{t.block[:length], t.linesBefore, t.allUsed, make(chan struct{})}
	t.block, t.allUsed = t.block[length:], c.used
	t.linesBefore += int64(bytes.Count(c.data, []byte("\n")))
	return c, nil
}

// fill reads more data into block. It reads a record that is longer than a chunk only after all earlier chunks have
// been used, so that only one such record is in memory.
func (t *text) fill(ctx context.Context) error {
	if len(t.block) > maxRecordSize {
		return fmt.Errorf("%s, line %d: %w: the record is larger than %d MiB", t.in.Name, t.linesBefore+1, partd.ErrTooLarge, maxRecordSize>>20)
	}
	size := t.size
	var block []byte // its capacity includes one byte for a final newline
	if 2*len(t.block) < size {
		block = make([]byte, size, size+1)
	} else {
		if err := canceled.Wait(ctx, t.allUsed); err != nil {
			return err
		}
		size = min(4*len(t.block), maxRecordSize+1)
		if cap(t.largeBuffer) <= size {
			t.largeBuffer = make([]byte, size+1)
		}
		block = t.largeBuffer[:size]
	}
	n := copy(block, t.block)
	added, err := io.ReadFull(t.r, block[n:])
	t.eof = err == io.EOF || err == io.ErrUnexpectedEOF
	if err != nil && !t.eof {
		return fmt.Errorf("%s, after line %d: %w", t.in.Name, t.linesBefore+1, err)
	}
	t.block = block[:n+added]
	if t.eof && len(t.block) > 0 && !bytes.HasSuffix(t.block, []byte("\n")) {
		t.block = append(t.block, '\n')
	}
	return nil
}

// forEachChunk calls f for each chunk, in up to workers goroutines. If f must act in file order, f has to wait until
// chunk.turn is closed. An error cancels all calls; forEachChunk returns the first error in file order.
func (t *text) forEachChunk(ctx context.Context, workers int, f func(context.Context, chunk) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var chunkErr error // error from nextChunk
	chunks := func(yield func(chunk) bool) {
		for {
			c, err := t.nextChunk(ctx)
			if err == io.EOF {
				return
			}
			chunkErr = err
			if err != nil || !yield(c) {
				return
			}
		}
	}
	err := parallel.Each(ctx, chunks, workers, func(_ context.Context, c chunk) (err error) {
		func() {
			defer func() {
				if p := recover(); p != nil {
					err = fmt.Errorf("%s: the file is damaged: %s", t.in.Name, parallel.Reason(p))
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
	return cmp.Or(err, chunkErr)
}
