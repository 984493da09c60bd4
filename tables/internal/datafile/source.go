package datafile

import (
	"errors"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/go-partd/partd/tables/internal/arrowsafe"
	"github.com/go-partd/partd/tables/internal/take"
)

// Rows is what is needed of an array.RecordReader.
type Rows = arrowsafe.Rows

// Source is the rows of a put: those read so far, and where there may be more.
type Source struct {
	Schema  *arrow.Schema
	Batches []arrow.RecordBatch // those read so far
	rest    array.RecordReader  // nil: that was all
	at      int
	cur     arrow.RecordBatch
}

var (
	// ErrNoReader is the error of a put of no reader.
	ErrNoReader = errors.New("the reader of the rows is nil")
	errWasRead  = errors.New("the reader was read to its end before, as by another put: make a new one")
)

// Gather reads up to about most bytes of r, so that little is known to be little,
// and can be read again.
func Gather(r array.RecordReader, most int64) (src *Source, err error) {
	src = &Source{}
	if r == nil {
		return src, ErrNoReader
	}
	before := atRows(r) // some that were read keep their last
	defer func() {      // some readers know their schema once they have read
		if src.Schema = r.Schema(); src.Schema == nil && err == nil {
			err = errors.New("there are no columns")
		}
	}()
	for size := int64(0); ; {
		if !r.Next() {
			if err := r.Err(); err != nil {
				src.Release()
				return src, err
			}
			if before || len(src.Batches) == 0 && wasRead(r) {
				return src, errWasRead
			}
			if len(src.Batches) > 0 {
				noteEnd(r)
			}
			return src, nil
		}
		before = false
		batch := r.RecordBatch()
		if batch.NumRows() == 0 {
			continue
		}
		batch.Retain()
		src.Batches = append(src.Batches, batch)
		if size += SizeOf(batch); size >= most {
			src.rest = r
			return src, nil
		}
	}
}

// Whole reports whether all rows were read, so that it can be rewound.
func (s *Source) Whole() bool { return s.rest == nil }

// Rewind goes back to the first row.
func (s *Source) Rewind() { s.at = 0 }

// Release lets go of the rows that were read.
func (s *Source) Release() { take.Release(s.Batches) }

func (s *Source) Next() bool {
	if s.at < len(s.Batches) {
		s.cur = s.Batches[s.at]
		s.at++
		return true
	}
	if s.rest == nil {
		return false
	}
	if !s.rest.Next() {
		noteEnd(s.rest)
		return false
	}
	s.cur = s.rest.RecordBatch()
	return true
}

func (s *Source) RecordBatch() arrow.RecordBatch { return s.cur }

func (s *Source) Err() error {
	if s.rest == nil {
		return nil
	}
	return s.rest.Err()
}

// SizeOf returns about how many bytes a batch takes. A slice of a larger batch
// counts as what it holds.
func SizeOf(batch arrow.RecordBatch) int64 {
	var n int64
	for _, c := range batch.Columns() {
		n += buffers(c.Data())
	}
	if n < 64*batch.NumRows()*batch.NumCols() {
		return n
	}
	p, err := ipc.GetRecordBatchPayload(batch)
	if err != nil {
		return n // a type that IPC does not know, which is refused later
	}
	defer p.Release()
	var c counter
	if err := p.SerializeBody(&c); err != nil {
		return n
	}
	return int64(c)
}

// buffers adds up what an array's buffers hold.
func buffers(d arrow.ArrayData) (n int64) {
	for _, b := range d.Buffers() {
		if b != nil {
			n += int64(b.Len())
		}
	}
	for _, c := range d.Children() {
		n += buffers(c)
	}
	return n
}

type counter int64

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}
