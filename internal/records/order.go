package records

import (
	"context"
	"sync"
)

// order puts together, in the order of the input, what workers found at the same
// time.
type order struct {
	cancel context.CancelCauseFunc

	mu    sync.Mutex
	next  int64             // the first block that is not merged yet
	done  map[int64]*result // of blocks after it
	turns map[int64]chan struct{}
	lines int64 // of the input, before block next
	tally Tally
	err   error
}

// place is the input that a block is of.
type place struct {
	name    string
	fresh   bool  // the block is the input's first
	skipped int64 // lines of the input that no block holds
}

// result is what came of a block. Lines count from the block's first as 1.
type result struct {
	seq int64
	place
	lines   int64 // of the block
	tally   Tally
	bad     error // the first bad record left out
	badLine int64
	err     error
	errLine int64 // 0: the error says where
}

// finish takes the result of a block.
func (o *order) finish(r *result) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.done[r.seq] = r
	for o.err == nil {
		r := o.done[o.next]
		if r == nil {
			break
		}
		delete(o.done, o.next)
		o.next++
		o.merge(r)
		if turn := o.turns[o.next]; turn != nil && o.err == nil {
			close(turn)
			delete(o.turns, o.next)
		}
	}
}

func (o *order) merge(r *result) {
	if r.fresh {
		o.lines = r.skipped
	}
	if r.bad != nil && o.tally.FirstBad == nil {
		o.tally.FirstBad = &Error{r.name, o.lines + r.badLine, r.bad}
	}
	if o.err = r.err; o.err != nil {
		if r.errLine > 0 {
			o.err = &Error{r.name, o.lines + r.errLine, r.err}
		}
		o.cancel(o.err)
		return
	}
	if o.tally.First == nil {
		o.tally.First = r.tally.First
	}
	o.tally.Add(&r.tally)
	o.lines += r.lines
}

// lacksFirst reports whether no block merged so far holds a record.
func (o *order) lacksFirst() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.tally.First == nil
}

// turn returns a channel that is closed once all blocks before seq are merged.
func (o *order) turn(seq int64) <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.next == seq && o.err == nil {
		now := make(chan struct{})
		close(now)
		return now
	}
	if o.turns[seq] == nil {
		o.turns[seq] = make(chan struct{})
	}
	return o.turns[seq]
}
