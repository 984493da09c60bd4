package filejobs

import (
	"context"
	"slices"
	"strings"

	"github.com/go-partd/partd/internal/base/textfmt"
	"github.com/go-partd/partd/internal/engine/extsort"
	"github.com/go-partd/partd/internal/jobs/aggregate"
)

// GroupTop selects the groups to write: the N groups with the largest values of the aggregate
// By, or with the smallest values if By ends in ":asc". If By is "", the first aggregate is
// used. If N is 0, all groups are written, in key order.
type GroupTop struct {
	N  int
	By string
}

// groupTop sorts the rows of the groups that may be among the first N. It is an io.Writer; each
// call of Write passes one row.
type groupTop struct {
	GroupTop
	topEngine
	byIndex int // index of the aggregate to sort by
	order   fieldOrder
	row     *groupRow
	writer  *extsort.Writer
	key     []byte
}

func (t *groupTop) plan(specs []aggregate.Spec, names []string) error {
	if t.N == 0 {
		return nil
	}
	for _, s := range specs {
		if s.Func == aggregate.List {
			return optionErrorf("--top needs rows that fit in memory, but %s can be larger: remove it from --agg", s.Text)
		}
	}
	if t.By != "" {
		var name string
		name, t.order = orderedField(t.By, names)
		if t.byIndex = slices.Index(names, name); t.byIndex < 0 || t.order.numeric {
			return optionErrorf("--top-by %q is not an aggregate of --agg%s: use one of %s, and add :asc for the smallest", t.By, textfmt.Hint(name, names), strings.Join(names, ", "))
		}
	}
	s := specs[t.byIndex]
	t.order.numeric = s.Func != aggregate.Mode && !s.StoresValues() && !s.NeedsBooleans()
	return nil
}

// open creates the sorter. It must be called before Write.
func (t *groupTop) open(ctx context.Context, j *job, row *groupRow, memory int64) (err error) {
	t.n, t.row = t.N, row
	t.firsts = []*firstKeys{{n: t.N, maxBytes: memory / 2}}
	if t.sorter, err = j.newSorter(ctx, memory/2, false); err == nil {
		t.writer, err = t.sorter.Writer()
	}
	return err
}

// Write adds the current row. text is the row in its output form.
func (t *groupTop) Write(text []byte) (int, error) {
	v := &t.row.row[t.row.g.keyCount+t.byIndex]
	t.key = append(t.key[:0], missingNumber)
	if len(v.Text) > 0 {
		t.key[0] = presentNumber
	}
	if t.order.numeric {
		t.key, _ = extsort.AppendDecimal(t.key, v.Text) // v.Text is a number, or empty if it is missing
	} else {
		t.key = extsort.AppendText(t.key, v.Text)
	}
	if !t.order.asc {
		extsort.Invert(t.key)
	}
	if !t.firsts[0].add(t.key) {
		return len(text), nil
	}
	return len(text), adviseMemory(t.writer.Add(t.key, text))
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
