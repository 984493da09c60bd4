package records

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/canceled"
)

// All blocks have the configured size, but one: where a record is longer, one
// block at a time is as large as it takes.

// Whole returns how much of data, which begins with a record, is whole records.
func (l Layout) Whole(data []byte) int {
	if l.Format != CSV {
		return bytes.LastIndexByte(data, '\n') + 1
	}
	return wholeCSV(data, l.Separator()[0])
}

// wholeCSV returns how much of data, which begins with a record, is whole
// records of CSV. It goes from quote to quote.
func wholeCSV(data []byte, sep byte) int {
	from, to := 0, 0 // the last stretch, not in quotes, that has a newline
	plain := 0       // what follows is not in quotes
	search := 0      // where to look for the next quote
	for {
		q := bytes.IndexByte(data[search:], '"') + search
		if q < search {
			q = len(data)
		} else if q > 0 && data[q-1] != sep && data[q-1] != '\n' {
			search = q + 1 // data, as the field did not begin with it
			continue
		}
		if bytes.IndexByte(data[plain:q], '\n') >= 0 {
			from, to = plain, q
		}
		last := -1
		if q < len(data) {
			last, _ = closingQuote(data, q+1)
		}
		if last < 0 {
			return from + bytes.LastIndexByte(data[from:to], '\n') + 1
		}
		plain, search = last+1, last+1
	}
}

// turn hands over the block up to end, and takes another, at the beginning of
// which it copies what is left.
func (r *reader) turn(end int) error {
	old := r.block
	data, tail := old[r.start:end], old[end:]
	// What lies in the old block stays there until it is taken again; but with
	// no record in it, it is not handed over.
	n := r.cfg.Block
	if len(tail) >= n-1 {
		n = cap(old)
	}
	if len(data) == 0 {
		r.block = append(old[:0], tail...)
		r.start, r.limit = 0, max(r.cfg.Block-1, min(cap(old)-1, 2*len(tail)))
		return nil
	}
	r.countFields(data)
	b := &Block{
		Size: int64(len(data)), data: data, buf: old, offset: r.sent, Seq: r.seq, order: r.order, ctx: r.ctx,
		place: r.place, count: r.split.count, skipBad: r.cfg.SkipBad,
	}
	r.seq++
	r.sent += int64(len(data))
	r.fresh = false
	if err := canceled.Send(r.ctx, r.full, b); err != nil {
		return err
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
		b, err := canceled.Receive(r.ctx, r.empty)
		if err != nil {
			return nil, err
		}
		if cap(b) >= n {
			return b[:0], nil
		}
		small = append(small, b)
	}
}

// grow makes room for a record that fills the block. It waits until all other
// blocks are free; a block that is larger than they all replaces the largest.
func (r *reader) grow() error {
	if r.limit >= r.cfg.MaxRecord {
		r.errLine = 1
		err := fmt.Errorf("%w: the record that begins here has more than %d bytes, a quarter of --memory", partd.ErrTooLarge, r.cfg.MaxRecord)
		if r.cfg.Layout.Format == CSV && bytes.IndexByte(r.block[r.start:], '"') >= 0 {
			return fmt.Errorf("%w (is a quote in it never closed?)", err)
		}
		return err
	}
	r.limit = min(4*r.limit, r.cfg.MaxRecord)
	if cap(r.block) > r.limit {
		return nil
	}
	all := make([][]byte, r.cfg.blocks())
	all[0] = r.block
	for i := range all[1:] {
		b, err := canceled.Receive(r.ctx, r.empty)
		if err != nil {
			return err
		}
		all[i+1] = b
	}
	slices.SortFunc(all, func(a, b []byte) int { return cap(b) - cap(a) })
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
