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

// spaceLimit limits the disk space of one namespace, by its quota and by the disk's free space. All
// namespaces share the disk.
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
func (r *spaceLimit) Admit(entries int, bytes int64) (int64, error) {
	r.once.Do(func() { // SpaceLimit does not do this, because space.New reads the directory
		r.quota, _ = space.New(space.Limits{MaxBytes: r.set.opts.MaxBytes, Used: r.usedBytes, Pending: r.pending, Reclaim: r.reclaim}) // New does not fail, because usedBytes never fails
	})
	admitted, err := r.quota.Admit(entries, bytes)
	if err == nil {
		var shared int64
		if shared, err = r.set.disk.Admit(entries, bytes); err == nil {
			return max(admitted, shared), nil // they are equal, unless one is 0 because that limit is not set
		}
		r.quota.Done(admitted)
	}
	r.set.refused.Add(1)
	return 0, err
}

func (r *spaceLimit) Done(admitted int64) {
	r.quota.Done(admitted)
	r.set.disk.Done(admitted)
}

func (r *spaceLimit) usedBytes() (bytes int64, err error) {
	err = errors.ErrUnsupported // stays set if the store is not open, because measure then calls nothing
	r.set.measure(r.name, func(s partd.Partd) { bytes, _, err = r.set.opts.Measure(s) })
	if err != nil {
		bytes = diskUsed(r.set.path(r.name))
	}
	return bytes, nil
}

func (r *spaceLimit) pending() (bytes int64) {
	r.set.measure(r.name, func(s partd.Partd) { _, bytes, _ = r.set.opts.Measure(s) })
	return bytes
}

// reclaimTime limits how long reclaiming space keeps a store open. Operations on other stores may be waiting for this
// store to close.
const reclaimTime = 10 * time.Second

func (r *spaceLimit) reclaim() {
	ctx, cancel := context.WithTimeout(r.set.life, reclaimTime)
	defer cancel()
	store, release, err := r.set.acquireStore(ctx, r.name, false, true)
	if err != nil || store == nil {
		return // the next rejected change tries again
	}
	defer release()
	r.set.opts.Reclaim(ctx, store)
}

// pending returns the size in bytes of the data that the open stores have yet to write.
func (s *Set) pending() (sum int64) {
	s.measure("", func(store partd.Partd) {
		_, bytes, _ := s.opts.Measure(store)
		sum += bytes
	})
	return sum
}

// measure calls f with the named namespace's store, if it is open. If name is "", it calls f with each open store.
func (s *Set) measure(name string, f func(partd.Partd)) {
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
	f := Stats{Open: s.openCount, MaxOpen: s.opts.MaxOpen, Refused: s.refused.Load()}
	for _, e := range s.entries {
		if e.users > 0 {
			f.InUse++
		}
	}
	return f
}
