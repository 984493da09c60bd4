package batches

import (
	"iter"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/util"

	"github.com/go-partd/partd/tables/internal/rows/take"
)

// Splitter divides a sequence of batches into consecutive parts.
type Splitter struct {
	next      func() (arrow.RecordBatch, error, bool)
	stop      func()
	remaining arrow.RecordBatch // rows that are not in a part yet; nil if Peek must load a batch
	err       error
}

// NewSplitter returns a Splitter of rows. The caller must close it.
func NewSplitter(rows Seq) *Splitter {
	next, stop := iter.Pull2(rows)
	return &Splitter{next: next, stop: stop}
}

// Close releases the rows that are not in a part.
func (s *Splitter) Close() {
	if s.remaining != nil {
		s.remaining.Release()
	}
	s.stop()
}

// Peek returns a batch that begins with the next part's first row, or nil if there are no more rows. The Splitter keeps
// the batch.
func (s *Splitter) Peek() (arrow.RecordBatch, error) {
	for s.remaining == nil && s.err == nil {
		b, err, ok := s.next()
		if !ok {
			return nil, nil
		}
		s.err = err
		if err == nil && b.NumRows() > 0 {
			s.remaining = b
		} else if b != nil {
			b.Release()
		}
	}
	return s.remaining, s.err
}

// A Counter returns how many rows at the start of a batch belong to the current part, and whether these complete the
// part.
type Counter func(arrow.RecordBatch) (n int64, complete bool)

// AllRows is the Counter of a part with all remaining rows.
func AllRows(b arrow.RecordBatch) (n int64, complete bool) { return b.NumRows(), false }

// Part yields the rows of the next part. The part ends when count reports that it is complete, or before the first row
// that count leaves out.
func (s *Splitter) Part(count Counter) Seq {
	return func(yield func(arrow.RecordBatch, error) bool) {
		for {
			b, err := s.Peek()
			if err != nil {
				yield(nil, err)
				return
			}
			if b == nil {
				return
			}
			n, complete := count(b)
			if n == 0 {
				return
			}
			s.remaining = nil
			if n < b.NumRows() {
				s.remaining = b.NewSlice(n, b.NumRows())
				head := b.NewSlice(0, n)
				b.Release()
				b = head
			}
			if !yield(b, nil) || complete {
				return
			}
		}
	}
}

// AtMost returns the Counter of a part with up to maxRows rows.
func AtMost(maxRows int64) Counter {
	return func(b arrow.RecordBatch) (n int64, complete bool) {
		n = min(maxRows, b.NumRows())
		maxRows -= n
		return n, maxRows == 0
	}
}

// Chunks divides batches into batches of the given number of rows; the last may have fewer. If rows is 0, it changes
// nothing.
func Chunks(batches Seq, rows int64) Seq {
	if rows <= 0 {
		return batches
	}
	return joinParts(batches, func() Counter { return AtMost(rows) })
}

// Blocks joins batches into blocks of at least size() bytes, except the last. It calls size after each batch.
func Blocks(batches Seq, size func() int64) Seq {
	return joinParts(batches, func() Counter {
		bytes := int64(0)
		return func(b arrow.RecordBatch) (n int64, complete bool) {
			bytes += util.TotalRecordSize(b)
			return b.NumRows(), bytes >= size()
		}
	})
}

// SmallBatch returns a size for Blocks that joins only small batches. A batch itself takes a kilobyte or more for each
// column, which can be many times its rows.
func SmallBatch() int64 { return 64 << 10 }

// joinParts divides batches into parts and yields each part as one batch. newCount returns the Counter of the next
// part.
func joinParts(batches Seq, newCount func() Counter) Seq {
	return func(yield func(arrow.RecordBatch, error) bool) {
		parts := NewSplitter(batches)
		defer parts.Close()
		for {
			if first, err := parts.Peek(); first == nil && err == nil {
				return
			}
			joined, err := collect(parts.Part(newCount()), take.Concat)
			if !yield(joined, err) || err != nil {
				return
			}
		}
	}
}

// collect returns the result of join for all batches of rows.
func collect(rows Seq, join func([]arrow.RecordBatch) (arrow.RecordBatch, error)) (arrow.RecordBatch, error) {
	var batches []arrow.RecordBatch
	defer func() { take.Release(batches) }()
	for b, err := range rows {
		if err != nil {
			return nil, err
		}
		batches = append(batches, b)
	}
	return join(batches)
}

// Join concatenates all rows. If there are none, it returns an empty batch with the columns of template.
func Join(rows Seq, template arrow.RecordBatch) (arrow.RecordBatch, error) {
	return collect(rows, func(batches []arrow.RecordBatch) (arrow.RecordBatch, error) {
		if len(batches) == 0 {
			return template.NewSlice(0, 0), nil
		}
		return take.Concat(batches)
	})
}
