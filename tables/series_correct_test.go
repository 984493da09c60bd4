package tables

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/go-partd/partd/tables/filter"
)

func init() {
	seriesSteps = append(seriesSteps,
		seriesStep{"delete rows", 2, (*seriesModel).deleteRows},
		seriesStep{"replace range", 2, (*seriesModel).replaceRange},
		seriesStep{"upsert", 2, (*seriesModel).upsert},
		seriesStep{"partition", 1, (*seriesModel).partition},
	)
	killedSteps = append(killedSteps, "delete rows", "replace range", "upsert", "partition")
}

// rewritten applies a correction to the model: rows where goes is true are deleted, and put
// is added. It compares the counts with the correction's result.
func (m *seriesModel) rewritten(name string, done RewriteResult, err error, goes func(tick) bool, put []tick) error {
	if err != nil {
		return err
	}
	s := m.tables[name]
	before := len(s.rows)
	s.rows = slices.DeleteFunc(slices.Clone(s.rows), goes)
	if gone := before - len(s.rows); int(done.Deleted) != gone || int(done.Written) != len(put) {
		return fmt.Errorf("%+v, want %d deleted and %d written", done, gone, len(put))
	}
	s.rows = append(s.rows, put...)
	return nil
}

func (m *seriesModel) deleteRows(ctx context.Context, name string) error {
	if !m.exists(ctx, name) {
		return nil
	}
	from, above := m.rnd.Int64N(300), m.rnd.Int64N(m.next+1)
	cond, err := filter.Parse(fmt.Sprintf("ts >= '%s' and v > %d and %s = 'a'", filter.TimeText(time.Unix(from, 0)), above, m.tables[name].key()))
	if err != nil {
		return err
	}
	done, err := m.s.Bucket("b").DeleteRows(ctx, name, cond)
	return m.rewritten(name, done, err, func(r tick) bool { return r.ts >= from && r.v > above && r.k == "a" }, nil)
}

func (m *seriesModel) replaceRange(ctx context.Context, name string) error {
	if !m.exists(ctx, name) {
		return nil
	}
	from := m.rnd.Int64N(300)
	to := from + 1 + m.rnd.Int64N(50)
	r, rows := m.tables[name].reader(m.distinct(m.ticks(to-from), from), 20)
	done, err := m.s.Bucket("b").ReplaceRange(ctx, name, time.Unix(from, 0), time.Unix(to, 0), r, nil)
	return m.rewritten(name, done, err, func(r tick) bool { return r.ts >= from && r.ts < to }, rows)
}

// upsert upserts rows by time and keys, and may add or widen a column.
func (m *seriesModel) upsert(ctx context.Context, name string) error {
	if !m.exists(ctx, name) {
		return nil
	}
	s := m.tables[name]
	rows := m.distinct(m.ticks(300), 0)
	rows = slices.CompactFunc(slices.SortedStableFunc(slices.Values(rows), s.compare), func(a, b tick) bool { return s.compare(a, b) == 0 })
	was := s.wide
	if s.settings.Evolution == Flexible && m.rnd.IntN(2) == 0 {
		s.wide = map[string]string{"": "int32", "int32": "float64", "int64": "float64", "float64": "float64"}[was]
	}
	r, rows := s.reader(rows, 20)
	done, err := m.s.Bucket("b").Upsert(ctx, name, r, nil)
	if s.wide != was {
		s.evolved = done.Version // reads of this version may still have the previous columns
	}
	return m.rewritten(name, done, err, func(r tick) bool {
		return slices.ContainsFunc(rows, func(o tick) bool { return s.compare(r, o) == 0 })
	}, rows)
}

// distinct returns rows with different times, which it shifts by from.
func (m *seriesModel) distinct(rows []tick, from int64) (all []tick) {
	seen := map[int64]bool{}
	for _, r := range rows {
		if r.ts += from; !seen[r.ts] {
			seen[r.ts] = true
			all = append(all, r)
		}
	}
	return all
}

func (m *seriesModel) partition(ctx context.Context, name string) error {
	if !m.exists(ctx, name) {
		return nil
	}
	by := []Partition{PartitionNone, PartitionAuto, PartitionDay, PartitionYear}[m.rnd.IntN(4)]
	if _, err := m.s.Bucket("b").Partition(ctx, name, by); err != nil {
		return err
	}
	m.tables[name].settings.Partition = by
	return nil
}
