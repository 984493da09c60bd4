package series

import (
	"math"
	"sort"

	"github.com/apache/arrow-go/v18/arrow"
)

// periods is rows in the order of their time, one period after the other. Where the
// periods are chosen from the data, these are the table's rows and those so far:
// later periods may be longer.
type periods struct {
	cut  *Cut
	next func() (arrow.RecordBatch, error, bool)
	rest arrow.RecordBatch // rows that were not handed on yet; nil: none
	end  int64             // of the period
	err  error
}

// begin goes to the next period, and reports whether there is one.
func (p *periods) begin() bool {
	if !p.fill() {
		return false
	}
	if p.cut == nil {
		p.end = math.MaxInt64
		return true
	}
	v := TimeAt(p.rest.Column(p.cut.column), 0)
	if v > math.MinInt64 {
		p.cut.see(v)
	}
	p.end = p.cut.end(v)
	return true
}

// fill makes rest some rows.
func (p *periods) fill() bool {
	for p.rest == nil && p.err == nil {
		b, err, ok := p.next()
		if !ok {
			return false
		}
		if p.err = err; err == nil && b.NumRows() > 0 {
			p.rest = b
		} else if b != nil {
			b.Release()
		}
	}
	return p.err == nil
}

// batches yields the rows of the period.
func (p *periods) batches(yield func(arrow.RecordBatch, error) bool) {
	for p.fill() {
		rows := int(p.rest.NumRows())
		n := rows
		if p.end < math.MaxInt64 {
			times := p.rest.Column(p.cut.column)
			n = sort.Search(rows, func(i int) bool { return TimeAt(times, i) >= p.end })
		}
		if n == 0 {
			return
		}
		whole := p.rest
		if p.rest = nil; n < rows {
			p.rest = whole.NewSlice(int64(n), int64(rows))
		}
		part := whole.NewSlice(0, int64(n))
		whole.Release()
		if !yield(part, nil) {
			return
		}
	}
	if p.err != nil {
		yield(nil, p.err)
	}
}
