package group

import (
	"context"
	"math"
	"slices"
	"strings"

	"github.com/go-partd/partd/internal/base/textfmt"
	"github.com/go-partd/partd/internal/base/where"
	"github.com/go-partd/partd/internal/engine/extsort"
	"github.com/go-partd/partd/internal/jobs/aggregate"
	"github.com/go-partd/partd/internal/jobs/filejobs"
)

// Top selects the groups to write: the N groups with the largest values of the aggregate
// By, or with the smallest values if By ends in ":asc". If By is "", the first aggregate is
// used. If N is 0, all groups are written: in key order if By is "", otherwise in the order of By, which is descending if
// Desc is set or By ends in ":desc".
type Top struct {
	N    int
	By   string
	Desc bool
}

// topWriter sorts the rows of the groups that may be among the first N. It is an io.Writer; each
// call to Write passes one row.
type topWriter struct {
	Top
	filejobs.FirstSorter
	byIndex int // index of the aggregate to sort by
	order   filejobs.FieldOrder
	row     *rowBuilder
	writer  *extsort.Writer
	key     []byte
}

func (t *topWriter) plan(specs []aggregate.Spec) error {
	flag, sorts := "top", t.N == 0
	if sorts && t.By == "" {
		return nil
	}
	if sorts {
		flag, t.N = "sort", math.MaxInt
	}
	var names, knownNames []string // knownNames holds the name and the text of each spec
	for _, s := range specs {
		names, knownNames = append(names, s.Name), append(knownNames, s.Name, s.Text)
		if s.Func == aggregate.List {
			return filejobs.OptionErrorf("--%s needs rows that fit in memory, but %s can be larger: remove it from --agg", strings.Replace(flag, "sort", "sort-by", 1), s.Text)
		}
	}
	if t.By != "" {
		name, suffix, isQuoted := where.CutQuoted(t.By)
		if isQuoted {
			suffix, t.order = filejobs.OrderedField(suffix, nil)
			name += suffix
		} else {
			name, t.order = filejobs.OrderedField(t.By, knownNames)
		}
		i := slices.Index(knownNames, name)
		t.byIndex = i / 2
		if i < 0 || t.order.Numeric {
			return filejobs.OptionErrorf("--%s-by %q is not an aggregate of --agg%s: use one of %s, and add %s", flag, t.By, textfmt.Hint(name, names), strings.Join(names, ", "), map[string]string{"top": ":asc for the smallest", "sort": ":desc for descending order"}[flag])
		}
	}
	if sorts {
		t.order.Asc = t.order.Asc || !t.order.Desc && !t.Desc
	}
	s := specs[t.byIndex]
	t.order.Numeric = s.Func != aggregate.Mode && !s.StoresValues() && !s.NeedsBooleans()
	return nil
}

// open creates the sorter. It must be called before Write.
func (t *topWriter) open(ctx context.Context, j *filejobs.Job, row *rowBuilder, memory int64) (err error) {
	t.row = row
	t.writer, err = t.Open(ctx, j, t.N, memory)
	return err
}

// Write adds the current row. text is the row in its output form.
func (t *topWriter) Write(text []byte) (int, error) {
	v := &t.row.row[t.row.engine.keyCount+t.byIndex]
	t.key = append(t.key[:0], filejobs.MissingNumber)
	if len(v.Text) > 0 {
		t.key[0] = filejobs.PresentNumber
	}
	if t.order.Numeric {
		t.key, _ = extsort.AppendDecimal(t.key, v.Text) // v.Text is a number, or empty if it is missing
	} else {
		t.key = extsort.AppendText(t.key, v.Text)
	}
	if !t.order.Asc {
		extsort.Invert(t.key)
	}
	if !t.Includes(t.key) {
		return len(text), nil
	}
	return len(text), filejobs.AdviseMemory(t.writer.Add(t.key, text))
}

func (t *topWriter) write(j *filejobs.Job, groups int64) error {
	if err := t.writer.Close(); err != nil {
		return err
	}
	return t.WriteFirst(j, groups, "groups", func(row []byte) error {
		_, err := j.Write(row)
		return err
	})
}
