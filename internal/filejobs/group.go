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

// groupEngine is one run of [Group]. Numbers are aggregated by hash; values
// that have to be kept (first, last, any, list) are sorted by the key of their
// group, those that are ranked (quantiles, mode) by the key and themselves, and so
// are the results, which brings all parts of a row together.
type groupEngine struct {
	by, aggregates string
	job            *job

	names     []string // of the columns of the output
	specs     []aggregate.Spec
	places    []aggregate.Columns // of each spec among the values
	fields    []records.Field
	keys      int // how many of the fields make the key; the others are values
	values    int
	program   *aggregate.Program
	distinct  []int // columns whose different values are counted
	kept      []int // columns whose values are kept
	modes     []int // columns of which the most frequent value is wanted
	quantiled []int // columns whose numbers are needed in their order
	top       groupTop

	share, sorting int64 // of the memory
	longest        int   // bytes of a key, for the sorter

	numbers *hashagg.Aggregator
	pairs   []*hashagg.Aggregator // of key and value, for each of distinct
	sorter  *extsort.Sorter
	workers []*groupWorker
	batches atomic.Int64
}

// Group returns what aggregates the records that are the same in the fields of by.
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
			g.kept = appendNew(g.kept, place)
		}
	}
	if err := g.top.plan(g.specs, g.names[g.keys:]); err != nil {
		return err
	}
	g.values = len(g.fields) - g.keys
	g.program = aggregate.NewProgram(g.specs, g.places)
	return g.divide(j.Memory, &j.Threads)
}

// placeOf returns the column of a field among the values, -1 for no field.
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

// sortsValues reports whether values go to the sorter in the order of the input.
func (g *groupEngine) sortsValues() bool { return len(g.kept)+len(g.modes) > 0 }

// sortsParts reports whether the parts of a group have an order.
func (g *groupEngine) sortsParts() bool { return len(g.modes) > 0 }

// MemoryError says how much memory so many aggregates need.
type MemoryError struct{ Needs Memory }

func (e *MemoryError) Error() string {
	return fmt.Sprintf("so many aggregates need %d bytes of memory", e.Needs)
}

// divide divides the memory between the engines: three shares for each table, as many for
// the sorter and one more if values go there, for quantiles one for lists of numbers and two
// for those of one group, and one for sorting rows. Threads become no more than there is
// memory for.
func (g *groupEngine) divide(memory Memory, threads *int) error {
	const (
		minKey = 1 << 10 // that has to fit
		around = 32      // a key: lengths, how many records, what it is
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
		g.longest = (extsort.MaxRecord(g.sorting) - 2*state - 8*mostList - around) / 2
		if g.sortsParts() {
			g.longest = g.longest * 2 / 3 // the sorter has it twice, once with each NUL escaped
		}
		entries := 3 * g.share / int64(threads+1) / 18
		least := int64(extsort.MinMemory) * int64(len(g.quantiled)) // of a share: a sorter for each
		if g.top.N > 0 {
			least = max(least, 2*extsort.MinMemory)
		}
		return g.sorting >= extsort.MinMemory && g.share >= least && 3*g.share >= hashagg.MinMemory*int64(threads) && entries >= int64(state+minKey) && g.longest >= minKey
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
	j.Bar.Wait("putting groups together", nil)
	errs := make([]error, len(g.workers))
	var ends sync.WaitGroup
	for i, w := range g.workers {
		ends.Go(func() { errs[i] = joinErrors(w.end(i), w.close()) })
	}
	ends.Wait()
	// The tables' memory is for what follows.
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
