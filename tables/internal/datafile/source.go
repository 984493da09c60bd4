package datafile

import (
	"errors"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"weak"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/go-partd/partd/tables/internal/arrowsafe"
	"github.com/go-partd/partd/tables/internal/take"
)

// Rows has the methods of array.RecordReader that a put needs.
type Rows = arrowsafe.Rows

// Source is the rows of a put: the batches that were read, and the reader of the remaining rows.
type Source struct {
	Schema    *arrow.Schema
	Batches   []arrow.RecordBatch // already read
	remaining array.RecordReader  // nil if there are no more rows
	index     int
	cur       arrow.RecordBatch
}

var (
	// ErrNoReader is returned by a put whose reader is nil.
	ErrNoReader = errors.New("the reader of the rows is nil")
	errWasRead  = errors.New("the reader has already been read to its end, for example by another put: make a new one")
)

// Gather reads up to about maxBytes bytes of r, so that the size of a small put is known and its rows can be
// read again.
func Gather(r array.RecordReader, maxBytes int64) (src *Source, err error) {
	src = &Source{}
	if r == nil {
		return src, ErrNoReader
	}
	wasUsed := atRows(r) // some readers keep their last batch after the end
	defer func() {       // some readers know their schema only after reading
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
			if wasUsed || len(src.Batches) == 0 && wasRead(r) {
				return src, errWasRead
			}
			if len(src.Batches) > 0 {
				noteEnd(r)
			}
			return src, nil
		}
		wasUsed = false
		batch := r.RecordBatch()
		if batch.NumRows() == 0 {
			continue
		}
		batch.Retain()
		src.Batches = append(src.Batches, batch)
		if size += SizeOf(batch); size >= maxBytes {
			src.remaining = r
			return src, nil
		}
	}
}

// IsWhole reports whether all rows have been read, so that Rewind can be used.
func (s *Source) IsWhole() bool { return s.remaining == nil }

// Rewind returns to the first row.
func (s *Source) Rewind() { s.index = 0 }

// Release releases the rows that were read.
func (s *Source) Release() { take.Release(s.Batches) }

func (s *Source) Next() bool {
	if s.index < len(s.Batches) {
		s.cur = s.Batches[s.index]
		s.index++
		return true
	}
	if s.remaining == nil {
		return false
	}
	if !s.remaining.Next() {
		noteEnd(s.remaining)
		return false
	}
	s.cur = s.remaining.RecordBatch()
	return true
}

func (s *Source) RecordBatch() arrow.RecordBatch { return s.cur }

func (s *Source) Err() error {
	if s.remaining == nil {
		return nil
	}
	return s.remaining.Err()
}

// SizeOf estimates the bytes of a batch. A slice of a larger batch counts only its own rows.
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
		return n // IPC cannot encode the type; the put refuses it later
	}
	defer p.Release()
	var c counter
	if err := p.SerializeBody(&c); err != nil {
		return n
	}
	return int64(c)
}

// buffers returns the total size of an array's buffers.
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

// endedReaders contains the readers that puts have read to their end. It does not keep them from garbage
// collection.
var endedReaders sync.Map // of weak.Pointer[byte]

// atRows reports whether a reader has a current batch with rows. If so before a put calls Next, the reader
// was used before. It only checks readers of Arrow and of this module, because others may not allow
// RecordBatch before Next.
func atRows(r array.RecordReader) bool {
	if identity(r) == nil {
		return false
	}
	b := r.RecordBatch()
	return b != nil && b.NumRows() > 0
}

// noteEnd records that a reader yielded rows and ended. This is unnecessary if the reader still has its last
// batch, which atRows detects.
func noteEnd(r array.RecordReader) {
	if p := identity(r); p != nil && r.Err() == nil && !atRows(r) {
		key := weak.Make(p)
		endedReaders.Store(key, true)
		runtime.AddCleanup(p, func(key weak.Pointer[byte]) { endedReaders.Delete(key) }, key)
	}
}

// wasRead reports whether an earlier put has read a reader to its end.
func wasRead(r array.RecordReader) bool {
	_, ended := endedReaders.Load(weak.Make(identity(r)))
	return ended
}

// identity returns the address of a reader of Arrow or of this module, which yields nothing after its end. It
// returns nil for other readers, because they may yield more rows later, like a queue.
func identity(r array.RecordReader) *byte {
	if w, ok := r.(interface{ Unwrap() array.RecordReader }); ok {
		return identity(w.Unwrap())
	}
	v := reflect.ValueOf(r)
	if v.Kind() != reflect.Pointer {
		return nil
	}
	path := v.Type().Elem().PkgPath()
	subpackage, isOurs := strings.CutPrefix(path, "github.com/go-partd/partd/tables")
	if !strings.HasPrefix(path, "github.com/apache/arrow-go/") && (!isOurs || subpackage != "" && subpackage[0] != '/') {
		return nil
	}
	return (*byte)(v.UnsafePointer())
}
