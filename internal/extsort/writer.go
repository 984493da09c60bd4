package extsort

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"

	"github.com/go-partd/partd/internal/ledger"
	"github.com/go-partd/partd/internal/spill"
)

// Writer takes records in, for one goroutine. It collects them in a buffer of
// its own, and hands that over when it is full.
type Writer struct {
	s       *Sorter
	buf     []byte
	records int          // in buf
	count   ledger.Count // of buf
	batch   uint64
	ordered bool
	closed  bool
	err     error
}

// Writer returns a writer. Records with equal keys stay in the order in which
// one writer took them; those of different writers may come in any order.
func (s *Sorter) Writer() (*Writer, error) { return s.newWriter(0, false) }

// Batch returns the writer of the batch with a number. The batches are numbered
// from 0 without a gap, may be written at the same time, and their records
// count as added in the order of their numbers. A writer that has more than its
// buffer holds waits until all batches before it are closed: so they must not
// wait for it. A sorter has writers or batches, not both.
func (s *Sorter) Batch(number uint64) (*Writer, error) { return s.newWriter(number, true) }

// BufferSize is how many bytes of records, their keys and about three bytes
// more for each a batch can take before it waits for those before it.
func (s *Sorter) BufferSize() int { return s.sizes.buffer }

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

// Add adds a record. Both are copied. After an error the writer takes no more.
func (w *Writer) Add(key, record []byte) error {
	if w.err != nil {
		return w.err
	}
	size := len(key) + len(record) + 2*binary.MaxVarintLen64
	if len(w.buf)+size > cap(w.buf) || w.records >= w.s.sizes.records {
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

// append adds a record to buf, as slots hold it: the length of the rest, the
// length of the key, the key, the record.
func (w *Writer) append(key, record []byte) {
	lenBytes := (bits.Len(uint(len(key))|1) + 6) / 7
	item := lenBytes + len(key) + len(record)
	w.buf = binary.AppendUvarint(w.buf, uint64(item))
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
		w.err = fmt.Errorf("%w: it has %d bytes with its key, the limit for %d bytes of memory is %d",
			ErrTooLarge, len(key)+len(record), w.s.Memory, w.s.sizes.maxRecord)
		_ = w.s.Fail(w.err)
		return w.err
	}
	usual := w.buf
	w.buf = make([]byte, 0, len(key)+len(record)+2*binary.MaxVarintLen64)
	w.append(key, record)
	err := w.flush()
	w.buf = usual[:0]
	return err
}

func (w *Writer) flush() error {
	if w.records == 0 {
		return nil
	}
	if err := w.s.take(w); err != nil {
		w.err = err
		return err
	}
	w.buf, w.records, w.count = w.buf[:0], 0, ledger.Count{}
	return nil
}

// Close hands over what is left. Records of a writer that was not closed may be
// missing, and Sorted fails as long as there is one.
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
	for err == nil && w.ordered && s.turn != w.batch {
		if err = s.Failure(); err == nil {
			s.Cond.Wait()
		}
	}
	if w.ordered && err == nil {
		s.turn++
	}
	s.Writers--
	s.buffers = append(s.buffers, w.buf[:0])
	w.buf = nil
	s.Cond.Broadcast()
	w.err = cmp.Or(w.err, fmt.Errorf("the writer: %w", spill.ErrClosed))
	return err
}
