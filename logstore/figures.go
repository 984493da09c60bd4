package logstore

import (
	"sync/atomic"
	"time"
)

// Figures are what somebody who watches an open store wants to know of it. They
// count from its opening.
type Figures struct {
	Seals     int64         // tables written out as segments
	SealFails int64         // tries of that which failed
	Stalls    int64         // changes that waited for a table to be written out
	Stalled   time.Duration // the sum of these waits

	Segments int   // there are
	Disk     int64 // bytes of the files
	Dead     int64 // of them, those known to be of no use any more
	Unsealed int64 // bytes in tables, which are in write-ahead files and go to segments later
	Memory   int64 // bytes in use
	Refusal  error // why no change is possible, nil if it is
}

// counted is what only Figures needs.
type counted struct {
	seals, sealFails, stalls, stalled atomic.Int64
}

// Figures tells what the store does and has. It looks at the length of each file,
// and reads none.
func (s *Store) Figures() (Figures, error) {
	disk, err := s.diskUsed()
	if err != nil {
		return Figures{}, s.errorf("figures", err)
	}
	f := Figures{
		Seals: s.counted.seals.Load(), SealFails: s.counted.sealFails.Load(),
		Stalls: s.counted.stalls.Load(), Stalled: time.Duration(s.counted.stalled.Load()),
		Disk: disk, Unsealed: s.Unsealed(), Memory: s.MemoryUsed(),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f.Segments, f.Refusal = len(s.segments.list), s.writable()
	f.Dead = min(s.reclaim.dead(), disk)
	return f, nil
}

// Unsealed returns the bytes in tables that are still to be written out, at no cost.
func (s *Store) Unsealed() (n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.tables.inUse() {
		n += t.size
	}
	return n
}
