package sorted

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/util"

	"github.com/go-partd/partd/tables/internal/rows/take"
)

const (
	firstBatchRows = 16      // rows of the first joined batch; small, for readers that need few rows
	maxBatchRows   = 1 << 16 // limit for later batches; each has up to twice the rows of the previous one
	minDirectRun   = 1 << 12 // a run with at least this many rows is passed on without copying
	maxBatchBytes  = 8 << 20 // approximate limit for a joined batch
)

// output collects runs of rows and yields them as joined batches.
type output struct {
	yield   func(arrow.RecordBatch, error) bool
	stopped bool // yield returned false
	runs    []run
	rows    int
	bytes   int64
	minRows int // minimum rows of the next joined batch
}

type run struct {
	batch    arrow.RecordBatch // output holds a reference to it until drop
	from, to int
}

// add adds rows [from, to) of a block. It yields the collected rows if there are enough.
func (o *output) add(b *block, from, to int) error {
	if last := len(o.runs) - 1; last >= 0 && o.runs[last].batch == b.batch && o.runs[last].to == from {
		o.runs[last].to = to
	} else {
		if to-from >= minDirectRun {
			if err := o.flush(); err != nil || o.stopped {
				return err
			}
		}
		b.batch.Retain()
		o.runs = append(o.runs, run{b.batch, from, to})
	}
	o.rows += to - from
	o.bytes += int64(to-from) * b.rowBytes
	if o.rows >= o.minRows || to-from >= minDirectRun || o.bytes >= maxBatchBytes {
		o.minRows = min(2*o.minRows, maxBatchRows)
		return o.flush()
	}
	return nil
}

func (o *output) flush() error {
	if len(o.runs) == 0 || o.stopped {
		return nil
	}
	var batch arrow.RecordBatch
	var err error
	if len(o.runs) == 1 {
		batch = o.runs[0].batch.NewSlice(int64(o.runs[0].from), int64(o.runs[0].to))
	} else {
		batch, err = joinRuns(o.runs)
	}
	o.drop()
	if err != nil {
		return err
	}
	o.stopped = !o.yield(batch, nil)
	return nil
}

func (o *output) drop() {
	for _, r := range o.runs {
		r.batch.Release()
	}
	o.runs, o.rows, o.bytes = o.runs[:0], 0, 0
}

// rowBytes estimates the average size of a batch's rows in bytes. It returns at least 1.
func rowBytes(b arrow.RecordBatch) int64 {
	var sum int64
	for _, c := range b.Columns() {
		width, isFixedWidth := c.DataType().(arrow.FixedWidthDataType)
		texts, isText := c.(interface{ ValueBytes() []byte })
		switch {
		case isFixedWidth:
			sum += int64(c.Len()) * int64(width.BitWidth()) / 8
		case isText:
			sum += int64(len(texts.ValueBytes()))
		default: // For a slice, this counts the whole array.
			sum += util.TotalArraySize(c)
		}
	}
	return sum/max(1, b.NumRows()) + 1
}

func joinRuns(runs []run) (arrow.RecordBatch, error) {
	// Concatenate the rows that are needed from each batch, then put them in order.
	type span struct{ from, to, offset int }
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
	offset := 0
	for i, b := range batches {
		s := spans[b]
		parts[i] = b.NewSlice(int64(s.from), int64(s.to))
		defer parts[i].Release()
		s.offset = offset
		offset += s.to - s.from
	}
	var order []int
	for _, r := range runs {
		s := spans[r.batch]
		for i := r.from; i < r.to; i++ {
			order = append(order, s.offset+i-s.from)
		}
	}
	all, err := take.Concat(parts)
	if err != nil {
		return nil, err
	}
	defer all.Release()
	return take.Batch(all, order)
}
