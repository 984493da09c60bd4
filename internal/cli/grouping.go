package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/go-partd/partd/internal/aggregate"
	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/internal/extsort"
	"github.com/go-partd/partd/internal/hashagg"
	"github.com/go-partd/partd/internal/records"
)

// grouping is one run of partd group. Numbers are aggregated by hash; values
// that have to be kept (first, last, list) are sorted by the key of their group,
// and so are the results, which brings all parts of a row together.
type grouping struct {
	by, agg *string
	job     *fileJob

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

// plan finds the fields.
func (g *grouping) plan(j *fileJob) error {
	g.job = j
	var err error
	if g.specs, err = aggregate.Parse(*g.agg); err != nil {
		return usagef("--agg: %w", err)
	}
	if g.fields, err = resolveBy(*g.by, j.layout, j.files.columns); err != nil {
		return fieldError("by", *g.by, j, err)
	}
	g.keys = len(g.fields)
	for _, f := range g.fields {
		g.names = append(g.names, j.nameOf(f))
	}
	for _, s := range g.specs {
		g.names = append(g.names, s.Text)
		place := -1
		if s.Field != "" {
			f, err := j.layout.Resolve(s.Field, j.files.columns)
			if err != nil {
				return fieldError("agg", s.Text, j, err)
			}
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
	for i := range g.fields {
		g.fields[i].Optional = true
	}
	g.program = aggregate.NewProgram(g.specs, g.places)
	return g.divide(*j.in.memory, j.in.threads)
}

// divide divides the memory between the engines: three shares for each table, one
// for the sorter, and five more if that has values. Threads become no more than
// there is memory for.
func (g *grouping) divide(memory size, threads *int) error {
	const leastKey = 1 << 10 // that has to fit
	shares, sorting := int64(3+3*len(g.distinct)+1), int64(1)
	if len(g.kept) > 0 {
		shares, sorting = shares+5, 6
	}
	fits := func(m size, threads int) bool {
		g.share = m.engines(threads) / shares
		g.sorting = sorting * g.share
		state := 8 * g.program.Words
		g.longest = (int(g.sorting/40) - state) / 2 // the sorter has it twice, with the state
		entries := 3 * g.share / int64(threads+1) / 18
		return g.sorting >= extsort.MinMemory && 3*g.share >= hashagg.MinMemory*int64(threads) && entries >= int64(state+leastKey) && g.longest >= leastKey
	}
	for !fits(memory, *threads) {
		if *threads--; *threads > 0 {
			continue
		}
		for !fits(memory, 1) {
			memory *= 2
		}
		return usagef("--agg: so many aggregates need more memory: --memory %v will do", &memory)
	}
	return nil
}

func appendNew(list []int, n int) []int {
	if slices.Contains(list, n) {
		return list
	}
	return append(list, n)
}

// fieldError says which flag named a field that is not there.
func fieldError(flag, value string, j *fileJob, err error) error {
	err = fmt.Errorf("--%s %q of %s, read as %s: %w%s", flag, value, j.files.files[0].Name, j.layout.Format, err, j.files.otherSep(j.layout))
	if j.files.columns == nil {
		return cliutil.UsageError{Err: err}
	}
	return err
}

// nameOf returns the name of a field, or its number.
func (j *fileJob) nameOf(f records.Field) string {
	switch {
	case j.layout.Format == records.JSONL:
		return f.Name
	case f.Index < 0:
		return fmt.Sprint(f.Index)
	case f.Index < len(j.files.columns):
		return j.files.columns[f.Index]
	}
	return fmt.Sprint(f.Index + 1)
}

func (g *grouping) run(parent context.Context, j *fileJob) (err error) {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	if err := g.open(ctx, j); err != nil {
		return err
	}
	defer func() { err = alsoFailed(err, g.close()) }()
	if err := j.read(ctx, cancel, g.fields, g.use); err != nil {
		return err
	}
	j.bar.Wait("putting groups together", nil)
	counts := make([]string, len(g.workers))
	for i, w := range g.workers {
		if err := w.close(); err != nil {
			return err
		}
		counts[i] = commas(w.records)
	}
	if err := g.gather(ctx, j); err != nil {
		return err
	}
	return g.write(j, counts)
}

// open makes the engines.
func (g *grouping) open(ctx context.Context, j *fileJob) error {
	var err error
	newTables := func(words int, merge func(dst, src []uint64)) *hashagg.Aggregator {
		if err != nil {
			return nil
		}
		var a *hashagg.Aggregator
		a, err = hashagg.New(ctx, hashagg.Options{Memory: 3 * g.share, Threads: *j.in.threads, Temp: j.temp, Words: words, Merge: merge})
		return a
	}
	g.numbers = newTables(g.program.Words, g.program.Merge)
	for range g.distinct {
		g.pairs = append(g.pairs, newTables(0, nil))
	}
	if err == nil {
		g.sorter, err = extsort.New(ctx, &extsort.Options{Memory: g.sorting, Threads: *j.in.threads, Temp: j.temp})
	}
	for range *j.in.threads {
		w := newGroupWorker(g)
		if err == nil {
			err = w.open()
		}
		g.workers = append(g.workers, w)
	}
	if err != nil {
		return errors.Join(err, g.close())
	}
	return nil
}

func (g *grouping) close() error {
	var errs []error
	for _, a := range append(g.pairs, g.numbers) {
		if a != nil {
			errs = append(errs, a.Close())
		}
	}
	if g.sorter != nil {
		errs = append(errs, g.sorter.Close())
	}
	return errors.Join(errs...)
}
