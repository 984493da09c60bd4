// Package group groups the records of files by fields and aggregates each group.
package group

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/go-partd/partd/internal/engine/extsort"
	"github.com/go-partd/partd/internal/engine/hashagg"
	"github.com/go-partd/partd/internal/jobs/aggregate"
	"github.com/go-partd/partd/internal/jobs/filejobs"
	"github.com/go-partd/partd/internal/jobs/records"
)

// engine runs [New]. It aggregates numbers in hash tables. Values for first, last, any
// and list are sorted by their group's key. Values for quantiles and mode are sorted by key and
// value. The aggregates are also sorted by key, so that all data of a group is adjacent.
type engine struct {
	by, aggregates string
	job            *filejobs.Job

	names           []string // names of the fields and the aggregates
	order           []int    // indexes, in names, of the columns to write; nil writes all
	outputNames     []string // names of the columns to write
	specs           []aggregate.Spec
	specColumns     []aggregate.Columns // the input columns of each spec
	fields          []records.Field
	keyCount        int // number of leading fields that make up the key; the others are values
	valueCount      int
	program         *aggregate.Program
	distinctColumns []int // columns with distinct values to count
	storedColumns   []int // columns with values to store
	modeColumns     []int // columns with a most frequent value to find
	quantileColumns []int // columns with numbers to sort for quantiles
	top             topWriter

	shareSize, sorterMemory int64 // in bytes, set by divideMemory
	maxKeyLen               int   // maximum key length that the sorter accepts

	numbers *hashagg.Aggregator
	pairs   []*hashagg.Aggregator // one for each of distinctColumns, with the distinct pairs of key and value
	sorter  *extsort.Sorter
	workers []*worker
	batches atomic.Int64 // number of batches in the sorter, one for each block; used only if values are sorted
}

// New returns an engine that groups records by the fields listed in by and aggregates each
// group.
func New(by, aggregates string, top Top) filejobs.Engine {
	return &engine{by: by, aggregates: aggregates, top: topWriter{Top: top}}
}

// Selects implements [filejobs.Selecter]. The columns apply to the groups' rows.
func (g *engine) Selects(o *filejobs.Options) (where, columns string) { return o.Where, "" }

func (g *engine) Plan(j *filejobs.Job) error {
	g.job = j
	var err error
	g.specs, err = aggregate.Parse(g.aggregates)
	if err != nil {
		return filejobs.OptionErrorf("--agg: %w", err)
	}
	g.fields, g.names, err = j.ResolveColumns("by", g.by)
	if err != nil {
		return err
	}
	g.keyCount = len(g.fields)
	for _, s := range g.specs {
		g.names = append(g.names, s.Name)
		var columns aggregate.Columns
		columns.First, err = g.addValueColumn(s.Field, s.IsQuoted, s)
		if err == nil {
			columns.Second, err = g.addValueColumn(s.Second, s.IsSecondQuoted, s)
		}
		if err != nil {
			return err
		}
		g.specColumns = append(g.specColumns, columns)
		column := columns.First
		switch {
		case s.Func == aggregate.Distinct:
			g.distinctColumns = appendNew(g.distinctColumns, column)
		case s.Func == aggregate.Mode:
			g.modeColumns = appendNew(g.modeColumns, column)
		case s.Func == aggregate.Quantile:
			g.quantileColumns = appendNew(g.quantileColumns, column)
		case s.StoresValues():
			g.storedColumns = appendNew(g.storedColumns, column)
		}
	}
	g.order, g.outputNames, err = j.OrderColumns(g.names)
	if err != nil {
		return err
	}
	if err := g.top.plan(g.specs); err != nil {
		return err
	}
	g.valueCount = len(g.fields) - g.keyCount
	g.program = aggregate.NewProgram(g.specs, g.specColumns)
	return g.divideMemory(j.Memory, &j.Threads)
}

// addValueColumn returns the index of a field among the values, or -1 if field is "". It adds the
// field if it is new.
func (g *engine) addValueColumn(field string, isQuoted bool, spec aggregate.Spec) (int, error) {
	if field == "" {
		return -1, nil
	}
	resolve := g.job.From.Resolve
	if isQuoted {
		resolve = g.job.From.ResolveColumn
	}
	f, err := resolve(field, g.job.Inputs.Columns)
	if err != nil {
		return -1, g.job.Inputs.FieldError("agg", spec.Text, g.job.From, err)
	}
	f.Optional, f.Null, f.Number = true, true, spec.NeedsNumbers() && g.job.From.Values.ReadsNumbers()
	column := slices.Index(g.fields[g.keyCount:], f)
	if column < 0 {
		column = len(g.fields) - g.keyCount
		g.fields = append(g.fields, f)
	}
	return column, nil
}

