package cli

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/go-partd/partd/internal/aggregate"
	"github.com/go-partd/partd/internal/extsort"
	"github.com/go-partd/partd/internal/hashagg"
	"github.com/go-partd/partd/internal/records"
)

// grouping is one run of partd group. Numbers are aggregated by hash; values
// that have to be kept (first, last, list) are sorted by the key of their group,
// and so are the results, which brings all parts of a row together.
type grouping struct {
	by, agg *string

	names    []string // of the columns of the output
	specs    []aggregate.Spec
	places   []int // the column of each spec among the values, -1 for none
	fields   []records.Field
	keys     int // how many of the fields make the key; the others are values
	values   int
	program  *aggregate.Program
	distinct []int // columns whose different values are counted
	kept     []int // columns whose values are kept

	numbers *hashagg.Aggregator
	pairs   []*hashagg.Aggregator // of key and value, for each of distinct
	sorter  *extsort.Sorter
	workers []*groupWorker
	batches atomic.Int64
}

// plan finds the fields.
func (g *grouping) plan(j *fileJob) error {
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
	err = fmt.Errorf("--%s %q of %s, read as %s: %w", flag, value, j.files.files[0].Name, j.layout.Format, err)
	if j.files.columns == nil {
		return usageError{err}
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
	if err := j.read(ctx, cancel, g.fields, false, g.use); err != nil {
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

// open divides the memory between the engines.
func (g *grouping) open(ctx context.Context, j *fileJob) error {
	shares := int64(3 + 3*len(g.distinct) + 1)
	sorting := int64(1)
	if len(g.kept) > 0 {
		shares, sorting = shares+5, 6
	}
	one := j.engineMemory() / shares
	var err error
	newTables := func(words int, merge func(dst, src []uint64)) *hashagg.Aggregator {
		if err != nil {
			return nil
		}
		var a *hashagg.Aggregator
		a, err = hashagg.New(ctx, hashagg.Options{Memory: 3 * one, Threads: *j.in.threads, Temp: j.temp, Words: words, Merge: merge})
		return a
	}
	g.numbers = newTables(g.program.Words, g.program.Merge)
	for range g.distinct {
		g.pairs = append(g.pairs, newTables(0, nil))
	}
	if err == nil {
		g.sorter, err = extsort.New(ctx, &extsort.Options{Memory: sorting * one, Threads: *j.in.threads, Temp: j.temp})
	}
	for range *j.in.threads {
		w := &groupWorker{g: g, numbersOf: make([]aggregate.Number, g.values)}
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

// groupWorker is what one goroutine aggregates with.
type groupWorker struct {
	g         *grouping
	table     *hashagg.Table
	pairs     []*hashagg.Table
	numbersOf []aggregate.Number
	key       []byte
	pair      []byte
	kept      []byte
	records   int64
}

func (w *groupWorker) open() (err error) {
	if w.table, err = w.g.numbers.Table(); err != nil {
		return err
	}
	for _, a := range w.g.pairs {
		t, err := a.Table()
		if err != nil {
			return err
		}
		w.pairs = append(w.pairs, t)
	}
	return nil
}

func (w *groupWorker) close() error {
	errs := []error{w.table.Close()}
	for _, t := range w.pairs {
		errs = append(errs, t.Close())
	}
	return errors.Join(errs...)
}

// use aggregates a block.
func (g *grouping) use(b *records.Block) (err error) {
	w := g.workers[b.Worker]
	var keep *extsort.Writer
	if len(g.kept) > 0 {
		for n := g.batches.Load(); n <= b.Seq && !g.batches.CompareAndSwap(n, b.Seq+1); {
			n = g.batches.Load()
		}
		if keep, err = g.sorter.Batch(uint64(b.Seq)); err != nil {
			return err
		}
		defer func() { err = alsoFailed(err, keep.Close()) }()
	}
	for b.Next() {
		values := b.Fields[g.keys:]
		if bad := g.program.Numbers(values, w.numbersOf); bad >= 0 {
			b.Bad(g.noNumber(b.Fields[g.keys+bad], bad))
			continue
		}
		key := b.Fields[0]
		if g.keys > 1 {
			w.key = appendKey(w.key[:0], b.Fields[:g.keys])
			key = w.key
		}
		state, _, err := w.table.Get(key)
		if err != nil {
			return err
		}
		g.program.Add(state, values, w.numbersOf)
		for i, col := range g.distinct {
			if len(values[col]) == 0 {
				continue
			}
			w.pair = append(binary.AppendUvarint(w.pair[:0], uint64(len(key))), key...)
			w.pair = append(w.pair, values[col]...)
			if _, _, err := w.pairs[i].Get(w.pair); err != nil {
				return err
			}
		}
		if keep != nil {
			if err := keep.Add(key, w.keptOf(values)); err != nil {
				return err
			}
		}
	}
	n, _ := b.Tally()
	w.records += n
	return nil
}

func (g *grouping) noNumber(value []byte, col int) error {
	for i, s := range g.specs {
		if g.places[i] == col && s.Numeric() {
			return fmt.Errorf("%s needs a number, not %s", s.Text, quoteShort(value))
		}
	}
	return fmt.Errorf("%s is no number", quoteShort(value))
}

// quoteShort quotes a value for a message.
func quoteShort(value []byte) string {
	const most = 40
	if len(value) > most {
		return fmt.Sprintf("%q…", value[:most])
	}
	return fmt.Sprintf("%q", value)
}

// What is sorted under the key of a group begins with what it is.
const (
	keptValues    = iota // of a record
	aggregated           // the key, how many records, words
	countDistinct        // for each column, how many values
)

// keptOf returns the values of a record that are kept: the length of each, plus
// one, or 0 for one that is missing, and the value.
func (w *groupWorker) keptOf(values [][]byte) []byte {
	rec := append(w.kept[:0], keptValues)
	for _, col := range w.g.kept {
		v := values[col]
		if v == nil {
			rec = append(rec, 0)
			continue
		}
		rec = append(binary.AppendUvarint(rec, uint64(len(v))+1), v...)
	}
	w.kept = rec
	return rec
}

// appendKey appends the key of several fields, which sorts as they do one after
// the other: a NUL in a field is followed by 255, and a field ends in NUL and 1.
func appendKey(dst []byte, fields [][]byte) []byte {
	for _, f := range fields {
		for {
			nul := bytes.IndexByte(f, 0)
			if nul < 0 {
				break
			}
			dst = append(append(dst, f[:nul+1]...), 255)
			f = f[nul+1:]
		}
		dst = append(append(dst, f...), 0, 1)
	}
	return dst
}

// splitKey returns the fields of a key that appendKey made.
func splitKey(fields [][]byte, key []byte) [][]byte {
	for len(key) > 0 {
		var f []byte
		for {
			nul := bytes.IndexByte(key, 0)
			end := key[nul+1] == 1
			if end {
				f = append(f, key[:nul]...)
			} else {
				f = append(f, key[:nul+1]...)
			}
			key = key[nul+2:]
			if end {
				break
			}
		}
		fields = append(fields, f)
	}
	return fields
}
