package namespaces

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/space"
	"github.com/go-partd/partd/remote"
)

// spaceLimit limits the disk space of one namespace by its quota and by the free space of the disk,
// which all namespaces share.
type spaceLimit struct {
	set   *Set
	name  string
	once  sync.Once
	quota *space.Guard // nil without a quota
}

// SpaceLimit implements [remote.Namespaces].
func (s *Set) SpaceLimit(name string) remote.SpaceLimit {
	if s.opts.MaxBytes == 0 && s.disk == nil {
		return nil
	}
	return &spaceLimit{set: s, name: name}
}

// Admit reserves space for a change if both the quota and the disk allow it. It returns the number of reserved bytes,
// which the caller must pass to Done.
func (l *spaceLimit) Admit(entries int, bytes int64) (int64, error) {
	l.once.Do(func() { // not in SpaceLimit, because space.New reads the directory
		l.quota, _ = space.New(space.Limits{MaxBytes: l.set.opts.MaxBytes, Used: l.usedBytes, Pending: l.pending, Reclaim: l.reclaim}) // New does not fail, because usedBytes never fails
	})
	reserved, err := l.quota.Admit(entries, bytes)
	if err == nil {
		var diskReserved int64
		diskReserved, err = l.set.disk.Admit(entries, bytes)
		if err == nil {
			return max(reserved, diskReserved), nil // they are equal, unless one is 0 because that limit is not set
		}
		l.quota.Done(reserved)
	}
	l.set.refused.Add(1)
	return 0, err
}

func (l *spaceLimit) Done(reserved int64) {
	l.quota.Done(reserved)
	l.set.disk.Done(reserved)
}

func (l *spaceLimit) usedBytes() (bytes int64, err error) {
	err = errors.ErrUnsupported // remains if the store is not open, because withOpenStores then calls no function
	l.set.withOpenStores(l.name, func(s partd.Partd) { bytes, _, err = l.set.opts.Measure(s) })
	if err != nil {
		bytes = diskUsed(l.set.path(l.name))
	}
	return bytes, nil
}

func (l *spaceLimit) pending() (bytes int64) {
	l.set.withOpenStores(l.name, func(s partd.Partd) { _, bytes, _ = l.set.opts.Measure(s) })
	return bytes
}

// reclaimTime limits how long reclaiming space keeps a store open. Operations on other stores may be waiting for this
// store to close.
const reclaimTime = 10 * time.Second

func (l *spaceLimit) reclaim() {
	ctx, cancel := context.WithTimeout(l.set.life, reclaimTime)
	defer cancel()
	store, release, err := l.set.acquireStore(ctx, l.name, storeUse{long: true})
	if err != nil || store == nil {
		return // the next rejected change tries again
	}
	defer release()
	l.set.opts.Reclaim(ctx, store)
}

// pending returns the size in bytes of the data that the open stores have yet to write.
func (s *Set) pending() (sum int64) {
	s.withOpenStores("", func(store partd.Partd) {
		_, bytes, _ := s.opts.Measure(store)
		sum += bytes
	})
	return sum
}

// withOpenStores calls f with the named namespace's store, if it is open. If name is "", it calls f with each open
// store.
func (s *Set) withOpenStores(name string, f func(partd.Partd)) {
	s.mu.Lock()
	var open []*entry
	for _, e := range s.entries {
		if e.store != nil && e.changing == nil && (name == "" || e.name == name) {
			s.lease(e)
			open = append(open, e)
		}
	}
	s.mu.Unlock()
	for _, e := range open {
		f(e.store)
		s.mu.Lock()
		s.endLease(e) // release would count the measurement as a use
		s.mu.Unlock()
	}
}

// Stats holds current statistics of a [Set].
type Stats struct {
	Open, MaxOpen int   // number of open stores and its limit
	InUse         int   // number of namespaces with connected clients
	Refused       int64 // total number of changes rejected for lack of space
}

// Stats returns the current statistics.
func (s *Set) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{Open: s.openCount, MaxOpen: s.opts.MaxOpen, Refused: s.refused.Load()}
	for _, e := range s.entries {
		if e.users > 0 {
			st.InUse++
		}
	}
	return st
}
