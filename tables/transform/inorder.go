package transform

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/take"
)

// errNeedsSQL means that only SQL can resample the rows, for example because they are not in time order.
var errNeedsSQL = errors.New("rows in this order can only be resampled with SQL")

// inOrder resamples a table whose rows are in time order. It is several times as fast as SQL, because it holds only one
// bin at a time. It returns nil if a column's type or function needs SQL. If only the rows show that SQL is needed, the
// reader fails with errNeedsSQL. If that may happen as late as at the last row, inOrder sets q.lateFallback.
func (q *resampling) inOrder(ctx context.Context, s *tables.Store, from TableName) (array.RecordReader, error) {
	columnFunctions := make([][]string, len(q.columns))
	for _, a := range q.aggregates {
		switch {
		case a.byCategoryOrder:
			return nil, nil
		case a.function != "size":
			columnFunctions[a.column] = append(columnFunctions[a.column], a.function)
		}
	}
	w := &orderedResampling{output: output{resampling: q}, gatherers: make([]gatherer, len(q.columns)), batchIndex: make([]int, len(q.columns))}
	scan := &tables.ScanOptions{Columns: []string{q.timeColumn}, Recycle: true}
	for i, c := range q.columns {
		if len(columnFunctions[i]) == 0 {
			continue
		}
		w.gatherers[i] = newGatherer(c.Type, columnFunctions[i])
		if w.gatherers[i] == nil {
			return nil, nil
		}
		if containsOther(columnFunctions[i], momentFunctions) {
			w.keptColumns++
		}
		// A bin keeps its first string while later batches are read, so a batch's memory must not be reused.
		if _, fixed := c.Type.(arrow.FixedWidthDataType); !fixed {
			scan.Recycle = false
		}
		if c.Name != q.timeColumn {
			w.batchIndex[i] = len(scan.Columns)
			scan.Columns = append(scan.Columns, c.Name)
		}
	}
	table := s.Bucket(from.Bucket).Table(from.Name)
	settings, err := table.Settings(ctx)
	if err != nil {
		return nil, err
	}
	w.isOrdered = settings.Time == q.timeColumn
	r, err := table.Scan(ctx, scan)
	if err != nil {
		return nil, err
	}
	// When clocks are set back across midnight, times return to an earlier bin.
	backward := q.bins.nanos == 0 && q.bins.zone != time.UTC
	q.lateFallback = backward || !w.isOrdered || w.keptColumns > 0
	return batches.Reader(q.schema, func(yield func(arrow.RecordBatch, error) bool) {
		w.yield, w.out = yield, array.NewRecordBuilder(memory.DefaultAllocator, q.schema)
		defer w.out.Release()
		for i, a := range w.aggregates {
			if a.function == "size" {
				w.putFuncs = append(w.putFuncs, putCount(&w.binRows, w.out.Field(i+1)))
			} else {
				w.putFuncs = append(w.putFuncs, w.gatherers[a.column].putter(a.function, w.out.Field(i+1)))
			}
		}
		w.run(r, w.add, func() error {
			if !w.hasRows {
				return nil
			}
			if err := w.endBin(); err != nil {
				return err
			}
			return w.flush()
		})
	}, r.Release), nil
}

// output passes a resampling's rows to their consumer.
type output struct {
	*resampling
	yield   func(arrow.RecordBatch, error) bool
	stopped bool // whether yield has returned false
}

// run calls add for each batch in r, and then end. It yields their errors.
func (o *output) run(r array.RecordReader, add func(arrow.RecordBatch) error, end func() error) {
	var err error
	for err == nil && !o.stopped && r.Next() {
		err = add(r.RecordBatch())
	}
	err = cmp.Or(err, r.Err())
	if err == nil && !o.stopped {
		err = end()
	}
	if err != nil && !o.stopped {
		o.yield(nil, err)
	}
}

// emit yields the given bins, with their columns of values. It releases the columns.
func (o *output) emit(binIndexes []int64, columns []arrow.Array) error {
	defer take.Release(columns)
	labels, err := o.labels(binIndexes)
	if err != nil {
		return err
	}
	defer labels.Release()
	all := append([]arrow.Array{labels}, columns...)
	o.stopped = !o.yield(array.NewRecordBatch(o.schema, all, int64(len(binIndexes))), nil)
	return nil
}

// orderedResampling resamples rows that it visits in time order.
type orderedResampling struct {
	output
	gatherers  []gatherer // one per entry in columns; nil if no function uses the column
	batchIndex []int      // for each entry in columns, its index in a batch of the scan

	isOrdered   bool  // the table's settings guarantee the time order
	keptColumns int64 // number of columns whose functions need all values of a bin

	times        []int64 // reused for the converted times of each batch
	hasRows      bool    // a row has been visited
	lastTime     int64   // time of the row visited last
	bin          int64   // index of the current bin
	sameBinUntil int64   // times before this one are known to be in the current bin
	binRows      int64   // rows in the current bin

	out        *array.RecordBuilder // the result's columns except the labels
	putFuncs   []func() error       // each appends one result for the current bin to out
	binIndexes []int64              // finished bins in out
}

