package filejobs

import (
	"context"
	"slices"
	"strings"

	"github.com/go-partd/partd/internal/aggregate"
	"github.com/go-partd/partd/internal/extsort"
	"github.com/go-partd/partd/internal/nearest"
)

// GroupTop says which of the groups are written: the N with the greatest value of the
// aggregate By, or with the least, where :asc follows its name. Without By it is the
// first aggregate. N of 0 is all, in the order of their keys.
type GroupTop struct {
	N  int
	By string
}

// groupTop sorts the rows of the groups that may be written. It is a writer of rows.
type groupTop struct {
	GroupTop
	topEngine
	at     int // of the aggregates, the one that is sorted by
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
			return optionErrorf("--top sorts whole rows in memory, and %s may be larger", s.Text)
		}
	}
	if t.By != "" {
		var name string
		name, t.order = orderedField(t.By, names)
		if t.at = slices.Index(names, name); t.at < 0 || t.order.numeric {
			return optionErrorf("--top-by %q is no aggregate of --agg%s: there are %s, each with :asc or without", t.By, nearest.Hint(name, names), strings.Join(names, ", "))
		}
	}
	s := specs[t.at]
	t.order.numeric = s.Func != aggregate.Mode && !s.Kept() && !s.Boolean()
	return nil
}

// open makes ready for the rows.
func (t *groupTop) open(ctx context.Context, j *job, row *groupRow, memory int64) (err error) {
	t.n, t.row = t.N, row
	t.firsts = []*firstKeys{{n: t.N, limit: memory / 2}}
	if t.sorter, err = j.newSorter(ctx, memory/2, false); err == nil {
		t.writer, err = t.sorter.Writer()
	}
	return err
}

// Write takes the row at hand, as it is written.
func (t *groupTop) Write(text []byte) (int, error) {
	v := &t.row.row[t.row.g.keys+t.at]
	t.key = append(t.key[:0], missing)
	if len(v.Text) > 0 {
		t.key[0] = present
	}
	if t.order.numeric {
		t.key, _ = extsort.AppendDecimal(t.key, v.Text) // a number, or nothing
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
