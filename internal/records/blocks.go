package records

import (
	"context"
	"fmt"
	"slices"

	"github.com/go-partd/partd"
)

// All blocks have the configured size, but one: where a record is longer, one
// block at a time is as large as it takes.

// send hands a batch over.
func (r *reader) send(b batch) error {
	select {
	case r.full <- b:
		return nil
	case <-r.ctx.Done():
		return context.Cause(r.ctx)
	}
}

// nextList waits for a list of entries to fill.
func (r *reader) nextList() (err error) {
	select {
	case r.entries = <-r.lists:
		return nil
	case <-r.ctx.Done():
		return context.Cause(r.ctx)
	}
}

// turn hands the block over and takes another, at the beginning of which it
// copies the record that was cut.
func (r *reader) turn() error {
	old := r.block
	tail := old[r.start:]
	if err := r.send(batch{entries: r.entries, block: old}); err != nil {
		return err
	}
	if err := r.nextList(); err != nil {
		return err
	}
	// What lies in the old block stays there until it is taken again.
	n := r.cfg.Block
	if len(tail) >= n-1 {
		n = cap(old)
	}
	block, err := r.takeBlock(n)
	if err != nil {
		return err
	}
	r.block = block[:copy(block[:len(tail)], tail)]
	r.start, r.limit = 0, min(n-1, max(r.cfg.Block-1, 2*len(tail)))
	return nil
}

// takeBlock waits for a block of n bytes at least.
func (r *reader) takeBlock(n int) ([]byte, error) {
	var small [][]byte
	defer func() {
		for _, b := range small {
			r.empty <- b
		}
	}()
	for {
		select {
		case b := <-r.empty:
			if cap(b) >= n {
				return b[:0], nil
			}
			small = append(small, b)
		case <-r.ctx.Done():
			return nil, context.Cause(r.ctx)
		}
	}
}

// grow makes room for a record that fills the block. It waits until all other
// blocks are free; a block that is larger than they all replaces the largest.
func (r *reader) grow(in *Input) error {
	if r.limit >= r.cfg.MaxRecord {
		return &Error{in.Name, r.split.Line, r.tooLong()}
	}
	r.limit = min(4*r.limit, r.cfg.MaxRecord)
	if cap(r.block) > r.limit {
		return nil
	}
	all := [blocks][]byte{r.block}
	for i := range all[1:] {
		select {
		case all[i+1] = <-r.empty:
		case <-r.ctx.Done():
			return context.Cause(r.ctx)
		}
	}
	slices.SortFunc(all[:], func(a, b []byte) int { return cap(b) - cap(a) })
	largest := all[0]
	if cap(largest) <= r.limit {
		largest = make([]byte, 0, r.limit+1)
	}
	r.block = append(largest[:0], r.block...)
	for _, b := range all[1:] {
		r.empty <- b[:0]
	}
	return nil
}

func (r *reader) tooLong() error {
	err := fmt.Errorf("%w: the record that begins here has more than %d bytes", partd.ErrTooLarge, r.cfg.MaxRecord)
	if r.cfg.Layout.Format == CSV && r.split.quoteBefore(len(r.block)) {
		return fmt.Errorf("%w (is a quote in it never closed?)", err)
	}
	return err
}
