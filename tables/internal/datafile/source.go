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

// ended has the readers whose rows puts have read to the end. It keeps none from being
// collected.
var ended sync.Map // of weak.Pointer[byte]

// atRows reports whether a reader is at a batch that has rows. One that is there before it
// is read has been read before. Of others than Arrow's and ours nothing is known: theirs may
// need a Next before there is any batch.
func atRows(r array.RecordReader) bool {
	if identity(r) == nil {
		return false
	}
	b := r.RecordBatch()
	return b != nil && b.NumRows() > 0
}

// noteEnd remembers a reader that gave rows and has ended, unless it shows so itself.
func noteEnd(r array.RecordReader) {
	if p := identity(r); p != nil && r.Err() == nil && !atRows(r) {
		key := weak.Make(p)
		ended.Store(key, true)
		runtime.AddCleanup(p, func(key weak.Pointer[byte]) { ended.Delete(key) }, key)
	}
}

// wasRead reports whether a put has read a reader's rows to the end.
func wasRead(r array.RecordReader) bool {
	_, was := ended.Load(weak.Make(identity(r)))
	return was
}

// identity returns where a reader is, if it is one of Arrow's or of ours: these stay at
// their end. Others, as those of a queue, may have rows again.
func identity(r array.RecordReader) *byte {
	if w, ok := r.(interface{ Unwrap() array.RecordReader }); ok {
		return identity(w.Unwrap())
	}
	v := reflect.ValueOf(r)
	if v.Kind() != reflect.Pointer {
		return nil
	}
	path := v.Type().Elem().PkgPath()
	ours, cut := strings.CutPrefix(path, "github.com/go-partd/partd/tables")
	if !strings.HasPrefix(path, "github.com/apache/arrow-go/") && (!cut || ours != "" && ours[0] != '/') {
		return nil
	}
	return (*byte)(v.UnsafePointer())
}
