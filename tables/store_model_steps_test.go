package tables_test

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

func init() {
	modelSteps = append(modelSteps,
		modelStep{"delete rows", 2, (*model).deleteRows},
		modelStep{"replace range", 2, (*model).replaceRange},
		modelStep{"upsert", 2, (*model).upsert},
		modelStep{"partition", 1, (*model).partition},
		modelStep{"merge on read", 1, (*model).mergeOnRead},
	)
	killableSteps = append(killableSteps, "delete rows", "replace range", "upsert", "partition")
}

// applyCorrection applies a correction to the model: it deletes the rows for which isDeleted returns true, and adds put.
// It compares the counts with the correction's result.
func (m *model) applyCorrection(name tables.TableName, result tables.RewriteResult, err error, isDeleted func(tick) bool, put []tick) error {
	if err != nil {
		return err
	}
	s := m.tables[name]
	before := len(s.rows)
	s.rows = slices.DeleteFunc(slices.Clone(s.rows), isDeleted)
	if deleted := before - len(s.rows); int(result.Deleted) != deleted || int(result.Written) != len(put) {
		return fmt.Errorf("got result %+v, want %d rows deleted and %d written", result, deleted, len(put))
	}
	s.rows = append(s.rows, put...)
	return nil
}

// mergeOnRead makes later upserts and deletes of a table write deletion vectors.
func (m *model) mergeOnRead(_ context.Context, name tables.TableName) error {
	if m.exists(name) {
		tabletest.NewEngine(m.t, m.s, name.Namespace, name.Name).MergeOnRead(3)
	}
	return nil
}

func (m *model) deleteRows(ctx context.Context, name tables.TableName) error {
	if !m.exists(name) {
		return nil
	}
	start, minV := m.rnd.Int64N(300), m.rnd.Int64N(m.next+1)
	cond, err := filter.Parse(fmt.Sprintf("ts >= '%s' and v > %d and %s = 'a'", filter.TimeText(time.Unix(start, 0)), minV, m.tables[name].key()))
	if err != nil {
		return err
	}
	result, err := m.table(name).DeleteRows(ctx, cond)
	return m.applyCorrection(name, result, err, func(r tick) bool { return r.ts >= start && r.v > minV && r.k == "a" }, nil)
}

func (m *model) replaceRange(ctx context.Context, name tables.TableName) error {
	if !m.exists(name) {
		return nil
	}
	start := m.rnd.Int64N(300)
	end := start + 1 + m.rnd.Int64N(50)
	r, rows := m.tables[name].reader(m.distinct(m.ticks(end-start), start), 20)
	result, err := m.table(name).ReplaceRange(ctx, time.Unix(start, 0), time.Unix(end, 0), r, nil)
	return m.applyCorrection(name, result, err, func(r tick) bool { return r.ts >= start && r.ts < end }, rows)
}

// upsert upserts rows by time and keys, sometimes with a new or wider column.
func (m *model) upsert(ctx context.Context, name tables.TableName) error {
	if !m.exists(name) {
		return nil
	}
	s := m.tables[name]
	rows := m.distinct(m.ticks(300), 0)
	rows = slices.CompactFunc(slices.SortedStableFunc(slices.Values(rows), s.compare), func(a, b tick) bool { return s.compare(a, b) == 0 })
	oldType := s.wType
	if s.settings.Evolution == tables.Flexible && m.rnd.IntN(2) == 0 {
		s.wType = map[string]string{"": "int32", "int32": "float64", "int64": "float64", "float64": "float64"}[oldType]
	}
	r, rows := s.reader(rows, 20)
	var o *tables.UpsertOptions
	if s.settings.Time == "" {
		o = &tables.UpsertOptions{Keys: []string{"ts", s.key()}}
	}
	result, err := m.table(name).Upsert(ctx, r, o)
	if s.wType != oldType {
		s.evolvedVersion = result.Version // reads of this version may still have the previous columns
	}
	return m.applyCorrection(name, result, err, func(r tick) bool {
		return slices.ContainsFunc(rows, func(o tick) bool { return s.compare(r, o) == 0 })
	}, rows)
}

// distinct adds offset to the times of the rows, and drops rows whose time repeats an earlier one.
func (m *model) distinct(rows []tick, offset int64) (all []tick) {
	seen := map[int64]bool{}
	for _, r := range rows {
		if r.ts += offset; !seen[r.ts] {
			seen[r.ts] = true
			all = append(all, r)
		}
	}
	return all
}

func (m *model) partition(ctx context.Context, name tables.TableName) error {
	if s := m.tables[name]; !s.exists || s.settings.Time == "" {
		return nil
	}
	partition := []tables.Partition{tables.PartitionNone, tables.PartitionAuto, tables.PartitionDay, tables.PartitionYear}[m.rnd.IntN(4)]
	if _, err := m.table(name).Partition(ctx, partition); err != nil {
		return err
	}
	m.tables[name].settings.Partition = partition
	return nil
}
