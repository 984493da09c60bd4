package filejobs

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/dustin/go-humanize"
	"github.com/go-partd/partd/internal/aggregate"
	"github.com/go-partd/partd/internal/extsort"
	"github.com/go-partd/partd/internal/hashagg"
	"github.com/go-partd/partd/internal/records"
)

// groupEngine is one run of [Group]. Numbers are aggregated by hash; values
// that have to be kept (first, last, list) are sorted by the key of their group,
// and so are the results, which brings all parts of a row together.
type groupEngine struct {
	by, aggregates string
	job            *job

	names    []string // of the columns of the output
	specs    []aggregate.Spec
	places   []int // the column of each spec among the values, -1 for none
	fields   []records.Field
	keys     int // how many of the fields make the key; the others are values
	values   int
	program  *aggregate.Program
	distinct []int // columns whose different values are counted
	kept     []int // columns whose values are kept

	share, sorting int64 // of the memory
	longest        int   // bytes of a key, for the sorter

	numbers *hashagg.Aggregator
	pairs   []*hashagg.Aggregator // of key and value, for each of distinct
	sorter  *extsort.Sorter
	workers []*groupWorker
	batches atomic.Int64
}

// Group returns what aggregates the records that are the same in the fields of by.
func Group(by, aggregates string) Engine { return &groupEngine{by: by, aggregates: aggregates} }

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
		place := -1
		if s.Field != "" {
			f, err := j.From.Resolve(s.Field, j.Inputs.Columns)
			if err != nil {
				return j.fieldError("agg", s.Text, err)
			}
			f.Optional = true
			if place = slices.Index(g.fields[g.keys:], f); place < 0 {
				place = len(g.fields) - g.keys
				g.fields = append(g.fields, f)
			}
		}
		g.places = append(g.places, place)
		switch {
		case s.Func == aggregate.Distinct:
			g.distinct = appendNew(g.distinct, place)
		case s.Kept():
			g.kept = appendNew(g.kept, place)
		}
	}
	g.values = len(g.fields) - g.keys
	g.program = aggregate.NewProgram(g.specs, g.places)
	return g.divide(j.Memory, &j.Threads)
}

// MemoryError says how much memory so many aggregates need.
type MemoryError struct{ Needs Memory }

func (e *MemoryError) Error() string {
	return fmt.Sprintf("so many aggregates need %d bytes of memory", e.Needs)
}

// divide divides the memory between the engines: three shares for each table, one
// for the sorter, and five more if that has values. Threads become no more than
// there is memory for.
func (g *groupEngine) divide(memory Memory, threads *int) error {
	const minKey = 1 << 10 // that has to fit
	shares, sorting := int64(3+3*len(g.distinct)+1), int64(1)
	if len(g.kept) > 0 {
		shares, sorting = shares+5, 6
	}
	fits := func(m Memory, threads int) bool {
		g.share = m.engines(threads) / shares
		g.sorting = sorting * g.share
		state := 8 * g.program.Words
		g.longest = (int(g.sorting/40) - state) / 2 // the sorter has it twice, with the state
		entries := 3 * g.share / int64(threads+1) / 18
		return g.sorting >= extsort.MinMemory && 3*g.share >= hashagg.MinMemory*int64(threads) && entries >= int64(state+minKey) && g.longest >= minKey
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

func appendNew(list []int, n int) []int {
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
	counts := make([]string, len(g.workers))
	for i, w := range g.workers {
		if err := w.close(); err != nil {
			return err
		}
		counts[i] = humanize.Comma(w.records)
	}
	if err := g.gather(ctx, j); err != nil {
		return err
	}
	return g.write(j, counts)
}

// open makes the tables and the sorter.
func (g *groupEngine) open(ctx context.Context, j *job) (err error) {
	o := hashagg.Options{Memory: 3 * g.share, Threads: j.Threads}
	for range g.distinct {
		pairs, err := j.newTables(ctx, o)
		if err != nil {
			return err
		}
		g.pairs = append(g.pairs, pairs)
	}
	o.Words, o.Merge = g.program.Words, g.program.Merge
	if g.numbers, err = j.newTables(ctx, o); err != nil {
		return err
	}
	if g.sorter, err = j.newSorter(ctx, g.sorting, false); err != nil {
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
