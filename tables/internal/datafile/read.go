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

// maxHeldBytes limits the decoded bytes of a group's condition columns that are held until the rows to keep
// are known.
const maxHeldBytes = 32 << 20

// step is a range of a group's rows that is read in one go, with the rows to keep.
type step struct {
	span
	looked   []arrow.Array
	keptRows []int // indices of the rows to keep; nil means all
	isEmpty  bool
}

// rows yields the kept rows of a group.
func (f *file) rows(ctx context.Context, g group) iter.Seq2[arrow.RecordBatch, error] {
	return func(yield func(arrow.RecordBatch, error) bool) {
		if err := f.readGroup(ctx, g, yield); err != nil {
			yield(nil, fmt.Errorf("file %s: %w", f.name, err))
		}
	}
}

func (f *file) readGroup(ctx context.Context, g group, yield func(arrow.RecordBatch, error) bool) error {
	look := slices.Clone(f.scan.Looked)
	if f.drop != nil {
		look = append(look, f.drop.Columns...)
	}
	var otherColumns []Column
	var columnIndex []int // for each column, its index in look followed by otherColumns
	for _, c := range f.scan.Columns {
		id, _ := idOf(c.IDs)
		i := slices.IndexFunc(look, func(l Column) bool {
			other, _ := idOf(l.IDs)
			return other == id
		})
		if i < 0 {
			i = len(look) + len(otherColumns)
			otherColumns = append(otherColumns, c)
		}
		columnIndex = append(columnIndex, i)
	}
	spans, err := f.spans(&g)
	if err != nil || len(spans) == 0 {
		return err
	}
	lookReader, err := f.columns(ctx, f.looker, g, look, len(f.scan.Looked))
	if err != nil {
		return err
	}
	defer lookReader.release()
	nextStep := func() (st step, err error) {
		if err := canceled.Err(ctx); err != nil {
			return st, err
		}
		st.span = spans[0]
		if st.to = min(st.to, st.from+lookReader.rows); st.to == spans[0].to {
			spans = spans[1:]
		} else {
			spans[0].from = st.to
		}
		if err = lookReader.seek(st.from); err == nil {
			st.looked, err = lookReader.next(st.rows())
		}
		if err != nil {
			return st, err
		}
		if err = f.decide(&st, g.first+st.from); err == nil && st.isEmpty {
			lookReader.letGo(st.looked)
		}
		return st, err
	}
	var held []step // steps with kept rows
	holds := len(otherColumns) > 0 && len(look) > 0 && f.size(g, look) <= maxHeldBytes
	for size := int64(0); holds && len(spans) > 0 && size <= maxHeldBytes; {
		st, err := nextStep()
		if err != nil {
			return err
		}
		if !st.isEmpty {
			held = append(held, st)
			for _, a := range st.looked {
				size += buffers(a.Data())
			}
		}
	}
	if len(held) == 0 && len(spans) == 0 {
		return nil
	}
	otherReader, err := f.columns(ctx, f.reader, g, otherColumns, len(otherColumns))
	if err != nil {
		return err
	}
	defer otherReader.release()
	schema := f.scan.Schema()
	for len(held) > 0 || len(spans) > 0 {
		var st step
		if len(held) > 0 {
			st, held = held[0], held[1:]
		} else if st, err = nextStep(); err != nil {
			return err
		}
		if st.isEmpty {
			continue
		}
		if st.rows() > otherReader.rows {
			held = append(st.split(otherReader.rows), held...)
			lookReader.letGo(st.looked)
			continue
		}
		keptSpan := st.keptSpan()
		if err := otherReader.seek(keptSpan.from); err != nil {
			return err
		}
		otherArrays, err := otherReader.next(keptSpan.rows())
		if err != nil {
			return err
		}
		columns := make([]arrow.Array, len(columnIndex))
		for i, index := range columnIndex {
			if index < len(look) {
				columns[i], err = st.keptOf(st.looked[index], st.span)
			} else {
				columns[i], err = st.keptOf(otherArrays[index-len(look)], keptSpan)
			}
			if err != nil {
				return fmt.Errorf("column %q: %w", schema.Field(i).Name, err)
			}
		}
		b := array.NewRecordBatch(schema, columns, st.count())
		if st.keptRows != nil || f.scan.Recycle { // the values were copied, or the batch has its own reference
			lookReader.letGo(st.looked)
		}
		if f.scan.Recycle {
			otherReader.letGo(otherArrays)
		}
		if !yield(b, nil) {
			return nil
		}
	}
	return canceled.Err(ctx)
}

