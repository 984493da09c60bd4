package datafile

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/take"
)

// maxHeldBytes limits the decoded bytes of a group's condition columns, which are held until it is
// known which other columns to read.
const maxHeldBytes = 32 << 20

// step is a range of a group's rows that is read at once, and the rows in it that are kept.
type step struct {
	span
	looked []arrow.Array
	at     []int // indices of the kept rows; nil: all
	none   bool
}

// rows yields the kept rows of a group.
func (f *file) rows(ctx context.Context, g group) iter.Seq2[arrow.RecordBatch, error] {
	return func(yield func(arrow.RecordBatch, error) bool) {
		if err := f.read(ctx, g, yield); err != nil {
			yield(nil, fmt.Errorf("file %s: %w", f.name, err))
		}
	}
}

func (f *file) read(ctx context.Context, g group, yield func(arrow.RecordBatch, error) bool) error {
	look := slices.Clone(f.scan.Looked)
	if f.drop != nil {
		look = append(look, f.drop.Columns...)
	}
	var rest []Column
	var from []int // for each column, its index in the list of look and then rest
	for _, c := range f.scan.Columns {
		id, _ := idOf(c.IDs)
		at := slices.IndexFunc(look, func(l Column) bool {
			other, _ := idOf(l.IDs)
			return other == id
		})
		if at < 0 {
			at = len(look) + len(rest)
			rest = append(rest, c)
		}
		from = append(from, at)
	}
	spans, err := f.spans(&g)
	if err != nil || len(spans) == 0 {
		return err
	}
	first, err := f.columns(ctx, f.looker, g, look, len(f.scan.Looked))
	if err != nil {
		return err
	}
	defer first.release()
	next := func() (st step, err error) {
		if err := canceled.Err(ctx); err != nil {
			return st, err
		}
		st.span = spans[0]
		if st.to = min(st.to, st.from+first.rows); st.to == spans[0].to {
			spans = spans[1:]
		} else {
			spans[0].from = st.to
		}
		if err = first.seek(st.from); err == nil {
			st.looked, err = first.next(st.rows())
		}
		if err != nil {
			return st, err
		}
		if err = f.decide(&st, g.first+st.from); err == nil && st.none {
			first.letGo(st.looked)
		}
		return st, err
	}
	var held []step // steps with kept rows
	holds := len(rest) > 0 && len(look) > 0 && f.size(g, look) <= maxHeldBytes
	for size := int64(0); holds && len(spans) > 0 && size <= maxHeldBytes; {
		st, err := next()
		if err != nil {
			return err
		}
		if !st.none {
			held = append(held, st)
			for _, a := range st.looked {
				size += buffers(a.Data())
			}
		}
	}
	if len(held) == 0 && len(spans) == 0 {
		return nil
	}
	others, err := f.columns(ctx, f.reader, g, rest, len(rest))
	if err != nil {
		return err
	}
	defer others.release()
	schema := f.scan.Schema()
	for len(held) > 0 || len(spans) > 0 {
		var st step
		if len(held) > 0 {
			st, held = held[0], held[1:]
		} else if st, err = next(); err != nil {
			return err
		}
		if st.none {
			continue
		}
		if st.rows() > others.rows {
			held = append(st.parts(others.rows), held...)
			first.letGo(st.looked)
			continue
		}
		kept := st.kept()
		if err := others.seek(kept.from); err != nil {
			return err
		}
		more, err := others.next(kept.rows())
		if err != nil {
			return err
		}
		columns := make([]arrow.Array, len(from))
		for i, at := range from {
			if at < len(look) {
				columns[i], err = st.picked(st.looked[at], st.span)
			} else {
				columns[i], err = st.picked(more[at-len(look)], kept)
			}
			if err != nil {
				return fmt.Errorf("column %q: %w", schema.Field(i).Name, err)
			}
		}
		b := array.NewRecordBatch(schema, columns, st.count())
		if st.at != nil || f.scan.Recycle { // the values were copied, or the batch has its own reference
			first.letGo(st.looked)
		}
		if f.scan.Recycle {
			others.letGo(more)
		}
		if !yield(b, nil) {
			return nil
		}
	}
	return canceled.Err(ctx)
}

