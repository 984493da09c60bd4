package sorted

import (
	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables/internal/rows/take"
)

const (
	firstBatchRows = 16      // rows in the first joined batch; small, for readers that need few rows
	maxBatchRows   = 1 << 16 // limit for later batches; each has up to twice the rows of the previous one
	minDirectRun   = 1 << 12 // a run with at least this many rows is passed on without copying
	maxBatchBytes  = 8 << 20 // approximate limit for a joined batch
)

// output collects runs of rows and yields them as joined batches.
type output struct {
	yield   func(arrow.RecordBatch, error) bool
	stopped bool                // yield returned false
	batches []arrow.RecordBatch // batches of the runs; output holds references to them until drop
	runs    []take.Run
	rows    int
	bytes   int64
	minRows int // minimum rows of the next joined batch
}

// add adds rows [from, to) of a block. It yields the collected rows if there are enough.
func (o *output) add(b *block, from, to int) error {
	if to-from >= minDirectRun && !o.continues(b, from) {
		if err := o.flush(); err != nil || o.stopped {
			return err
		}
	}
	if b.slot >= len(o.batches) || o.batches[b.slot] != b.batch {
		b.batch.Retain()
		b.slot = len(o.batches)
		o.batches = append(o.batches, b.batch)
	}
	if o.continues(b, from) {
		o.runs[len(o.runs)-1].To = to
	} else {
		o.runs = append(o.runs, take.Run{Batch: b.slot, From: from, To: to})
	}
	o.rows += to - from
	o.bytes += int64(to-from) * b.rowBytes
	if o.rows >= o.minRows || to-from >= minDirectRun || o.bytes >= maxBatchBytes {
		o.minRows = min(2*o.minRows, maxBatchRows)
		return o.flush()
	}
	return nil
}

// continues reports whether row from of a block comes directly after the last collected row.
func (o *output) continues(b *block, from int) bool {
	last := len(o.runs) - 1
	return last >= 0 && o.runs[last].To == from && o.batches[o.runs[last].Batch] == b.batch
}

func (o *output) flush() error {
	if len(o.runs) == 0 || o.stopped {
		return nil
	}
	var batch arrow.RecordBatch
	var err error
	if len(o.runs) == 1 {
		batch = o.batches[0].NewSlice(int64(o.runs[0].From), int64(o.runs[0].To))
	} else {
		batch, err = take.Runs(o.batches, o.runs, o.rows)
	}
	o.drop()
	if err != nil {
		return err
	}
	o.stopped = !o.yield(batch, nil)
	return nil
}

func (o *output) drop() {
	take.Release(o.batches)
	o.batches, o.runs, o.rows, o.bytes = o.batches[:0], o.runs[:0], 0, 0
}
