package filejobs

import (
	"context"
	"errors"
	"slices"

	"github.com/go-partd/partd/internal/hashagg"
	"github.com/go-partd/partd/internal/tempdir"
)

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
