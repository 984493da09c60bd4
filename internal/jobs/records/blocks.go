package records

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
)

// WholeRecords returns the total length of the complete records at the beginning of data.
func (l Layout) WholeRecords(data []byte) int {
	if l.Format != CSV {
		return bytes.LastIndexByte(data, '\n') + 1
	}
	return wholeCSV(data, l.Separator()[0])
}

// wholeCSV implements WholeRecords for CSV, where newlines in quoted fields do not end a record.
func wholeCSV(data []byte, sep byte) int {
	from, to := 0, 0   // bounds of the last unquoted text that contains a newline
	unquotedStart := 0 // start of the current unquoted text
	search := 0        // index from which to search for the next quote
	for {
		q := bytes.IndexByte(data[search:], '"') + search
		if q < search {
			q = len(data)
		} else if q > 0 && data[q-1] != sep && data[q-1] != '\n' {
			search = q + 1 // a quote within a field is data
			continue
		}
		if bytes.IndexByte(data[unquotedStart:q], '\n') >= 0 {
			from, to = unquotedStart, q
		}
		last := -1
		if q < len(data) {
			last, _ = closingQuote(data, q+1)
		}
		if last < 0 {
			return from + bytes.LastIndexByte(data[from:to], '\n') + 1
		}
		unquotedStart, search = last+1, last+1
	}
}

// sendBlock passes the records in r.block before index end to the workers and begins the next block
// with the bytes after end.
func (r *reader) sendBlock(ctx context.Context, end int) error {
	old := r.block
	data, tail := old[r.start:end], old[end:]
	n := r.cfg.Block // minimum size of the next block
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
		data: data, buf: old, offset: r.bytesSent, Seq: r.seq, blockOrder: r.order,
		inputPosition: r.inputPosition, fieldCount: r.splitter.fieldCount, skipBad: r.cfg.SkipBad,
	}
	r.seq++
	r.bytesSent += int64(len(data))
	r.isFirst = false
	if err := canceled.Send(ctx, r.fullBlocks, b); err != nil {
		return err
	}
	block, err := r.takeBlock(ctx, n)
	if err != nil {
		return err
	}
	// If a worker has already returned old, block may be old itself. tail is still valid, because
	// only this goroutine overwrites blocks.
	r.block = block[:copy(block[:len(tail)], tail)]
	r.start, r.limit = 0, min(n-1, max(r.cfg.Block-1, 2*len(tail)))
	return nil
}

// takeBlock waits for an unused block of at least n bytes. Some blocks may be too small, because grow
// enlarges only one of them.
func (r *reader) takeBlock(ctx context.Context, n int) ([]byte, error) {
	var small [][]byte
	defer func() {
		for _, b := range small {
			r.emptyBlocks <- b
		}
	}()
	for {
		b, err := canceled.Receive(ctx, r.emptyBlocks)
		if err != nil {
			return nil, err
		}
		if cap(b) >= n {
			return b[:0], nil
		}
		small = append(small, b)
	}
}

// grow enlarges r.block for a long record. To limit memory to one large block, it waits until the
// workers have returned all other blocks. Then it uses the largest block, or replaces that block if
// it is too small.
func (r *reader) grow(ctx context.Context) error {
	if r.limit >= r.cfg.MaxRecord {
		r.errLine = 1
		err := fmt.Errorf("%w: the record that begins here is longer than %d bytes, %s", partd.ErrTooLarge, r.cfg.MaxRecord, cmp.Or(r.cfg.MaxRecordShare, "a quarter of --memory"))
		if r.cfg.Layout.Format == CSV && bytes.IndexByte(r.block[r.start:], '"') >= 0 {
			return fmt.Errorf("%w (it may contain an unclosed quote)", err)
		}
		return err
	}
	r.limit = min(4*r.limit, r.cfg.MaxRecord)
	if cap(r.block) > r.limit {
		return nil
	}
	blocks := make([][]byte, r.cfg.blocks())
	blocks[0] = r.block
	for i := range blocks[1:] {
		b, err := canceled.Receive(ctx, r.emptyBlocks)
		if err != nil {
			return err
		}
		blocks[i+1] = b
	}
	slices.SortFunc(blocks, func(a, b []byte) int { return cap(b) - cap(a) })
	largest := blocks[0]
	if cap(largest) <= r.limit {
		largest = make([]byte, 0, r.limit+1)
	}
	r.block = append(largest[:0], r.block...)
	for _, b := range blocks[1:] {
		r.emptyBlocks <- b[:0]
	}
	return nil
}
