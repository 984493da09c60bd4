package tables_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/internal/testutil/must"
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

// applyCorrection applies a correction to the model: it deletes the rows for which isDeleted returns true, and adds
// put. It compares the counts with the correction's result.
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

func init() {
	modelSteps = append(modelSteps,
		modelStep{"evolve", 2, (*model).evolve},
		modelStep{"migrate", 1, (*model).migrate},
		modelStep{"delete", 1, (*model).delete},
		modelStep{"snapshot", 1, (*model).snapshot},
		modelStep{"restore", 1, (*model).restore},
		modelStep{"at snapshot", 2, (*model).checkSnapshot},
	)
	killableSteps = append(killableSteps, "evolve", "migrate", "delete", "snapshot", "restore")
}

// evolve renames a column that may be a key, or adds, widens or drops column w.
func (m *model) evolve(ctx context.Context, name tables.TableName) error {
	if !m.exists(name) {
		return nil
	}
	s := m.tables[name]
	var change tables.ColumnChange
	switch {
	case m.rnd.IntN(3) == 0:
		change = tables.ColumnChange{Op: "rename", Column: s.key()}
		s.renamed = !s.renamed
		if change.To = s.key(); s.settings.Keys != nil {
			s.settings.Keys = []string{s.key()}
		}
	case s.wType == "":
		s.wType = "int32"
		change = tables.ColumnChange{Op: "add", Column: "w", Type: tables.ColumnType(s.wType)}
	case s.wType == "float64":
		s.wType = ""
		change = tables.ColumnChange{Op: "drop", Column: "w"}
		s.rows = slices.Clone(s.rows)
		for i := range s.rows {
			s.rows[i].w = 0
		}
	default: // widening to float64 rewrites the files
		s.wType = map[string]string{"int32": "int64", "int64": "float64"}[s.wType]
		change = tables.ColumnChange{Op: "widen", Column: "w", Type: tables.ColumnType(s.wType)}
	}
	if err := m.table(name).Evolve(ctx, change); err != nil {
		return err
	}
	t := m.table(name)
	i, err := t.Info(ctx)
	s.evolvedVersion = i.Version // reads of this version still have the previous columns
	return err
}

func (m *model) migrate(ctx context.Context, name tables.TableName) error {
	if !m.exists(name) {
		return nil
	}
	s := m.tables[name]
	s.schemaVersion++
	migrated, err := m.table(name).Migrate(ctx, s.schemaVersion, func(b arrow.RecordBatch) (arrow.RecordBatch, error) {
		b.Retain()
		return b, nil
	})
	if err == nil && !migrated {
		err = fmt.Errorf("migrating to version %d did nothing", s.schemaVersion)
	}
	return err
}

func (m *model) delete(ctx context.Context, name tables.TableName) error {
	if m.rnd.IntN(4) != 0 {
		return nil
	}
	existed := m.exists(name)
	m.tables[name] = m.newTable()
	return expect(m.s.Bucket(name.Namespace).Delete(ctx, name.Name), !existed, tables.ErrNotFound)
}

// namesIn returns the names of the tables in a bucket.
func (m *model) namesIn(bucket string) []tables.TableName {
	return slices.DeleteFunc(slices.Clone(m.names), func(n tables.TableName) bool { return n.Namespace != bucket })
}

// snapshot makes a snapshot of the bucket of the table with the given name, or deletes a snapshot.
func (m *model) snapshot(ctx context.Context, name tables.TableName) error {
	if len(m.snapshots) >= 6 {
		old, _, _ := m.anySnapshot()
		delete(m.snapshots, old)
		return m.s.Bucket(old.Namespace).DeleteSnapshot(ctx, old.Name)
	}
	existing := map[tables.TableName]*modelTable{}
	for _, n := range m.namesIn(name.Namespace) {
		if m.exists(n) {
			existing[n] = m.tables[n].clone()
		}
	}
	if len(existing) == 0 {
		return nil
	}
	m.next++
	snapshot := tables.TableName{Namespace: name.Namespace, Name: fmt.Sprint("at ", m.next)}
	m.snapshots[snapshot] = existing
	return must.Err(m.s.Bucket(snapshot.Namespace).Snapshot(ctx, snapshot.Name))
}

// anySnapshot returns the bucket and name of a random snapshot, and the name of a table in this bucket. ok is false if
// there is no snapshot.
func (m *model) anySnapshot() (snapshot, table tables.TableName, ok bool) {
	if len(m.snapshots) == 0 {
		return snapshot, table, false
	}
	all := slices.SortedFunc(maps.Keys(m.snapshots), func(a, b tables.TableName) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	snapshot = all[m.rnd.IntN(len(all))]
	names := m.namesIn(snapshot.Namespace)
	return snapshot, names[m.rnd.IntN(len(names))], true
}

// restore restores a table, or all tables of a bucket, from a snapshot.
func (m *model) restore(ctx context.Context, _ tables.TableName) error {
	snapshot, name, ok := m.anySnapshot()
	if !ok {
		return nil
	}
	restored, names := m.namesIn(name.Namespace), []string{}
	if m.rnd.IntN(2) == 0 {
		restored, names = []tables.TableName{name}, []string{name.Name}
	}
	for _, n := range restored {
		current, old := m.tables[n], m.snapshots[snapshot][n]
		switch {
		case old == nil && len(names) > 0:
			if err := m.s.Bucket(n.Namespace).Restore(ctx, snapshot.Name, names...); !errors.Is(err, tables.ErrNotFound) {
				return fmt.Errorf("restoring a table that is not in the snapshot: got error %v, want ErrNotFound", err)
			}
			return nil
		case old == nil:
			m.tables[n] = m.newTable()
		default:
			s := old.clone()
			if s.versions, s.ids = current.versions, current.ids; current.incarnation != old.incarnation || !current.exists {
				m.next++
				s.incarnation, s.versions, s.ids = m.next, map[tables.Version][]tick{}, map[string]bool{}
			}
			m.tables[n] = s
		}
	}
	return m.s.Bucket(snapshot.Namespace).Restore(ctx, snapshot.Name, names...)
}

func (m *model) checkSnapshot(ctx context.Context, _ tables.TableName) error {
	snapshot, name, ok := m.anySnapshot()
	if !ok {
		return nil
	}
	s := m.snapshots[snapshot][name]
	t, err := m.table(name).At(ctx, tables.AtSnapshot(snapshot.Name))
	if s == nil {
		return expect(err, true, tables.ErrNotFound)
	}
	if err != nil {
		return err
	}
	got, err := ticksFrom(t.Scan(ctx, nil))
	got = s.inOrder(got)
	if want := s.read(); err != nil || !slices.Equal(got, want) {
		return fmt.Errorf("table %v in snapshot %q, with settings %+v, has rows\n%v, want\n%v; error: %w", name, snapshot.Name, s.settings, got, want, err)
	} else if s.settings.Time != "" {
		last, err := ticksFrom(t.Scan(ctx, &tables.ScanOptions{Last: 2}))
		if want = want[max(0, len(want)-2):]; err != nil || !slices.Equal(last, want) {
			return fmt.Errorf("the last rows of table %v in snapshot %q are %v, want %v; error: %w", name, snapshot.Name, last, want, err)
		}
	}
	return nil
}
