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

	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/take"
)

// Rows is the part of array.RecordReader that a put needs.
type Rows = batches.Rows

// Source holds a put's rows: the batches that have been read, and a reader for the rest.
type Source struct {
	Schema    *arrow.Schema
	Batches   []arrow.RecordBatch // already read
	remaining array.RecordReader  // nil if no rows remain
	index     int
	cur       arrow.RecordBatch
}

var (
	// ErrNoReader is the error for a nil reader.
	ErrNoReader = errors.New("the reader of the rows is nil")
	errWasRead  = errors.New("the reader has already been read to the end, perhaps by another put: create a new one")
)

// Gather reads batches from r until they hold about maxBytes bytes. If r ends before that, all rows of the put are in
// memory, and their size is known.
func Gather(r array.RecordReader, maxBytes int64) (src *Source, err error) {
	src = &Source{}
	if r == nil {
		return src, ErrNoReader
	}
	// If r has a current batch with rows before the first Next, the caller has already read from r. If r then ends at
	// once, Gather returns errWasRead.
	hadBatchBefore := hasCurrentRows(r)
	defer func() { // Read the schema last, because some readers know it only after the first Next.
		src.Schema = r.Schema()
		if src.Schema == nil && err == nil {
			err = errors.New("the rows have no columns")
		}
	}()
	for size := int64(0); ; {
		if !r.Next() {
			if err := r.Err(); err != nil {
				src.Release()
				return src, err
			}
			if hadBatchBefore || len(src.Batches) == 0 && wasRead(r) {
				return src, errWasRead
			}
			if len(src.Batches) > 0 {
				recordEnd(r)
			}
			return src, nil
		}
		hadBatchBefore = false
		batch := r.RecordBatch()
		if batch.NumRows() == 0 {
			continue
		}
		batch.Retain()
		src.Batches = append(src.Batches, batch)
		size += SizeOf(batch)
		if size >= maxBytes {
			src.remaining = r
			return src, nil
		}
	}
}

// IsWhole reports whether all rows are in memory. If they are, Rewind can be called.
func (s *Source) IsWhole() bool { return s.remaining == nil }

// Rewind returns to the first row.
func (s *Source) Rewind() { s.index = 0 }

// Release releases the rows in memory.
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
		recordEnd(s.remaining)
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

// SizeOf estimates a batch's size in bytes. In a slice of a larger batch, it counts only the slice's rows.
func SizeOf(batch arrow.RecordBatch) int64 {
	var n int64
	for _, c := range batch.Columns() {
		n += bufferBytes(c.Data())
	}
	if n < 64*batch.NumRows()*batch.NumCols() {
		return n
	}
	p, err := ipc.GetRecordBatchPayload(batch)
	if err != nil {
		return n // IPC cannot encode the type; the put rejects it later
	}
	defer p.Release()
	var c byteCounter
	if err := p.SerializeBody(&c); err != nil {
		return n
	}
	return int64(c)
}

func bufferBytes(d arrow.ArrayData) (n int64) {
	for _, b := range d.Buffers() {
		if b != nil {
			n += int64(b.Len())
		}
	}
	for _, c := range d.Children() {
		n += bufferBytes(c)
	}
	return n
}

type byteCounter int64

func (c *byteCounter) Write(b []byte) (int, error) {
	*c += byteCounter(len(b))
	return len(b), nil
}

// endedReaders contains the readers whose rows have been read completely by a put. Its pointers are weak, so that it
// does not keep the readers in memory.
var endedReaders sync.Map // of weak.Pointer[byte]

// hasCurrentRows reports whether a reader's current batch has rows. If it has rows before a put's first Next, the
// caller has already read from the reader. For readers from other modules, which may not allow RecordBatch before Next,
// it returns false.
func hasCurrentRows(r array.RecordReader) bool {
	if identity(r) == nil {
		return false
	}
	b := r.RecordBatch()
	return b != nil && b.NumRows() > 0
}

// recordEnd remembers that a reader has ended. It skips readers that keep their last batch, because hasCurrentRows
// detects that these have ended.
func recordEnd(r array.RecordReader) {
	if p := identity(r); p != nil && r.Err() == nil && !hasCurrentRows(r) {
		key := weak.Make(p)
		endedReaders.Store(key, true)
		runtime.AddCleanup(p, func(key weak.Pointer[byte]) { endedReaders.Delete(key) }, key)
	}
}

func wasRead(r array.RecordReader) bool {
	_, ended := endedReaders.Load(weak.Make(identity(r)))
	return ended
}

// identity returns the address of a reader that Arrow or this module implements. After its end, such a reader yields
// nothing more. For other readers, identity returns nil, because they may yield more rows later, as a queue does.
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
