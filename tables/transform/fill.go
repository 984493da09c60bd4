package transform

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

// fillFunctions fill a bin from the rows next to its label. All other functions aggregate the rows within the bin.
var fillFunctions = []string{"ffill", "bfill", "nearest", "asfreq", "interpolate"}

// fillFunction returns the resampling's fill function, or "" if the resampling aggregates.
func (q *resampling) fillFunction() string {
	if len(q.aggregates) > 0 && slices.Contains(fillFunctions, q.aggregates[0].function) {
		return q.aggregates[0].function
	}
	return ""
}

// fill returns the result of a fill function. The SQL engine sorts the rows by time, and a fillScan merges them with
// the bins' labels, one batch at a time.
func (q *resampling) fill(ctx context.Context, s *tables.Store, from TableName) (array.RecordReader, error) {
	if err := q.bounds(ctx, s, from); err != nil || !q.hasTimes {
		return batches.Reader(q.schema, func(func(arrow.RecordBatch, error) bool) {}, func() {}), err
	}
	f := &fillScan{output: output{resampling: q}, canceled: ctx.Err}
	passes := 1
	f.filler = &rowFiller{fillScan: f}
	if q.fillFunction() == "interpolate" {
		f.filler, passes = &interpolator{fillScan: f, lines: make([]line, len(q.aggregates))}, 2
	}
	timeColumn, table, values := sqltext.Name(q.timeColumn), sqltext.Name(from.Name), ""
	for i, a := range q.aggregates {
		values += fmt.Sprintf(", %s AS a%d", a.sql, i)
	}
	rows, err := s.Query(ctx, fmt.Sprintf(`SELECT pass, t, (SELECT %[1]s FROM %[3]s) AS lo, (SELECT %[2]s FROM %[3]s) AS hi, (SELECT count(*) FROM %[3]s) AS n%[4]s
FROM (SELECT %[5]s FROM %[3]s), (SELECT range AS pass FROM range(%[6]d)) WHERE t IS NOT NULL ORDER BY pass, t`,
		q.epochSQL("min("+timeColumn+")"), q.epochSQL("max("+timeColumn+")"), table, values, q.innerSQL(), passes), &tables.QueryOptions{Bucket: from.Bucket, Nanoseconds: q.hasZonedNanos})
	if err != nil {
		return nil, err
	}
	return batches.Reader(q.schema, func(yield func(arrow.RecordBatch, error) bool) {
		f.yield = yield
		f.run(rows, f.add, func() error {
			if !f.hasStarted {
				return nil
			}
			return f.endPass()
		})
	}, rows.Release), nil
}

// fillScan visits rows and bin labels in time order.
type fillScan struct {
	output
	filler   binFiller
	canceled func() error // returns the context's error

	hasStarted bool
	pass       int64   // number of the pass over all rows, from 0
	bin        int64   // index of the next bin to fill
	label      int64   // label of that bin, as a time
	lastBin    int64   // index of the last bin to fill
	hasLast    bool    // a row has been visited in this pass
	lastTime   int64   // time of the row visited last
	nextTime   int64   // time of the row to visit next
	hasNext    bool    // nextTime is set, because some rows have not been visited yet
	binIndexes []int64 // bins filled since the last flush
}

// binFiller computes the values of bins from the rows that a fillScan visits.
type binFiller interface {
	begin(columns []arrow.Array) error // starts a batch of rows with these columns
	// fills the next bin; row is the index in the batch of the first row at or after the bin's label
	fill(row int)
	visit(row int) // visits a row, after all bins with labels up to the row's time have been filled
	flush() error  // emits the filled bins
	end() error    // ends the batch
	restart()      // starts the second pass over all rows
}

func (f *fillScan) add(b arrow.RecordBatch) error {
	var head [5][]int64 // the statement's columns pass, t, lo, hi and n; the aggregates follow
	for i := range head {
		a, err := schema.ConvertArray(b.Column(i), int64Type)
		if err != nil {
			return err
		}
		defer a.Release()
		head[i] = a.(*array.Int64).Int64Values()
	}
	if !f.hasStarted && b.NumRows() > 0 {
		f.hasStarted, f.sourceRows = true, head[4][0]
		if err := f.bins.start(head[2][0], head[3][0]); err != nil {
			return err
		}
		f.lastBin = f.bins.binIndex(head[3][0])
		if err := f.moveTo(0); err != nil {
			return err
		}
	}
	if err := f.filler.begin(b.Columns()[len(head):]); err != nil {
		return err
	}
	for i, t := range head[1] {
		if head[0][i] != f.pass {
			if err := f.endPass(); err != nil {
				return err
			}
			f.filler.restart()
			f.pass, f.hasLast = head[0][i], false
			if err := f.moveTo(0); err != nil {
				return err
			}
		}
		if f.hasLast && t == f.lastTime {
			timestamp := time.Unix(floorDiv(t, f.bins.second), (t-floorDiv(t, f.bins.second)*f.bins.second)*(1e9/f.bins.second)).UTC()
			return &tables.SchemaError{Column: f.timeColumn, Err: fmt.Errorf("two rows have the time %s, but %s allows only one: remove the others (clean), or resample with last", timestamp.Format(time.RFC3339Nano), f.fillFunction())}
		}
		f.nextTime, f.hasNext = t, true
		if err := f.fillTo(i, t); err != nil {
			return err
		}
		f.filler.visit(i)
		f.hasLast, f.lastTime = true, t
	}
	return f.filler.end()
}

// fillTo fills the bins with labels up to t, the time of the row at index row.
func (f *fillScan) fillTo(row int, t int64) error {
	for f.bin <= f.lastBin && f.label <= t && !f.stopped {
		if len(f.binIndexes) == maxBatchBins {
			if err := cmp.Or(f.canceled(), f.filler.flush()); err != nil {
				return err
			}
		}
		if !f.bins.isAbsent(f.bin) {
			f.binIndexes = append(f.binIndexes, f.bin)
			f.filler.fill(row)
		}
		if err := f.moveTo(f.bin + 1); err != nil {
			return err
		}
	}
	return nil
}

func (f *fillScan) endPass() error {
	f.hasNext = false
	if err := f.fillTo(0, math.MaxInt64); err != nil {
		return err
	}
	return f.filler.flush()
}

func (f *fillScan) moveTo(bin int64) (err error) {
	f.bin = bin
	if bin <= f.lastBin {
		f.label, err = f.bins.labelTime(bin)
	}
	return err
}
