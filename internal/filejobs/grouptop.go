package filejobs

import (
	"context"
	"slices"
	"strings"

	"github.com/go-partd/partd/internal/aggregate"
	"github.com/go-partd/partd/internal/extsort"
	"github.com/go-partd/partd/internal/nearest"
)

// GroupTop selects the groups that are written: the N with the largest value of the aggregate
// By, or with the smallest if :asc follows its name. If By is "", it is the first aggregate.
// If N is 0, all groups are written, in the order of their keys.
type GroupTop struct {
	N  int
	By string
}

// groupTop sorts the rows of the groups that may be written. It is an io.Writer of rows.
type groupTop struct {
	GroupTop
	topEngine
	by     int // the index of the aggregate to sort by
	order  fieldOrder
	row    *groupRow
	writer *extsort.Writer
	key    []byte
}

func (t *groupTop) plan(specs []aggregate.Spec, names []string) error {
	if t.N == 0 {
		return nil
	}
	for _, s := range specs {
		if s.Func == aggregate.List {
			return optionErrorf("--top needs rows that fit in memory, but %s may not: leave it out of --agg", s.Text)
		}
	}
	if t.By != "" {
		var name string
		name, t.order = orderedField(t.By, names)
		if t.by = slices.Index(names, name); t.by < 0 || t.order.numeric {
			return optionErrorf("--top-by %q is not an aggregate of --agg%s: use one of %s, and add :asc for the smallest", t.By, nearest.Hint(name, names), strings.Join(names, ", "))
		}
	}
	s := specs[t.by]
	t.order.numeric = s.Func != aggregate.Mode && !s.Kept() && !s.Boolean()
	return nil
}

// open prepares for rows.
func (t *groupTop) open(ctx context.Context, j *job, row *groupRow, memory int64) (err error) {
	t.n, t.row = t.N, row
	t.firsts = []*firstKeys{{n: t.N, limit: memory / 2}}
	if t.sorter, err = j.newSorter(ctx, memory/2, false); err == nil {
		t.writer, err = t.sorter.Writer()
	}
	return err
}

// Write adds the current row. text is the row as it will be written.
func (t *groupTop) Write(text []byte) (int, error) {
	v := &t.row.row[t.row.g.keys+t.by]
	t.key = append(t.key[:0], missing)
	if len(v.Text) > 0 {
		t.key[0] = present
	}
	if t.order.numeric {
		t.key, _ = extsort.AppendDecimal(t.key, v.Text) // a number, or empty
	} else {
		t.key = extsort.AppendText(t.key, v.Text)
	}
	if !t.order.asc {
		extsort.Invert(t.key)
	}
	if !t.firsts[0].add(t.key) {
		return len(text), nil
	}
	return len(text), moreMemory(t.writer.Add(t.key, text))
}

func (t *groupTop) write(j *job, groups int64) error {
	if err := t.writer.Close(); err != nil {
		return err
	}
	err := t.writeFirst(j, groups, "groups", func(row []byte) error {
		_, err := j.sink.Write(row)
		return err
	})
	j.report("written", "written", t.written)
	return err
}
