package shuffle

import (
	"sync"
	"sync/atomic"
	"time"
)

// Progress counts the records processed so far and the bytes of their encodings. Aggregate,
// DistinctBy and TopK do not store their input, so their BytesIn counts only the encoded keys.
type Progress struct {
	RecordsIn, BytesIn   int64 // input
	RecordsOut, BytesOut int64 // results; a result that is read twice counts twice
}

// These constants limit how often progress is reported. A tally counts tallyRecords records or
// tallyBytes bytes before it checks the time and adds its counts to the meter. Otherwise, for every
// record, goroutines would wait for each other and read the clock.
const (
	progressInterval = 100 * time.Millisecond
	tallyRecords     = 256
	tallyBytes       = 256 << 10
)

// meter reports progress. It is nil if Options.Progress is nil.
type meter struct {
	callback   func(Progress)
	start      time.Time
	lastReport atomic.Int64 // time of the last report, in nanoseconds from start
	mu         sync.Mutex   // held while callback runs

	in, out amount
}

type amount struct{ records, bytes atomic.Int64 }

// newInTally returns a tally for a feed.
func (m *meter) newInTally() *tally {
	if m == nil {
		return nil
	}
	return &tally{meter: m, sum: &m.in}
}

// newOutTally returns a tally for a reader of results.
func (m *meter) newOutTally() *tally {
	if m == nil {
		return nil
	}
	return &tally{meter: m, sum: &m.out}
}

// report calls the caller's function. mu must be held.
func (m *meter) report() {
	m.lastReport.Store(int64(time.Since(m.start)))
	m.callback(Progress{m.in.records.Load(), m.in.bytes.Load(), m.out.records.Load(), m.out.bytes.Load()})
}

// tally counts the records of one feed or reader. A nil tally counts nothing.
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

// due reports whether the caller should report progress. While the counts are small, it returns
// false. Otherwise, it first adds the counts to the meter.
func (t *tally) due() bool {
	if t == nil || t.records < tallyRecords && t.bytes < tallyBytes {
		return false
	}
	t.flush()
	return time.Since(t.meter.start)-time.Duration(t.meter.lastReport.Load()) >= progressInterval
}

func (t *tally) flush() {
	t.sum.records.Add(t.records)
	t.sum.bytes.Add(t.bytes)
	t.records, t.bytes = 0, 0
}

// report reports progress, unless another goroutine is reporting it. No locks may be held, because
// the caller's function may call a Stats method.
func (t *tally) report() {
	if t.meter.mu.TryLock() {
		defer t.meter.mu.Unlock()
		t.meter.report()
	}
}

// count combines add, due and report. No locks may be held.
func (t *tally) count(size int) {
	t.add(size)
	if t.due() {
		t.report()
	}
}

// end adds the remaining counts to the meter and reports progress.
func (t *tally) end() {
	if t != nil {
		t.meter.mu.Lock()
		defer t.meter.mu.Unlock()
		t.flush()
		t.meter.report()
	}
}
