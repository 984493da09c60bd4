package logstore

import (
	"sync/atomic"
	"time"
)

// Figures describes an open store to those who monitor it. Counters start when
// the store is opened.
type Figures struct {
	Seals     int64         // tables written out as segments
	SealFails int64         // failed attempts to write a table out
	Stalls    int64         // changes that had to wait until a table was written out
	Stalled   time.Duration // the sum of these waits

	Segments int   // there are
	Disk     int64 // bytes of the files
	Dead     int64 // the part of Disk that is known to be garbage
	Unsealed int64 // bytes in tables, which are so far only in write-ahead files
	Memory   int64 // bytes in use
	Refusal  error // why the store refuses changes, nil if it accepts them
}

// counted is what only Figures needs.
type counted struct {
	seals, sealFails, stalls, stalled atomic.Int64
}

// Figures returns figures for monitoring. It looks up the size of each file but
// reads no file.
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

// Unsealed returns the bytes in tables that are not written out yet. The call is
// cheap.
func (s *Store) Unsealed() (n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.tables.inUse() {
		n += t.size
	}
	return n
}
