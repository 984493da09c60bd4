package filejobs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/go-partd/partd/internal/aggregate"
	"github.com/go-partd/partd/internal/extsort"
	"github.com/go-partd/partd/internal/hashagg"
	"github.com/go-partd/partd/internal/records"
)

// groupEngine is one run of [Group]. It aggregates numbers by hash. Values that are needed
// themselves (for first, last, any and list) are sorted by the key of their group. Ranked
// values (for quantiles and mode) are sorted by the key and the value. The results are
// sorted by the key as well, so that all parts of a row come together.
type groupEngine struct {
	by, aggregates string
	job            *job

	names         []string // column names of the output
	specs         []aggregate.Spec
	places        []aggregate.Columns // the columns of each spec's values
	fields        []records.Field
	keys          int // the first keys fields are the key, the others are values
	values        int
	program       *aggregate.Program
	distinct      []int // columns whose distinct values are counted
	storedColumns []int // columns whose values are kept
	modes         []int // columns whose most frequent value is needed
	quantiled     []int // columns whose numbers are needed in order
	top           groupTop

	share, sorting int64 // bytes of one share of the memory, and of the sorter
	longest        int   // maximum length of a key, because of the sorter

	numbers *hashagg.Aggregator
	pairs   []*hashagg.Aggregator // tables of (key, value) for each column in distinct
	sorter  *extsort.Sorter
	workers []*groupWorker
	batches atomic.Int64
}

// Group returns an engine that aggregates records with the same values in the fields of by.
func Group(by, aggregates string, top GroupTop) Engine {
	return &groupEngine{by: by, aggregates: aggregates, top: groupTop{GroupTop: top}}
}

func (g *groupEngine) plan(j *job) error {
	g.job = j
	var err error
	if g.specs, err = aggregate.Parse(g.aggregates); err != nil {
		return optionErrorf("--agg: %w", err)
	}
	if g.fields, err = j.fields("by", g.by); err != nil {
		return err
	}
	g.keys = len(g.fields)
	for _, f := range g.fields {
		g.names = append(g.names, j.nameOf(f))
	}
	for _, s := range g.specs {
		g.names = append(g.names, s.Text)
		var places aggregate.Columns
		if places.First, err = g.placeOf(s.Field, s.Text); err == nil {
			places.Second, err = g.placeOf(s.Second, s.Text)
		}
		if err != nil {
			return err
		}
		g.places = append(g.places, places)
		switch place := places.First; {
		case s.Func == aggregate.Distinct:
			g.distinct = appendNew(g.distinct, place)
		case s.Func == aggregate.Mode:
			g.modes = appendNew(g.modes, place)
		case s.Func == aggregate.Quantile:
			g.quantiled = appendNew(g.quantiled, place)
		case s.Kept():
			g.storedColumns = appendNew(g.storedColumns, place)
		}
	}
	if err := g.top.plan(g.specs, g.names[g.keys:]); err != nil {
		return err
	}
	g.values = len(g.fields) - g.keys
	g.program = aggregate.NewProgram(g.specs, g.places)
	return g.divide(j.Memory, &j.Threads)
}

// placeOf returns the column of a field among the values, or -1 if field is "".
func (g *groupEngine) placeOf(field, text string) (int, error) {
	if field == "" {
		return -1, nil
	}
	f, err := g.job.From.Resolve(field, g.job.Inputs.Columns)
	if err != nil {
		return -1, g.job.fieldError("agg", text, err)
	}
	f.Optional = true
	place := slices.Index(g.fields[g.keys:], f)
	if place < 0 {
		place = len(g.fields) - g.keys
		g.fields = append(g.fields, f)
	}
	return place, nil
}

// sortsValues reports whether values go to the sorter, in input order.
func (g *groupEngine) sortsValues() bool { return len(g.storedColumns)+len(g.modes) > 0 }

// sortsParts reports whether the parts of a group must be sorted.
func (g *groupEngine) sortsParts() bool { return len(g.modes) > 0 }

// MemoryError is the error if the memory is too small for the aggregates.
type MemoryError struct{ Needs Memory }

func (e *MemoryError) Error() string {
	return fmt.Sprintf("these aggregates need %d bytes of memory", e.Needs)
}

// divide divides the memory into shares: three for each table; three for the sorter, or four
// if it gets values; for quantiles, one for lists of numbers and two for the numbers of one
// group; and one for sorting rows. It reduces the number of threads if memory is short.
func (g *groupEngine) divide(memory Memory, threads *int) error {
	const (
		minKey   = 1 << 10 // length of a key that must fit
		overhead = 32      // bytes besides a key: lengths, the number of records, the kind
	)
	sorting := int64(3)
	if g.sortsValues() {
		sorting = 4
	}
	shares := 3 + 3*int64(len(g.distinct)) + sorting
	if len(g.quantiled) > 0 {
		shares += 3
	}
	if g.top.N > 0 {
		shares++
	}
	fits := func(m Memory, threads int) bool {
		g.share = m.engines(threads) / shares
		g.sorting = sorting * g.share
		state := 8 * (g.program.Words + len(g.quantiled))
		g.longest = (extsort.MaxRecord(g.sorting) - 2*state - 8*maxListLen - overhead) / 2
		if g.sortsParts() {
			g.longest = g.longest * 2 / 3 // the sorter stores the key twice, once with escaped NULs
		}
		entries := 3 * g.share / int64(threads+1) / 18
		minShare := int64(extsort.MinMemory) * int64(len(g.quantiled)) // each needs a sorter
		if g.top.N > 0 {
			minShare = max(minShare, 2*extsort.MinMemory)
		}
		return g.sorting >= extsort.MinMemory && g.share >= minShare && 3*g.share >= hashagg.MinMemory*int64(threads) && entries >= int64(state+minKey) && g.longest >= minKey
	}
	for !fits(memory, *threads) {
		if *threads--; *threads > 0 {
			continue
		}
		for !fits(memory, 1) {
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

func (g *groupEngine) run(ctx context.Context, j *job) error {
	if err := g.open(ctx, j); err != nil {
		return err
	}
	if err := j.read(ctx, g.fields, g.use); err != nil {
		return err
	}
	j.Bar.Wait("merging groups", nil)
	errs := make([]error, len(g.workers))
	var wg sync.WaitGroup
	for i, w := range g.workers {
		wg.Go(func() { errs[i] = joinErrors(w.end(i), w.close()) })
	}
	wg.Wait()
	// Free the tables' memory for the next steps.
	if err := errors.Join(append(errs, g.numbers.Close())...); err != nil {
		return err
	}
	if len(g.distinct) > 0 {
		if err := g.gatherDistinct(ctx); err != nil {
			return err
		}
	}
	return g.write(ctx)
}

func (g *groupEngine) open(ctx context.Context, j *job) (err error) {
	o := hashagg.Options{Memory: 3 * g.share, Threads: j.Threads}
	for range g.distinct {
		pairs, err := j.newTables(ctx, o)
		if err != nil {
			return err
		}
		g.pairs = append(g.pairs, pairs)
	}
	o.Words, o.Merge = g.program.Words+len(g.quantiled), g.program.Merge
	if g.numbers, err = j.newTables(ctx, o); err != nil {
		return err
	}
	if g.sorter, err = j.newSorter(ctx, g.sorting, !g.sortsParts()); err != nil {
		return err
	}
	for range j.Threads {
		w, err := newGroupWorker(g)
		if err != nil {
			return err
		}
		g.workers = append(g.workers, w)
	}
	return nil
}
