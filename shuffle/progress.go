package shuffle

import (
	"sync"
	"sync/atomic"
	"time"
)

// Progress says how far the work has come. Bytes count the encodings of records or,
// where records are not stored (Aggregate, DistinctBy and the input of TopK), of
// their keys alone.
type Progress struct {
	RecordsIn, BytesIn   int64 // put in
	RecordsOut, BytesOut int64 // that came out: records, or results; what is read twice counts twice
}

// How often progress is told. A tally counts for itself, so that goroutines do not
// wait for each other, and the clock is not asked for each record.
const (
	progressInterval = 100 * time.Millisecond
	tallyRecords     = 256
	tallyBytes       = 256 << 10
)

// meter tells progress; nil where nobody asked for it.
type meter struct {
	call  func(Progress)
	start time.Time
	last  atomic.Int64 // of the calls, in nanoseconds from start
	mu    sync.Mutex   // held while call runs

	in, out amount
}

type amount struct{ records, bytes atomic.Int64 }

// feeding returns the tally of a feed, reading that of a reader.
func (m *meter) feeding() *tally {
	if m == nil {
		return nil
	}
	return &tally{meter: m, sum: &m.in}
}

func (m *meter) reading() *tally {
	if m == nil {
		return nil
	}
	return &tally{meter: m, sum: &m.out}
}

// tell calls. mu is held.
func (m *meter) tell() {
	m.last.Store(int64(time.Since(m.start)))
	m.call(Progress{m.in.records.Load(), m.in.bytes.Load(), m.out.records.Load(), m.out.bytes.Load()})
}

// tally is what one feed or reader has counted and not yet added to its meter.
type tally struct {
	meter          *meter
	sum            *amount
	records, bytes int64
}

func (t *tally) add(size int) {
	if t != nil {
		t.records++
		t.bytes += int64(size)
	}
}

// due adds to the meter what was counted, if it is much, and reports whether it
// is time to tell.
func (t *tally) due() bool {
	if t == nil || t.records < tallyRecords && t.bytes < tallyBytes {
		return false
	}
	t.flush()
	return time.Since(t.meter.start)-time.Duration(t.meter.last.Load()) >= progressInterval
}

func (t *tally) flush() {
	t.sum.records.Add(t.records)
	t.sum.bytes.Add(t.bytes)
	t.records, t.bytes = 0, 0
}

// tell tells, unless somebody is just doing so. It is called without locks, so
// that who is told may ask for [Stats].
func (t *tally) tell() {
	if t.meter.mu.TryLock() {
		defer t.meter.mu.Unlock()
		t.meter.tell()
	}
}

// count is add, due and tell for who holds no locks.
func (t *tally) count(size int) {
	t.add(size)
	if t.due() {
		t.tell()
	}
}

// end tells all that was counted.
func (t *tally) end() {
	if t != nil {
		t.meter.mu.Lock()
		defer t.meter.mu.Unlock()
		t.flush()
		t.meter.tell()
	}
}
