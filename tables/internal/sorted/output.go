package sorted

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/util"

	"github.com/go-partd/partd/tables/internal/take"
)

const (
	firstRows = 16      // of the first batch that is put together: who wants few reads few
	mostRows  = 1 << 16 // of a later one, each of which has up to twice as many
	longRun   = 1 << 12 // rows that are handed on as they lie
	mostBytes = 8 << 20 // of a batch that is put together, about
)

// output gathers rows, and yields them as batches.
type output struct {
	yield func(arrow.RecordBatch, error) bool
	ended bool // nobody wants more
	runs  []run
	rows  int
	bytes int64
	least int // rows to put together
}

// run is rows that lie together.
type run struct {
	batch    arrow.RecordBatch // retained
	from, to int
}

func (o *output) add(b *block, from, to int) error {
	if last := len(o.runs) - 1; last >= 0 && o.runs[last].batch == b.batch && o.runs[last].to == from {
		o.runs[last].to = to
	} else {
		if to-from >= longRun {
			if err := o.flush(); err != nil || o.ended {
				return err
			}
		}
		b.batch.Retain()
		o.runs = append(o.runs, run{b.batch, from, to})
	}
	o.rows += to - from
	o.bytes += int64(to-from) * b.rowBytes
	if o.rows >= o.least || to-from >= longRun || o.bytes >= mostBytes {
		o.least = min(2*o.least, mostRows)
		return o.flush()
	}
	return nil
}

// flush yields what was gathered.
func (o *output) flush() error {
	if len(o.runs) == 0 || o.ended {
		return nil
	}
	var batch arrow.RecordBatch
	var err error
	if len(o.runs) == 1 {
		batch = o.runs[0].batch.NewSlice(int64(o.runs[0].from), int64(o.runs[0].to))
	} else {
		batch, err = joined(o.runs)
	}
	o.drop()
	if err == nil {
		o.ended = !o.yield(batch, nil)
	}
	return err
}

func (o *output) drop() {
	for _, r := range o.runs {
		r.batch.Release()
	}
	o.runs, o.rows, o.bytes = o.runs[:0], 0, 0
}

// rowBytes returns about how many bytes a row of a batch takes, one at least.
func rowBytes(b arrow.RecordBatch) int64 {
	var sum int64
	for _, c := range b.Columns() {
		width, fixed := c.DataType().(arrow.FixedWidthDataType)
		texts, text := c.(interface{ ValueBytes() []byte })
		switch {
		case fixed:
			sum += int64(c.Len()) * int64(width.BitWidth()) / 8
		case text:
			sum += int64(len(texts.ValueBytes()))
		default: // of a slice it is that of the whole
			sum += util.TotalArraySize(c)
		}
	}
	return sum/max(1, b.NumRows()) + 1
}

// joined makes one batch of runs.
func joined(runs []run) (arrow.RecordBatch, error) {
	// Each batch's rows that are needed are put behind each other, and then taken in order.
	type span struct{ from, to, at int }
	spans := map[arrow.RecordBatch]*span{}
	var batches []arrow.RecordBatch
	for _, r := range runs {
		s := spans[r.batch]
		if s == nil {
			s = &span{r.from, r.to, 0}
			spans[r.batch] = s
			batches = append(batches, r.batch)
		}
		s.from, s.to = min(s.from, r.from), max(s.to, r.to)
	}
	parts := make([]arrow.RecordBatch, len(batches))
	at := 0
	for i, b := range batches {
		s := spans[b]
		parts[i] = b.NewSlice(int64(s.from), int64(s.to))
		defer parts[i].Release()
		s.at = at
		at += s.to - s.from
	}
	var order []int
	for _, r := range runs {
		s := spans[r.batch]
		for i := r.from; i < r.to; i++ {
			order = append(order, s.at+i-s.from)
		}
	}
	whole, err := take.Concat(parts)
	if err != nil {
		return nil, err
	}
	defer whole.Release()
	return take.Batch(whole, order)
}

// Chunks yields the rows of batches, which it releases, in batches of so many rows
// but for the last; 0 leaves them as they are.
func Chunks(batches Batches, rows int64) Batches {
	if rows <= 0 {
		return batches
	}
	return func(yield func(arrow.RecordBatch, error) bool) {
		var held []arrow.RecordBatch
		var n int64
		defer func() { take.Release(held) }()
		hand := func() bool {
			chunk, err := take.Concat(held)
			take.Release(held)
			held, n = nil, 0
			return yield(chunk, err) && err == nil
		}
		for b, err := range batches {
			if err != nil {
				yield(nil, err)
				return
			}
			for from := int64(0); from < b.NumRows(); {
				upTo := min(b.NumRows(), from+rows-n)
				held = append(held, b.NewSlice(from, upTo))
				n += upTo - from
				from = upTo
				if n == rows && !hand() {
					b.Release()
					return
				}
			}
			b.Release()
		}
		if n > 0 {
			hand()
		}
	}
}
