package filejobs

import (
	"bytes"
	"container/heap"
	"context"
	"slices"

	"github.com/go-partd/partd/internal/engine/hashagg"
)

// firstKeys holds the n smallest of the keys added to it.
type firstKeys struct {
	n        int
	maxBytes int64    // maximum memory in bytes
	bytes    int64    // memory used
	keys     [][]byte // a heap with the largest key on top
	disabled bool     // accept all keys, because they exceed maxBytes or n is too large
	dropped  int64    // number of keys that were rejected
}

// keyOverhead is the estimated memory for a key besides its bytes.
const keyOverhead = 64

// add adds a key and reports whether it is among the n smallest so far. Of equal keys, those
// added earlier come first.
func (f *firstKeys) add(key []byte) bool {
	switch {
	case f.disabled:
		return true
	case len(f.keys) < f.n:
		key = bytes.Clone(key)
		heap.Push(f, key)
		f.addBytes(cap(key) + keyOverhead)
		return true
	case bytes.Compare(key, f.keys[0]) >= 0:
		f.dropped++
		return false
	}
	delta := -cap(f.keys[0])
	f.keys[0] = append(f.keys[0][:0], key...)
	delta += cap(f.keys[0])
	heap.Fix(f, 0)
	f.addBytes(delta)
	return true
}

func (f *firstKeys) addBytes(n int) {
	f.bytes += int64(n)
	if f.bytes > f.maxBytes {
		f.disabled, f.keys = true, nil
	}
}

func (f *firstKeys) Len() int           { return len(f.keys) }
func (f *firstKeys) Less(i, j int) bool { return bytes.Compare(f.keys[i], f.keys[j]) > 0 }
func (f *firstKeys) Swap(i, j int)      { f.keys[i], f.keys[j] = f.keys[j], f.keys[i] }

func (f *firstKeys) Push(key any) { f.keys = append(f.keys, key.([]byte)) }

func (f *firstKeys) Pop() any {
	last := len(f.keys) - 1
	key := f.keys[last]
	f.keys = f.keys[:last]
	return key
}

// seenKeys remembers keys and a few words of state for each. When its memory is full, it forgets
// all keys. If too few records have had a known key by then, it also disables itself.
type seenKeys struct {
	table        *hashagg.Table
	addedKeys    int64 // number of keys in the table
	knownRecords int64 // records whose keys were in the table
	disabled     bool

	droppedRecords int64 // total number of records dropped because their keys were known
}

// maxStateWords is the maximum size of a key's state, in words.
const maxStateWords = 64

// newSeenKeys returns one seenKeys for each thread. They share the given memory. They are disabled if
// stateWords, the size of a key's state, exceeds maxStateWords.
func (j *Job) newSeenKeys(ctx context.Context, memory int64, stateWords int) ([]*seenKeys, error) {
	disabled := stateWords > maxStateWords
	list := make([]*seenKeys, j.Threads)
	for i := range list {
		list[i] = &seenKeys{disabled: disabled}
	}
	if disabled {
		return list, nil
	}
	aggregator, err := j.NewAggregator(ctx, hashagg.Options{
		Memory: max(memory, hashagg.MinMemory*int64(j.Threads)), Threads: j.Threads, Words: stateWords, Merge: func(dst, src []uint64) {},
	})
	if err != nil {
		return nil, err
	}
	for _, s := range list {
		s.table, err = aggregator.Table()
		if err != nil {
			return nil, err
		}
		s.table.DrainTo(s.forget)
	}
	return list, nil
}

func (s *seenKeys) forget() error {
	s.disabled = s.knownRecords < s.addedKeys/4
	s.addedKeys, s.knownRecords = 0, 0
	return s.table.Drain(func(hashagg.Group) error { return nil })
}

// add adds a key and reports whether it was already known.
func (s *seenKeys) add(key []byte) (known bool, err error) {
	state, isNew, err := s.state(key)
	known = state != nil && !isNew
	if known {
		s.knownRecords++
		s.droppedRecords++
	}
	return known, err
}

// state returns the state of a key. A new key's state is zero. If the key cannot be stored, the
// state is nil.
func (s *seenKeys) state(key []byte) (state []uint64, isNew bool, err error) {
	if !s.canStore(key) {
		return nil, false, s.discardIfDisabled()
	}
	state, isNew, err = s.table.Get(key)
	if isNew {
		s.addedKeys++
	}
	return state, isNew, err
}

// discardIfDisabled frees the table if s has disabled itself, so that the rest of the job can use the
// memory.
func (s *seenKeys) discardIfDisabled() error {
	if !s.disabled || s.table == nil {
		return nil
	}
	t := s.table
	s.table = nil
	return t.Discard()
}

func (s *seenKeys) canStore(key []byte) bool { return !s.disabled && len(key) <= s.table.MaxKey() }

// lookup calls handle for each key, with the key's index in keys and its state.
func (s *seenKeys) lookup(keys [][]byte, handle func(i int, state []uint64, isNew bool)) error {
	if !s.disabled && !slices.ContainsFunc(keys, func(key []byte) bool { return !s.canStore(key) }) {
		return s.table.GetMany(keys, func(i int, state []uint64, isNew bool) {
			if isNew {
				s.addedKeys++
			}
			handle(i, state, isNew)
		})
	}
	for i, key := range keys {
		state, isNew, err := s.state(key)
		if err != nil {
			return err
		}
		handle(i, state, isNew)
	}
	return nil
}
