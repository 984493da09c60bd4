package transform

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/arrowsafe"
)

// errBySQL says that SQL has to do it.
var errBySQL = errors.New("the rows are in an order that only SQL resamples")

// inOrder resamples a table whose rows come in the order of their times, without
// SQL: several times as fast, since one bin at a time is in work. It returns nil
// where a column has other types or functions. Where the rows show that SQL has to do it,
// such as by their order, which the table's settings need not promise, their reader ends with
// errBySQL; q.late says whether it may do so at any row.
func (q *resampling) inOrder(ctx context.Context, s *tables.Store, from TableName) (array.RecordReader, error) {
	names := make([][]string, len(q.columns))
	for _, a := range q.all {
		switch {
		case a.byPlace:
			return nil, nil
		case a.function != "size":
			names[a.column] = append(names[a.column], a.function)
		}
	}
	w := &walk{resampling: q, values: make([]gatherer, len(q.columns)), place: make([]int, len(q.columns))}
	wanted := &tables.ScanOptions{Columns: []string{q.time}, Recycle: true}
	for i, c := range q.columns {
		if len(names[i]) == 0 {
			continue
		}
		if w.values[i] = newGatherer(c.Type, names[i]); w.values[i] == nil {
			return nil, nil
		}
		if beyond(names[i], ofMoments) {
			w.keeps++
		}
		if _, fixed := c.Type.(arrow.FixedWidthDataType); !fixed { // a bin's first text is kept while others are read
			wanted.Recycle = false
		}
		if c.Name != q.time {
			w.place[i] = len(wanted.Columns)
			wanted.Columns = append(wanted.Columns, c.Name)
		}
	}
	table, err := s.Bucket(from.Bucket).Table(ctx, from.Name)
	if err != nil {
		return nil, err
	}
	settings, err := table.Settings(ctx)
	if err != nil {
		return nil, err
	}
	w.ordered = settings.Time == q.time
	r, err := table.Scan(ctx, wanted)
	if err != nil {
		return nil, err
	}
	backward := q.bins.nanos == 0 && q.bins.zone != time.UTC // clocks may go back over midnight
	q.late = backward || !w.ordered || w.keeps > 0
	return arrowsafe.Reader(q.schema, func(yield func(arrow.RecordBatch, error) bool) {
		w.yield, w.out = yield, array.NewRecordBuilder(memory.DefaultAllocator, q.schema)
		defer w.out.Release()
		for i, a := range w.all {
			if a.function == "size" {
				w.puts = append(w.puts, putCount(&w.size, w.out.Field(i+1)))
			} else {
				w.puts = append(w.puts, w.values[a.column].putter(a.function, w.out.Field(i+1)))
			}
		}
		for err == nil && !w.ended && r.Next() {
			err = w.add(r.RecordBatch())
		}
		err = cmp.Or(err, r.Err())
		if err == nil && !w.ended && w.any {
			if err = w.endBin(); err == nil {
				err = w.flush()
			}
		}
		if err != nil && !w.ended {
			yield(nil, err)
		}
	}, r.Release), nil
}

// walk is a resampling that goes over rows in order.
type walk struct {
	*resampling
	values []gatherer // of the columns; nil: not wanted
	place  []int      // of the columns, in a batch

	ordered bool  // the table's settings promise the order
	keeps   int64 // columns of which all values of the bin are kept

	times []int64 // of a batch
	any   bool    // whether there was a row
	time  int64   // of the last row
	bin   int64   // in work
	until int64   // up to before it, times that follow are in the bin
	size  int64   // of the bin

	out     *array.RecordBuilder // but for the labels
	puts    []func() error       // of the bin's values, into it
	numbers []int64              // of the bins in out
	yield   func(arrow.RecordBatch, error) bool
	ended   bool // nobody wants more
}

const (
	mostBins = 8192     // are handed on together
	mostText = 16 << 20 // bytes of a column of them, but for those of a bin
	mostKept = 2 << 20  // values of the bin in work
)

