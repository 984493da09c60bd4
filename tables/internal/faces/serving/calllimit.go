package serving

import (
	"context"
	"slices"
	"sync"
)

// CallLimit limits concurrent calls of some kind, in total and per host. If a new call's host has used up its share,
// the host's oldest cancelable call is canceled. If only the total is reached, the oldest cancelable call of the host
// with the most cancelable calls is canceled. If a user's call would still be refused, but another user runs more calls
// on the same host, the other user's newest call is canceled.
type CallLimit struct {
	limit, share int

	mu      sync.Mutex
	holders []*holder // oldest first
}

// holder is a running call that counts towards a CallLimit.
type holder struct {
	host   string
	cancel func() // cancels the call; nil if it cannot be canceled
	call   *call  // nil if the call belongs to no user
}

// minPerHost is the number of calls that a host may run even if the limit is reached and no call can be canceled.
const minPerHost = 8

// NewCallLimit returns a CallLimit that allows at most limit calls in total, and at most share calls per host.
func NewCallLimit(limit, share int) *CallLimit { return &CallLimit{limit: limit, share: share} }

// Acquire counts a call from an address until release is called. If the limit does not allow the call, ok is false. If
// cancel is not nil, CallLimit may call it to end this call in favor of another one; cancel must not block.
func (l *CallLimit) Acquire(address string, cancel func()) (release func(), ok bool) {
	return l.acquire(&holder{host: HostOf(address), cancel: cancel})
}

// AcquireCall is like Acquire for ctx's call, which may be canceled in favor of another user.
func (l *CallLimit) AcquireCall(ctx context.Context) (release func(), ok bool) {
	c, _ := ctx.Value(callKey{}).(*call)
	return l.acquire(&holder{host: c.host, call: c})
}

func (l *CallLimit) acquire(h *holder) (release func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.makeRoom(h.host) && !l.cancelFor(h) {
		return nil, false
	}
	l.holders = append(l.holders, h)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.remove(h)
	}, true
}

// Count returns the number of running calls.
func (l *CallLimit) Count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.holders)
}

func (l *CallLimit) remove(h *holder) {
	l.holders = slices.DeleteFunc(l.holders, func(o *holder) bool { return o == h })
}

// makeRoom reports whether a call from host may start. It cancels another call for it if necessary. mu must be held.
func (l *CallLimit) makeRoom(host string) bool {
	ownCalls, cancelable := 0, map[string]int{}
	for _, h := range l.holders {
		if h.host == host {
			ownCalls++
		}
		if h.cancel != nil {
			cancelable[h.host]++
		}
	}
	busiest := host
	if ownCalls < l.share {
		if len(l.holders) < l.limit {
			return true
		}
		for other, n := range cancelable {
			if n > cancelable[busiest] {
				busiest = other
			}
		}
	}
	i := slices.IndexFunc(l.holders, func(h *holder) bool { return h.host == busiest && h.cancel != nil })
	if i < 0 {
		return ownCalls < min(minPerHost, l.share)
	}
	h := l.holders[i]
	l.remove(h)
	h.cancel()
	return true
}

// cancelFor cancels the newest call of the user who runs the most calls on h's host, if that user would still run no
// fewer than h's user. It reports whether it did. mu must be held.
func (l *CallLimit) cancelFor(h *holder) bool {
	if h.call == nil {
		return false
	}
	calls := map[string]int{}
	for _, o := range l.holders {
		if o.host == h.host && o.call != nil {
			calls[o.call.user]++
		}
	}
	var victim *holder
	for _, o := range l.holders { // oldest first
		if o.host != h.host || o.call == nil || calls[o.call.user] < calls[h.call.user]+2 {
			continue
		}
		if victim == nil || calls[o.call.user] >= calls[victim.call.user] {
			victim = o
		}
	}
	if victim == nil {
		return false
	}
	l.remove(victim)
	victim.call.cancel(errShare)
	return true
}