// decide finds the rows of a step that are kept, by the condition and the deletes.
func (f *file) decide(st *step, first int64) error {
	where, drop := f.scan.Where, f.drop
	if where == nil && drop == nil {
		return nil
	}
	var keep []bool
	var err error
	if where == nil {
		keep = slices.Repeat([]bool{true}, int(st.rows()))
	} else {
		keep, err = where.Holds(int(st.rows()), func(name string) arrow.Array { return st.looked[slices.Index(where.Columns, name)] })
		if err != nil {
			return err
		}
	}
	if drop != nil {
		if err := drop.Gone(first, keep, st.looked[len(f.scan.Looked):]); err != nil {
			return err
		}
	}
	at := take.Indices(keep)
	st.none = len(at) == 0
	if int64(len(at)) < st.rows() {
		st.at = at
	}
	return nil
}

// kept returns the span from the first kept row to the last.
func (st *step) kept() span {
	if st.at == nil {
		return st.span
	}
	return span{st.from + int64(st.at[0]), st.from + int64(st.at[len(st.at)-1]) + 1}
}

// parts divides a step into parts of at most the given number of rows, and omits parts without kept
// rows. Their columns share the step's memory.
func (st *step) parts(rows int64) (all []step) {
	at := st.at
	for from := st.from; from < st.to; from += rows {
		part := step{span: span{from, min(from+rows, st.to)}}
		for st.at != nil && len(at) > 0 && int64(at[0]) < part.to-st.from {
			part.at, at = append(part.at, at[0]-int(from-st.from)), at[1:]
		}
		if st.at != nil && part.at == nil {
			continue
		}
		for _, a := range st.looked {
			part.looked = append(part.looked, array.NewSlice(a, from-st.from, part.to-st.from))
		}
		all = append(all, part)
	}
	return all
}

func (st *step) count() int64 {
	if st.at == nil {
		return st.rows()
	}
	return int64(len(st.at))
}

// picked returns the step's kept rows of the column c, which contains the rows of the span has.
func (st *step) picked(c arrow.Array, has span) (arrow.Array, error) {
	if st.at != nil && has.rows() > st.count() {
		at, before := st.at, int(has.from-st.from)
		if before > 0 {
			at = make([]int, len(st.at))
			for i, row := range st.at {
				at[i] = row - before
			}
		}
		var err error
		if c, err = take.Rows(c, at); err != nil {
			return nil, err
		}
	}
	return decode(c)
}

// span is the range of a group's rows with from <= row < to.
type span struct{ from, to int64 }

func (s span) rows() int64 { return s.to - s.from }

// spans returns the rows of a group that may match, by the statistics of its pages. It sets the
// group's index.
func (f *file) spans(g *group) (all []span, err error) {
	defer f.sane(&err)
	all = []span{{max(0, f.skip-g.first), g.rows}}
	where := f.scan.Where
	if where != nil || all[0].from > 0 {
		g.index = f.pageIndex(*g)
	}
	if where == nil {
		return all, nil
	}
	for _, c := range f.scan.Looked {
		pages := f.pages(*g, c)
		if pages == nil {
			continue
		}
		var some []span
		for _, p := range pages {
			if may, _ := where.May(func(name string) filter.Bounds {
				if name == c.Field.Name {
					return p.Bounds
				}
				return f.boundsOf(*g, name)
			}); !may {
				continue
			}
			if last := len(some) - 1; last >= 0 && some[last].to == p.from {
				some[last].to = p.to
			} else {
				some = append(some, p.span)
			}
		}
		all = common(all, some)
	}
	return all, nil
}

// common returns the intersection of two ordered lists of spans.
func common(a, b []span) (both []span) {
	for len(a) > 0 && len(b) > 0 {
		if s := (span{max(a[0].from, b[0].from), min(a[0].to, b[0].to)}); s.from < s.to {
			both = append(both, s)
		}
		if a[0].to < b[0].to {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return both
}