func (w *walk) add(b arrow.RecordBatch) error {
	w.sourceRows += b.NumRows()
	if !w.ordered && b.Column(0).NullN() > 0 { // in an ordered table, nulls come first
		return errBySQL
	}
	times, err := w.timesOf(b.Column(0))
	if err != nil {
		return err
	}
	for i, g := range w.values {
		if g != nil {
			g.batch(b.Column(w.place[i]))
		}
	}
	for from := b.Column(0).NullN(); from < len(times) && !w.ended; { // nulls come first, and are in no bin
		if err := w.goTo(times[from]); err != nil {
			return err
		}
		to := from + 1
		for to < len(times) && times[to] < w.until && times[to] >= times[to-1] {
			to++
		}
		w.time = times[to-1]
		for _, g := range w.values {
			if g != nil {
				g.add(from, to)
			}
		}
		w.size += int64(to - from)
		from = to
		if w.keeps*w.size > mostKept {
			return errBySQL
		}
	}
	return nil
}

// timesOf returns times in the unit of the bins.
func (w *walk) timesOf(a arrow.Array) ([]int64, error) {
	w.times = w.times[:0]
	switch a := a.(type) {
	case *array.Timestamp:
		unit := a.DataType().(*arrow.TimestampType).Unit
		factor := w.bins.second / int64(time.Second/unit.Multiplier())
		if factor == 1 {
			return arrow.GetData[int64](arrow.GetBytes(a.TimestampValues())), nil
		}
		return inUnit(w, a.TimestampValues(), factor)
	case *array.Date32:
		return inUnit(w, a.Date32Values(), w.bins.second*day)
	case *array.Date64:
		return inUnit(w, a.Date64Values(), w.bins.second/1000)
	}
	return nil, errBySQL
}

func inUnit[T ~int32 | ~int64](w *walk, times []T, factor int64) ([]int64, error) {
	least, most := int64(math.MinInt64)/factor, int64(math.MaxInt64)/factor
	for _, t := range times {
		if int64(t) < least || int64(t) > most {
			return nil, errBySQL
		}
		w.times = append(w.times, int64(t)*factor)
	}
	return w.times, nil
}

// goTo ends bins until the one of a time is in work.
func (w *walk) goTo(t int64) error {
	switch {
	case !w.any:
		w.any = true
		if err := w.bins.start(t, t); err != nil {
			return err
		}
	case t < w.time && !w.ordered:
		return errBySQL
	case t < w.time:
		return fmt.Errorf("%w: the table's rows were put in another order meanwhile", tables.ErrConflict)
	}
	n := w.bins.number(t)
	if err := w.bins.count(n); err != nil {
		return err
	}
	if n < w.bin { // clocks went back over midnight
		return errBySQL
	}
	for w.bin < n && !w.ended {
		if err := w.endBin(); err != nil {
			return err
		}
		w.bin++
		if len(w.numbers) == mostBins || w.large() {
			if err := w.flush(); err != nil {
				return err
			}
		}
	}
	w.until = w.bins.through(t)
	return nil
}

func (w *walk) endBin() error {
	w.numbers = append(w.numbers, w.bin)
	for i, put := range w.puts {
		if err := put(); err != nil {
			return &tables.SchemaError{Column: w.columns[w.all[i].column].Name, Err: err}
		}
	}
	w.size = 0
	for _, g := range w.values {
		if g != nil {
			g.begin()
		}
	}
	return nil
}

// large reports whether the bins that ended have much text.
func (w *walk) large() bool {
	for _, column := range w.out.Fields() {
		if texts, ok := column.(interface{ DataLen() int }); ok && texts.DataLen() >= mostText {
			return true
		}
	}
	return false
}

// flush hands on the bins that ended.
func (w *walk) flush() error {
	labels, err := w.labels(w.numbers)
	if err != nil {
		return err
	}
	defer labels.Release()
	columns := []arrow.Array{labels}
	for i := range w.all {
		c := w.out.Field(i + 1).NewArray()
		defer c.Release()
		columns = append(columns, c)
	}
	n := int64(len(w.numbers))
	w.numbers = w.numbers[:0]
	w.ended = !w.yield(array.NewRecordBatch(w.schema, columns, n), nil)
	return nil
}
