package remote

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/storekit"
)

// handleTable holds the handles (open readers and listings) of all connections. It limits their
// number and closes idle ones.
type handleTable struct {
	budget *budget

	maxWait time.Duration // maximum time that a handle may wait for admission
	evicted atomic.Int64  // number of handles closed for other peers

	mu        sync.Mutex // locked after openHandle.mu
	open      list.List  // of *openHandle, the least recently used first
	waiting   list.List  // of *openHandle, in order of arrival
	lastGrant time.Time  // time of the last admission
}

const handlePoll = 50 * time.Millisecond // retry interval while all handles are in use

// handles holds the open readers and listings of a connection. A handle ends when it is
// read to its end, closed, idle for too long or evicted, or when the connection ends.
type handles struct {
	table  *handleTable
	tenant *tenant
	space  *space
	mu     sync.Mutex // locked after openHandle.mu
	open   map[uint64]*openHandle
	lastID uint64
	closed bool
}

// openHandle is an open reader or listing.
type openHandle struct {
	owner    *handles
	id       uint64
	bytes    int64 // memory that the reader uses
	opened   time.Time
	lastUsed time.Time     // guarded, like place, by the table's mu
	place    *list.Element // element of the table's list open

	mu       sync.Mutex // held while a page is read; locked before the other mutexes
	lastPage uint64     // number of the last page read
	nextPage func(a *answerBuilder) (more bool, err error)
	close    func() error
	ended    bool
	timer    *time.Timer
}

// add opens a handle for the second and later pages and returns the handle's ID. page adds the next
// page to an answer, and closer closes the reader or listing.
func (h *handles) add(ctx context.Context, listing bool, page func(a *answerBuilder) (bool, error), closer func() error) (id uint64, err error) {
	oh := &openHandle{owner: h, nextPage: page, close: closer, opened: time.Now(), bytes: h.cost(listing)}
	h.mu.Lock()
	h.lastID++
	oh.id = h.lastID
	full := len(h.open) >= maxHandles
	h.mu.Unlock()
	if full {
		err = fmt.Errorf("%w: this connection already has the maximum of %d open readers and listings", ErrBusy, maxHandles)
	} else {
		err = h.table.admit(ctx, oh)
	}
	if err != nil {
		_ = closer() // closing a reader cannot lose data
		return 0, err
	}
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return 0, errors.Join(ErrLost, oh.closeReader())
	}
	defer h.mu.Unlock()
	oh.timer = time.AfterFunc(handleIdle, func() { h.remove(oh.id) })
	h.open[oh.id] = oh
	return oh.id, nil
}

// admit adds a handle to the table. If a limit is reached, it evicts an idle handle or waits until one
// ends. The handles of a tenant are admitted in order of arrival. admit fails if the handle has waited
// longer than maxWait and no handle of any tenant was admitted during that time.
func (t *handleTable) admit(ctx context.Context, oh *openHandle) error {
	t.mu.Lock()
	place, begin := t.waiting.PushBack(oh), time.Now()
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.waiting.Remove(place)
	}()
	for {
		lastGrant, isNext := t.isNext(place)
		if isNext {
			full, ok := t.budget.tryHandle(oh.owner.tenant, oh.bytes)
			if ok {
				break
			}
			owner, minIdle := t.budget.readerToClose(full, oh.owner.tenant, time.Since(begin) >= t.maxWait/2)
			if t.evict(t.leastRecentlyUsed(owner, minIdle)) {
				continue
			}
		}
		if ctx.Err() != nil || time.Since(begin) > t.maxWait && time.Since(lastGrant) > t.maxWait {
			return fmt.Errorf("%w: the maximum number of readers and listings is open, and all of them are in use", ErrBusy)
		}
		_ = canceled.Wait(ctx, time.After(handlePoll)) // the loop checks ctx
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lastGrant = time.Now()
	oh.lastUsed = t.lastGrant // not oh.opened, because a handle that has waited long must not be evicted at once
	oh.place = t.open.PushBack(oh)
	return nil
}

// isNext reports whether no earlier handle of the same tenant is waiting. It also returns the time
// of the last admission.
func (t *handleTable) isNext(place *list.Element) (lastGrant time.Time, isNext bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for e := place.Prev(); e != nil; e = e.Prev() {
		if e.Value.(*openHandle).owner.tenant == place.Value.(*openHandle).owner.tenant {
			return t.lastGrant, false
		}
	}
	return t.lastGrant, true
}

// find returns the least recently used handle that matches, or nil.
func (t *handleTable) find(match func(oh *openHandle, idle time.Duration) bool) *openHandle {
	t.mu.Lock()
	defer t.mu.Unlock()
	for e := t.open.Front(); e != nil; e = e.Next() {
		if oh := e.Value.(*openHandle); match(oh, time.Since(oh.lastUsed)) {
			return oh
		}
	}
	return nil
}

