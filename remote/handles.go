package remote

import (
	"fmt"
	"sync"
	"time"
)

// handles are the readers and listings that a connection has open. Each ends
// when it is read to its end, closed, not used for a time, or with the
// connection.
type handles struct {
	mu     sync.Mutex
	open   map[uint64]*handle
	last   uint64
	closed bool
}

type handle struct {
	mu    sync.Mutex
	step  uint64 // the page answered last
	page  func(a *answer) (more bool, err error)
	close func() error
	ended bool
	timer *time.Timer
}

func (h *handles) init() { h.open = map[uint64]*handle{} }

// add opens a handle, of which the first page was answered.
func (h *handles) add(page func(a *answer) (bool, error), closer func() error) (id uint64, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || len(h.open) >= mostHandles {
		_ = closer() // nothing but reading
		return 0, fmt.Errorf("%w: %d readers and listings are open on this connection, which is the limit", ErrBusy, len(h.open))
	}
	h.last++
	id = h.last
	n := &handle{page: page, close: closer}
	n.timer = time.AfterFunc(handleIdle, func() { h.remove(id) })
	h.open[id] = n
	return id, nil
}

// next answers with the next page. A step asked for twice, or left out, is an
// error, as what was read is not kept.
func (h *handles) next(a *answer, id, step uint64) error {
	h.mu.Lock()
	n := h.open[id]
	h.mu.Unlock()
	if n == nil {
		return ErrLost
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ended || step != n.step+1 {
		return ErrLost
	}
	n.timer.Reset(handleIdle)
	n.step = step
	more, err := n.page(a)
	if more && err == nil {
		a.flags |= flagMore
		return nil
	}
	h.mu.Lock()
	delete(h.open, id)
	h.mu.Unlock()
	if closing := n.end(); err == nil {
		err = closing
	}
	return err
}

// end closes what the handle reads. mu is held.
func (n *handle) end() error {
	if n.ended {
		return nil
	}
	n.ended = true
	n.timer.Stop()
	return n.close()
}

func (h *handles) remove(id uint64) {
	h.mu.Lock()
	n := h.open[id]
	delete(h.open, id)
	h.mu.Unlock()
	if n != nil {
		n.mu.Lock()
		defer n.mu.Unlock()
		_ = n.end() // nothing but reading
	}
}

// close ends all of them.
func (h *handles) close() {
	h.mu.Lock()
	h.closed = true
	open := h.open
	h.open = nil
	h.mu.Unlock()
	for _, n := range open {
		n.mu.Lock()
		_ = n.end() // nothing but reading
		n.mu.Unlock()
	}
}