// sortsValues reports whether the sorter receives values, in input order.
func (g *engine) sortsValues() bool { return len(g.storedColumns)+len(g.modeColumns) > 0 }

// sortsParts reports whether a group's data is sorted by its kind (see aggregatedPart).
func (g *engine) sortsParts() bool { return len(g.modeColumns) > 0 }

// MemoryError means that the aggregates need more memory than the job may use.
type MemoryError struct{ Needs filejobs.Memory }

func (e *MemoryError) Error() string {
	return fmt.Sprintf("these aggregates need %d bytes of memory", e.Needs)
}

// divideMemory divides the memory into equal shares. The sorter and each table get several
// shares. If there is too little memory, it reduces the number of threads.
func (g *engine) divideMemory(memory filejobs.Memory, threads *int) error {
	const (
		minKey   = 1 << 10 // keys of this length must always be accepted
		overhead = 32      // bytes stored with a key: lengths, record count, kind
	)
	sorterShares := int64(3)
	if g.sortsValues() {
		sorterShares = 4
	}
	shares := 3 + 3*int64(len(g.distinctColumns)) + sorterShares // three for each table
	if len(g.quantileColumns) > 0 {
		shares += 3 // one for lists of numbers, and two for the numbers of one group
	}
	if g.top.N > 0 {
		shares++ // to sort the rows
	}
	isEnough := func(m filejobs.Memory, threads int) bool {
		g.shareSize = m.ForEngine(threads) / shares
		g.sorterMemory = sorterShares * g.shareSize
		state := 8 * (g.program.Words + len(g.quantileColumns))
		g.maxKeyLen = (extsort.MaxRecord(g.sorterMemory) - 2*state - 8*maxListCap - overhead) / 2
		if g.sortsParts() {
			g.maxKeyLen = g.maxKeyLen * 2 / 3 // the sorter stores the key twice, with NULs escaped in one copy
		}
		entries := 3 * g.shareSize / int64(threads+1) / 18
		minShare := int64(extsort.MinMemory) * int64(len(g.quantileColumns)) // each column needs a sorter
		if g.top.N > 0 {
			minShare = max(minShare, 2*extsort.MinMemory)
		}
		return g.sorterMemory >= extsort.MinMemory && g.shareSize >= minShare && 3*g.shareSize >= hashagg.MinMemory*int64(threads) && entries >= int64(state+minKey) && g.maxKeyLen >= minKey
	}
	for !isEnough(memory, *threads) {
		*threads--
		if *threads > 0 {
			continue
		}
		for !isEnough(memory, 1) {
			memory *= 2
		}
		return &MemoryError{memory}
	}
	return nil
}

func appendNew[T comparable](list []T, n T) []T {
	if slices.Contains(list, n) {
		return list
	}
	return append(list, n)
}

func (g *engine) Run(ctx context.Context, j *filejobs.Job) error {
	if err := g.open(ctx, j); err != nil {
		return err
	}
	if err := j.Read(ctx, g.fields, g.addBlock); err != nil {
		return err
	}
	j.Bar.Wait("merging groups", nil)
	errs := make([]error, len(g.workers))
	var wg sync.WaitGroup
	for i, w := range g.workers {
		wg.Go(func() { errs[i] = filejobs.JoinErrors(w.finish(i), w.close()) })
	}
	wg.Wait()
	// Close the tables now, because the next steps need their memory.
	if err := errors.Join(append(errs, g.numbers.Close())...); err != nil {
		return err
	}
	if len(g.distinctColumns) > 0 {
		if err := g.gatherDistinct(ctx); err != nil {
			return err
		}
	}
	return g.write(ctx)
}

func (g *engine) open(ctx context.Context, j *filejobs.Job) (err error) {
	o := hashagg.Options{Memory: 3 * g.shareSize, Threads: j.Threads}
	for range g.distinctColumns {
		pairs, err := j.NewAggregator(ctx, o)
		if err != nil {
			return err
		}
		g.pairs = append(g.pairs, pairs)
	}
	o.Words, o.Merge = g.program.Words+len(g.quantileColumns), g.program.Merge
	g.numbers, err = j.NewAggregator(ctx, o)
	if err != nil {
		return err
	}
	g.sorter, err = j.NewSorter(ctx, g.sorterMemory, !g.sortsParts())
	if err != nil {
		return err
	}
	for range j.Threads {
		w, err := newWorker(g)
		if err != nil {
			return err
		}
		g.workers = append(g.workers, w)
	}
	return nil
}
