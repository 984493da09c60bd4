package extsort

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"

	"github.com/go-partd/partd/internal/base/ledger"
	"github.com/go-partd/partd/internal/engine/spill"
)

// Writer adds the records of one goroutine.
type Writer struct {
	s       *Sorter
	buf     []byte
	records int          // number of records in buf
	count   ledger.Count // count and checksum of the records in buf
	batch   uint64       // number of the batch, if ordered
	ordered bool         // the writer is from Sorter.Batch
	closed  bool
	err     error
}

// Writer returns a writer. Records with equal keys keep their order only if they come from the
// same writer.
func (s *Sorter) Writer() (*Writer, error) { return s.newWriter(0, false) }

// Batch returns the writer for a batch. Batches are numbered from 0 without gaps; records with
// equal keys are sorted by batch. Several batches can be written at the same time. A batch that
// outgrows its buffer blocks until all earlier batches are closed, so a batch must not wait for a
// later one. A sorter must not use both Writer and Batch.
func (s *Sorter) Batch(number uint64) (*Writer, error) { return s.newWriter(number, true) }

func (s *Sorter) newWriter(batch uint64, ordered bool) (*Writer, error) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if err := s.OpenWriter(); err != nil {
		return nil, err
	}
	w := &Writer{s: s, batch: batch, ordered: ordered}
	if n := len(s.buffers); n > 0 {
		w.buf, s.buffers = s.buffers[n-1], s.buffers[:n-1]
	} else {
		w.buf = make([]byte, 0, s.sizes.buffer)
	}
	return w, nil
}

// Add adds a copy of a record and its key. After an error, every further call fails.
func (w *Writer) Add(key, record []byte) error {
	if w.err != nil {
		return w.err
	}
	size := len(key) + len(record) + 2*binary.MaxVarintLen64
	if len(w.buf)+size > cap(w.buf) || w.records >= w.s.sizes.bufferRecords {
		if err := w.flush(); err != nil {
			return err
		}
		if size > cap(w.buf) {
			return w.addLong(key, record)
		}
	}
	w.append(key, record)
	return nil
}

// append adds a record to buf in the format of slots: the length of the rest, the key's length, the
// key, and the record.
func (w *Writer) append(key, record []byte) {
	lenBytes := (bits.Len(uint(len(key))|1) + 6) / 7
	itemLen := lenBytes + len(key) + len(record)
	w.buf = binary.AppendUvarint(w.buf, uint64(itemLen))
	start := len(w.buf)
	w.buf = binary.AppendUvarint(w.buf, uint64(len(key)))
	w.buf = append(w.buf, key...)
	if !w.s.opts.KeepKeys {
		start = len(w.buf)
	}
	w.buf = append(w.buf, record...)
	w.records++
	w.count.Records++
	w.count.Bytes += int64(len(record))
	w.count.Sum.AddRecord(w.buf[start:])
}

func (w *Writer) addLong(key, record []byte) error {
	if len(key)+len(record) > min(w.s.sizes.maxRecord, math.MaxUint32) {
		w.err = fmt.Errorf("%w: it has %d bytes with its key, but the limit for %d bytes of memory is %d",
			ErrTooLarge, len(key)+len(record), w.s.Memory, w.s.sizes.maxRecord)
		_ = w.s.Fail(w.err) // stops the sorter
		return w.err
	}
	savedBuffer := w.buf
	w.buf = make([]byte, 0, len(key)+len(record)+2*binary.MaxVarintLen64)
	w.append(key, record)
	err := w.flush()
	w.buf = savedBuffer[:0]
	return err
}

func (w *Writer) flush() error {
	if w.records == 0 {
		return nil
	}
	if err := w.s.addBuffer(w); err != nil {
		w.err = err
		return err
	}
	w.buf, w.records, w.count = w.buf[:0], 0, ledger.Count{}
	return nil
}

// Close passes the remaining records to the sorter. Sorted fails if a writer is still open.
func (w *Writer) Close() error {
	if w.closed {
		return w.err
	}
	w.closed = true
	err := w.err
	if err == nil {
		err = w.flush()
	}
	s := w.s
	s.Mu.Lock()
	defer s.Mu.Unlock()
	for err == nil && w.ordered && s.nextBatch != w.batch {
		err = s.ErrLocked()
		if err == nil {
			s.Cond.Wait()
		}
	}
	if w.ordered && err == nil {
		s.nextBatch++
	}
	s.Writers--
	s.buffers = append(s.buffers, w.buf[:0])
	w.buf = nil
	s.Cond.Broadcast()
	w.err = cmp.Or(w.err, fmt.Errorf("the writer: %w", spill.ErrClosed))
	return err
}
