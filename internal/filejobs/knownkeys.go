package filejobs

import (
	"bytes"
	"container/heap"
	"context"
	"errors"
	"slices"

	"github.com/go-partd/partd/internal/hashagg"
	"github.com/go-partd/partd/internal/tempdir"
)

// firstKeys knows the first n of the keys that were added.
type firstKeys struct {
	n       int
	limit   int64 // bytes that it may take
	bytes   int64
	keys    [][]byte // a heap, the last of them on top
	off     bool     // they would take too much
	dropped int64    // keys that are not among the first
}

// keyOverhead is what a key takes beside its bytes.
const keyOverhead = 64

// add adds a key, and reports whether it is among the first n. Of equal keys those
// added first are.
func (f *firstKeys) add(key []byte) bool {
	switch {
	case f.off:
		return true
	case len(f.keys) < f.n:
		key = bytes.Clone(key)
		heap.Push(f, key)
		f.take(cap(key) + keyOverhead)
		return true
	case bytes.Compare(key, f.keys[0]) >= 0:
		f.dropped++
		return false
	}
	grown := -cap(f.keys[0])
	f.keys[0] = append(f.keys[0][:0], key...)
	grown += cap(f.keys[0])
	heap.Fix(f, 0)
	f.take(grown)
	return true
}

// take counts bytes that the keys take, and gives up where they are too many.
func (f *firstKeys) take(n int) {
	if f.bytes += int64(n); f.bytes > f.limit {
		f.off, f.keys = true, nil
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

// seenKeys knows keys that were added, with a state of some words for each. When its
// memory is full it forgets them all, and where that finds few that it was good for,
// it gives up.
type seenKeys struct {
	ctx    context.Context
	temp   *tempdir.Set
	memory int64
	words  int // of a state

	keys  *hashagg.Aggregator
	table *hashagg.Table
	added int64
	known int64 // records that were dropped since it knows nothing
	off   bool

	dropped int64 // records of known keys
}

// newSeen returns keys for each thread, which share the memory, and are closed when the
// engine has ended.
func (j *job) newSeen(ctx context.Context, all seenKeys) (list []*seenKeys) {
	all.ctx, all.temp, all.memory = ctx, j.temp, all.memory/int64(j.Threads)
	for range j.Threads {
		s := all
		list = append(list, &s)
		j.closers = append(j.closers, s.close)
	}
	return list
}

// add reports whether a key is known, and adds it.
func (s *seenKeys) add(key []byte) (known bool, err error) {
	state, isNew, err := s.state(key)
	known = state != nil && !isNew
	if known {
		s.known++
		s.dropped++
	}
	return known, err
}

// state returns the state of a key, 0 if it is new, and nil if it is not kept.
func (s *seenKeys) state(key []byte) (state []uint64, isNew bool, err error) {
	if err := s.open(); err != nil || s.off || len(key) > s.table.MaxKey() {
		return nil, false, err
	}
	if state, isNew, err = s.table.Get(key); isNew {
		s.added++
	}
	return state, isNew, err
}

// states calls use with the state of each of some keys, as state returns it.
func (s *seenKeys) states(keys [][]byte, use func(i int, state []uint64, isNew bool)) error {
	if err := s.open(); err != nil {
		return err
	}
	if !s.off && !slices.ContainsFunc(keys, func(key []byte) bool { return len(key) > s.table.MaxKey() }) {
		return s.table.GetMany(keys, func(i int, state []uint64, isNew bool) {
			if isNew {
				s.added++
			}
			use(i, state, isNew)
		})
	}
	for i, key := range keys {
		state, isNew, err := s.state(key)
		if err != nil {
			return err
		}
		use(i, state, isNew)
	}
	return nil
}

// open sees to it that there is a table, unless it is given up.
func (s *seenKeys) open() (err error) {
	if s.off {
		return s.close()
	}
	if s.table != nil {
		return nil
	}
	s.keys, err = hashagg.New(s.ctx, hashagg.Options{
		Memory: max(s.memory, hashagg.MinMemory), Threads: 1, Temp: s.temp, Words: s.words, Merge: func(dst, src []uint64) {},
	})
	if err != nil {
		return err
	}
	if s.table, err = s.keys.Table(); err != nil {
		return err
	}
	s.table.DrainTo(func() error {
		s.off = s.known < s.added/4
		s.added, s.known = 0, 0
		return s.table.Drain(func(hashagg.Group) error { return nil })
	})
	return nil
}

func (s *seenKeys) close() error {
	if s.table == nil {
		return nil
	}
	err := errors.Join(s.table.Close(), s.keys.Close())
	s.table, s.keys = nil, nil
	return err
}
