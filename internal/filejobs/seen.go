package filejobs

import (
	"context"
	"errors"

	"github.com/go-partd/partd/internal/hashagg"
	"github.com/go-partd/partd/internal/tempdir"
)

// seenKeys knows keys that were added. When its memory is full it forgets them
// all, and where that finds few that were added twice, it gives up.
type seenKeys struct {
	ctx    context.Context
	temp   *tempdir.Set
	memory int64

	keys  *hashagg.Aggregator
	table *hashagg.Table
	bytes int64 // that the keys take
	added int64
	known int64
	off   bool

	dropped int64 // records of known keys
}

// keyOverhead is what a key takes beside its bytes, with room for tables that
// are half empty and grow.
const keyOverhead = 64

// add reports whether a key is known, and adds it.
func (s *seenKeys) add(key []byte) (known bool, err error) {
	if s.off {
		return false, nil
	}
	if s.table == nil {
		s.keys, err = hashagg.New(s.ctx, hashagg.Options{Memory: max(s.memory, hashagg.MinMemory), Threads: 1, Temp: s.temp})
		if err != nil {
			return false, err
		}
		if s.table, err = s.keys.Table(); err != nil {
			return false, err
		}
	}
	if len(key) > s.table.MaxKey() {
		return false, nil
	}
	_, isNew, err := s.table.Get(key)
	if err != nil || !isNew {
		s.known++
		return err == nil, err
	}
	s.added++
	// Half of the memory is the table's, the other is for reading it back.
	if s.bytes += int64(len(key)) + keyOverhead; s.bytes > s.memory/4 {
		s.off = s.known < s.added/4
		return false, s.close()
	}
	return false, nil
}

func (s *seenKeys) close() error {
	if s.table == nil {
		return nil
	}
	err := errors.Join(s.table.Close(), s.keys.Close())
	s.table, s.keys, s.bytes, s.added, s.known = nil, nil, 0, 0, 0
	return err
}