const (
	maxBatchBins = 8192     // number of bins in a batch of the result
	maxBatchText = 16 << 20 // bytes of one column's strings in a batch; the last bin can exceed this limit
	maxBinValues = 2 << 20  // number of values of the current bin that can be kept in memory; above it, SQL is needed
)

func (w *orderedResampling) add(b arrow.RecordBatch) error {
	w.sourceRows += b.NumRows()
	// Without a guaranteed order, null times can be anywhere in the batch.
	if !w.isOrdered && b.Column(0).NullN() > 0 {
		return errNeedsSQL
	}
	times, err := w.timesOf(b.Column(0))
	if err != nil {
		return err
	}
	for i, g := range w.gatherers {
		if g != nil {
			g.setBatch(b.Column(w.batchIndex[i]))
		}
	}
	for from := b.Column(0).NullN(); from < len(times) && !w.stopped; { // Skip null times: they are first and belong to no bin.
		if err := w.moveTo(times[from]); err != nil {
			return err
		}
		to := from + 1
		for to < len(times) && times[to] < w.sameBinUntil && times[to] >= times[to-1] {
			to++
		}
		w.lastTime = times[to-1]
		for _, g := range w.gatherers {
			if g != nil {
				g.add(from, to)
			}
		}
		w.binRows += int64(to - from)
		from = to
		if w.keptColumns*w.binRows > maxBinValues {
			return errNeedsSQL
		}
	}
	return nil
}

func (w *orderedResampling) timesOf(a arrow.Array) ([]int64, error) {
	w.times = w.times[:0]
	factor := w.bins.second * day
	if t, isTimestamp := a.DataType().(*arrow.TimestampType); isTimestamp {
		factor = w.bins.second / int64(time.Second/t.Unit.Multiplier())
	} else if a.DataType().ID() == arrow.DATE64 {
		factor = w.bins.second / 1000
	} else if a.DataType().ID() != arrow.DATE32 {
		return nil, errNeedsSQL
	}
	times := arrowtype.Of(a.DataType()).Ordered(a)
	if factor == 1 {
		return times, nil
	}
	return w.inUnit(times, factor)
}

// inUnit multiplies times by factor. If a product overflows, it returns errNeedsSQL.
func (w *orderedResampling) inUnit(times []int64, factor int64) ([]int64, error) {
	lowest, highest := int64(math.MinInt64)/factor, int64(math.MaxInt64)/factor
	for _, t := range times {
		if t < lowest || t > highest {
			return nil, errNeedsSQL
		}
		w.times = append(w.times, t*factor)
	}
	return w.times, nil
}

// moveTo finishes bins until the current bin contains t.
func (w *orderedResampling) moveTo(t int64) error {
	switch {
	case !w.hasRows:
		w.hasRows = true
		if err := w.bins.start(t, t); err != nil {
			return err
		}
	case t < w.lastTime && !w.isOrdered:
		return errNeedsSQL
	case t < w.lastTime:
		return fmt.Errorf("%w: the order of the table's rows changed while they were read", tables.ErrConflict)
	}
	n := w.bins.binIndex(t)
	if err := w.bins.checkCount(n); err != nil {
		return err
	}
	if n < w.bin { // Clocks were set back across midnight.
		return errNeedsSQL
	}
	for w.bin < n && !w.stopped {
		if !w.bins.isAbsent(w.bin) {
			if err := w.endBin(); err != nil {
				return err
			}
		}
		w.bin++
		if len(w.binIndexes) == maxBatchBins || w.isLarge() {
			if err := w.flush(); err != nil {
				return err
			}
		}
	}
	w.sameBinUntil = w.bins.sameBinUntil(t)
	return nil
}

func (w *orderedResampling) endBin() error {
	w.binIndexes = append(w.binIndexes, w.bin)
	for i, put := range w.putFuncs {
		if err := put(); err != nil {
			return &tables.SchemaError{Column: w.columns[w.aggregates[i].column].Name, Err: err}
		}
	}
	w.binRows = 0
	for _, g := range w.gatherers {
		if g != nil {
			g.begin()
		}
	}
	return nil
}

// isLarge reports whether the finished bins contain maxBatchText bytes of strings in any column.
func (w *orderedResampling) isLarge() bool {
	return slices.ContainsFunc(w.out.Fields(), func(column array.Builder) bool {
		texts, ok := column.(interface{ DataLen() int })
		return ok && texts.DataLen() >= maxBatchText
	})
}

func (w *orderedResampling) flush() error {
	columns := make([]arrow.Array, len(w.aggregates))
	for i := range columns {
		columns[i] = w.out.Field(i + 1).NewArray()
	}
	err := w.emit(w.binIndexes, columns)
	w.binIndexes = w.binIndexes[:0]
	return err
}
