package shuffle

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
)

// TopK sorts records by keys and yields the first k. Records with equal keys keep their
// input order. TopK discards records early if they cannot be among the first k.
func TopK[T any](ctx context.Context, in iter.Seq2[T, error], k int, keys []Key[T], o *Options[T]) iter.Seq2[T, error] {
	return pipe(in, func() (*Top[T], error) { return NewTop(ctx, k, keys, o) }, (*Top[T]).Feed, (*Top[T]).Records)
}

// Top accepts records and keeps the k that sort first by the keys.
type Top[T any] struct {
	k                 int64
	sorter            *Sorter[T]
	maxCandidateBytes int // maximum bytes of a feed's candidates

	mu          sync.Mutex
	recordCount int64 // input records of closed feeds
}

// NewTop returns a Top that works like [TopK]. The caller must close it.
func NewTop[T any](ctx context.Context, k int, keys []Key[T], o *Options[T]) (*Top[T], error) {
	if k < 0 {
		return nil, argumentErrorf("k is %d: it must be at least 0", k)
	}
	if err := checkKeys(keys); err != nil {
		return nil, err
	}
	c, err := o.resolveNoStore()
	if err != nil {
		return nil, err
	}
	// Half of the memory is for the feeds' candidates. While a buffer doubles, the old and the new
	// buffer together need three times the old size.
	maxBytes := int(c.Memory / int64(6*(c.Threads+1)))
	c.Memory /= 2
	s, err := newSorter(ctx, keys, c)
	if err != nil {
		return nil, err
	}
	return &Top[T]{k: int64(k), sorter: s, maxCandidateBytes: maxBytes}, nil
}

// Feed returns a feed. If there are more feeds than Options.Threads, the job may exceed its
// memory limit.
func (t *Top[T]) Feed() (*Feed[T], error) {
	writer, err := orZero(orZero(t.sorter).sorter).Writer()
	if err != nil {
		return nil, err
	}
	f := &topFeed[T]{t: t, add: writer.Add, tally: t.sorter.meter.newInTally()}
	return &Feed[T]{
		mu: new(sync.Mutex), tally: f.tally,
		add: f.put,
		finish: func() error {
			err := f.flush()
			t.mu.Lock()
			t.recordCount += f.recordCount
			t.mu.Unlock()
			return errors.Join(err, writer.Close())
		},
	}, nil
}

// topFeed holds a feed's candidates: the records that may be among the first k.
type topFeed[T any] struct {
	t           *Top[T]
	add         func(key, record []byte) error // passes a candidate to the sorter
	data        []byte                         // key and record of each candidate
	candidates  []candidate
	lastKey     []byte // the key of the k-th candidate; nil if there are fewer candidates
	key         []byte
	recordCount int64
	tally       *tally
}

// candidate holds offsets in topFeed.data: where the key and the record begin, and where the record ends.
type candidate struct{ key, record, end int }

const candidateSize = 24

func (f *topFeed[T]) put(v T) error {
	f.recordCount++
	f.key = appendKeys(f.key[:0], f.t.sorter.keys, v)
	f.tally.add(len(f.key))
	// If the key equals lastKey, the earlier record is kept.
	if f.t.k == 0 || f.lastKey != nil && bytes.Compare(f.key, f.lastKey) >= 0 {
		return nil
	}
	c := candidate{key: len(f.data)}
	f.data = append(f.data, f.key...)
	c.record = len(f.data)
	data, err := f.t.sorter.codec.Encode(f.data, v)
	if err != nil {
		f.data = f.data[:c.key]
		return errorf("encoding a record: %w", err)
	}
	f.data = data
	c.end = len(f.data)
	f.candidates = append(f.candidates, c)
	full := len(f.data)+candidateSize*len(f.candidates) > f.t.maxCandidateBytes
	if full || int64(len(f.candidates)) >= 2*f.t.k+1000 {
		f.keepFirst()
		// If the remaining candidates need more than half of the memory, pass them to the sorter.
		if len(f.data)+candidateSize*len(f.candidates) > f.t.maxCandidateBytes/2 {
			return f.flush()
		}
	}
	return nil
}

// keepFirst keeps the first k candidates.
func (f *topFeed[T]) keepFirst() {
	if len(f.candidates) == 0 || int64(len(f.candidates)) < f.t.k {
		return
	}
	slices.SortStableFunc(f.candidates, func(a, b candidate) int {
		return bytes.Compare(f.data[a.key:a.record], f.data[b.key:b.record])
	})
	f.candidates = f.candidates[:f.t.k]
	last := f.candidates[len(f.candidates)-1]
	f.lastKey = append(f.lastKey[:0], f.data[last.key:last.record]...)
	if f.lastKey == nil {
		f.lastKey = []byte{} // an empty key; nil would mean fewer than k candidates
	}
	// Close the gaps between the kept candidates, in the order of their offsets.
	byOffset := slices.Clone(f.candidates)
	slices.SortFunc(byOffset, func(a, b candidate) int { return a.key - b.key })
	end := 0
	for i, c := range byOffset {
		shift := c.key - end
		copy(f.data[end:], f.data[c.key:c.end])
		byOffset[i] = candidate{end, c.record - shift, c.end - shift}
		end += c.end - c.key
	}
	f.data, f.candidates = f.data[:end], byOffset
}

// flush passes all candidates to the sorter, in input order.
func (f *topFeed[T]) flush() error {
	f.keepFirst()
	for _, c := range f.candidates {
		if err := f.add(f.data[c.key:c.record], f.data[c.record:c.end]); err != nil {
			return err
		}
	}
	f.data, f.candidates = f.data[:0], f.candidates[:0]
	return nil
}

// Records yields the first k records. Close all feeds before calling it. Call it once.
func (t *Top[T]) Records() iter.Seq2[T, error] { return orZero(t.sorter).firstRecords(t.k) }

// Stats returns statistics about the work done so far.
func (t *Top[T]) Stats() Stats {
	s := orZero(t.sorter).Stats()
	t.mu.Lock()
	defer t.mu.Unlock()
	s.Records = t.recordCount
	return s
}

// Close stops the work and removes all temporary data. It must not be called during a loop
// over Records.
func (t *Top[T]) Close() error { return orZero(t.sorter).Close() }