// decide finds the rows of a step to keep, by the condition and the deletes.
func (f *file) decide(st *step, firstRow int64) error {
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
		if err := drop.MarkDeleted(firstRow, keep, st.looked[len(f.scan.Looked):]); err != nil {
			return err
		}
	}
	kept := take.Indices(keep)
	st.isEmpty = len(kept) == 0
	if int64(len(kept)) < st.rows() {
		st.keptRows = kept
	}
	return nil
}

// keptSpan returns the span from the first to the last row to keep.
func (st *step) keptSpan() span {
	if st.keptRows == nil {
		return st.span
	}
	return span{st.from + int64(st.keptRows[0]), st.from + int64(st.keptRows[len(st.keptRows)-1]) + 1}
}

// split divides a step into steps of at most the given number of rows, and omits steps without rows to keep.
// The columns share the step's memory.
func (st *step) split(rows int64) (all []step) {
	kept := st.keptRows
	for start := st.from; start < st.to; start += rows {
		part := step{span: span{start, min(start+rows, st.to)}}
		for st.keptRows != nil && len(kept) > 0 && int64(kept[0]) < part.to-st.from {
			part.keptRows, kept = append(part.keptRows, kept[0]-int(start-st.from)), kept[1:]
		}
		if st.keptRows != nil && part.keptRows == nil {
			continue
		}
		for _, a := range st.looked {
			part.looked = append(part.looked, array.NewSlice(a, start-st.from, part.to-st.from))
		}
		all = append(all, part)
	}
	return all
}

func (st *step) count() int64 {
	if st.keptRows == nil {
		return st.rows()
	}
	return int64(len(st.keptRows))
}

// keptOf returns the rows to keep of a column that contains the rows of columnSpan.
func (st *step) keptOf(c arrow.Array, columnSpan span) (arrow.Array, error) {
	if st.keptRows != nil && columnSpan.rows() > st.count() {
		rows, skipped := st.keptRows, int(columnSpan.from-st.from)
		if skipped > 0 {
			rows = make([]int, len(st.keptRows))
			for i, row := range st.keptRows {
				rows[i] = row - skipped
			}
		}
		var err error
		if c, err = take.Rows(c, rows); err != nil {
			return nil, err
		}
	}
	return decode(c)
}

// span is the range of a group's rows with from <= row < to.
type span struct{ from, to int64 }

func (s span) rows() int64 { return s.to - s.from }

// spans returns the rows of a group that may match, as the statistics of its pages say. It sets the group's
// index.
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
		var matching []span
		for _, p := range pages {
			if mayMatch, _ := where.May(func(name string) filter.Bounds {
				if name == c.Field.Name {
					return p.Bounds
				}
				return f.boundsOf(*g, name)
			}); !mayMatch {
				continue
			}
			if last := len(matching) - 1; last >= 0 && matching[last].to == p.from {
				matching[last].to = p.to
			} else {
				matching = append(matching, p.span)
			}
		}
		all = intersect(all, matching)
	}
	return all, nil
}

// intersect returns the intersection of two ordered lists of spans.
func intersect(a, b []span) (result []span) {
	for len(a) > 0 && len(b) > 0 {
		if s := (span{max(a[0].from, b[0].from), min(a[0].to, b[0].to)}); s.from < s.to {
			result = append(result, s)
		}
		if a[0].to < b[0].to {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return result
}