// leastRecentlyUsed returns the least recently used handle of owner, or of any tenant if owner is
// nil. The handle must not be in use and must have been idle for minIdle. leastRecentlyUsed returns
// nil if no handle qualifies.
func (t *handleTable) leastRecentlyUsed(owner *tenant, minIdle time.Duration) *openHandle {
	return t.find(func(oh *openHandle, idle time.Duration) bool {
		return (owner == nil || oh.owner.tenant == owner) && idle > 0 && idle >= minIdle
	})
}

// evict closes a handle in favor of other peers. It returns false if oh is nil or no longer open.
func (t *handleTable) evict(oh *openHandle) bool {
	if oh == nil || !oh.owner.remove(oh.id) {
		return false
	}
	t.evicted.Add(1)
	return true
}

// reap closes the least recently used handle to free memory, unless it was used within
// slowAfter.
func (t *handleTable) reap() { t.evict(t.leastRecentlyUsed(nil, slowAfter)) }

// endIdle closes the least recently used handle outside the default namespace, unless it was used
// within slowAfter. Idle handles keep stores open, which can prevent other stores from being opened.
func (t *handleTable) endIdle() {
	t.evict(t.find(func(oh *openHandle, idle time.Duration) bool { return oh.owner.space.name != "" && idle > slowAfter }))
}

// closeDropped closes the handles of p that were opened before the given time of a drop, because they
// keep deleted files on disk. It spares handles that were used within minIdle.
func (t *handleTable) closeDropped(p *space, before time.Time, minIdle time.Duration) {
	var toClose []*openHandle
	t.mu.Lock()
	for e := t.open.Front(); e != nil; e = e.Next() {
		if oh := e.Value.(*openHandle); oh.owner.space == p && oh.opened.Before(before) && time.Since(oh.lastUsed) >= minIdle {
			toClose = append(toClose, oh)
		}
	}
	t.mu.Unlock()
	for _, oh := range toClose {
		oh.owner.remove(oh.id)
	}
}

// markUsed records that a handle was used or, if open is false, that it was closed. The handle
// cannot be evicted during the given protection time.
func (t *handleTable) markUsed(oh *openHandle, open bool, protection time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	oh.lastUsed = time.Now().Add(protection)
	if open {
		t.open.MoveToBack(oh.place)
	} else {
		t.open.Remove(oh.place)
	}
}

// read adds the next page of a handle to an answer. pageNumber must be one more than in the previous
// call, because pages are not kept.
func (h *handles) read(a *answerBuilder, id, pageNumber uint64) error {
	h.mu.Lock()
	oh := h.open[id]
	h.mu.Unlock()
	if oh == nil {
		return ErrLost
	}
	oh.mu.Lock()
	defer oh.mu.Unlock()
	if oh.ended || pageNumber != oh.lastPage+1 {
		return ErrLost
	}
	oh.timer.Reset(handleIdle)
	h.table.markUsed(oh, true, handleIdle) // prevent eviction during the read
	oh.lastPage = pageNumber
	if oh.bytes > int64(a.pageSize) {
		// The budget already counts this handle's bytes. Few handles of this size fit in memory, and
		// readers that wait for a handle may hold the rest of the memory. So this page must not wait
		// for memory as new readers do.
		a.minFirstRaise, a.fromLargeHandle = int64(a.pageSize+a.pageSize/2), true
	}
	more, err := oh.nextPage(a)
	h.table.markUsed(oh, true, 0)
	if more && err == nil {
		a.flags |= flagMore
		return nil
	}
	h.mu.Lock()
	delete(h.open, id)
	h.mu.Unlock()
	return cmp.Or(err, oh.end())
}

func (oh *openHandle) closeReader() error {
	oh.mu.Lock()
	defer oh.mu.Unlock()
	return oh.end()
}

// end closes the handle's reader. mu must be held.
func (oh *openHandle) end() error {
	if oh.ended {
		return nil
	}
	oh.ended = true
	if oh.timer != nil {
		oh.timer.Stop()
	}
	oh.owner.table.markUsed(oh, false, 0)
	oh.owner.table.budget.dropHandle(oh.owner.tenant, oh.bytes)
	return oh.close()
}

// resetIdleTimer restarts the idle timeout of a handle whose client reads slowly. The handle can still
// be evicted.
func (h *handles) resetIdleTimer(id uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if oh := h.open[id]; oh != nil {
		oh.timer.Reset(handleIdle)
	}
}

func (h *handles) remove(id uint64) bool {
	h.mu.Lock()
	oh := h.open[id]
	delete(h.open, id)
	h.mu.Unlock()
	if oh != nil {
		_ = oh.closeReader() // closing a reader cannot lose data
	}
	return oh != nil
}

func (h *handles) close() {
	h.mu.Lock()
	h.closed = true
	open := h.open
	h.open = nil
	h.mu.Unlock()
	for _, oh := range open {
		_ = oh.closeReader() // closing a reader cannot lose data
	}
}

// cost returns the memory in bytes that a reader of the store uses or, if listing is set, a listing
// of its keys. The result is at most the limit for all open handles.
func (h *handles) cost(listing bool) int64 {
	readerCost, listingCost := storekit.ReaderMemory(h.space.store)
	if listing {
		readerCost = listingCost
	}
	return min(readerCost, h.table.budget.limit[handleBytes])
}
