package tables_test

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables"
)

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
func (m *model) evolve(ctx context.Context, name string) error {
	if !m.exists(ctx, name) {
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
	if err := m.s.Bucket("b").Table(name).Evolve(ctx, change); err != nil {
		return err
	}
	t := m.s.Bucket("b").Table(name)
	i, err := t.Info(ctx)
	s.evolvedVersion = i.Version // reads of this version still have the previous columns
	return err
}

func (m *model) migrate(ctx context.Context, name string) error {
	if !m.exists(ctx, name) {
		return nil
	}
	s := m.tables[name]
	s.schemaVersion++
	migrated, err := m.s.Bucket("b").Table(name).Migrate(ctx, s.schemaVersion, func(b arrow.RecordBatch) (arrow.RecordBatch, error) {
		b.Retain()
		return b, nil
	})
	if err == nil && !migrated {
		err = fmt.Errorf("migrating to version %d did nothing", s.schemaVersion)
	}
	return err
}

func (m *model) delete(ctx context.Context, name string) error {
	if m.rnd.IntN(4) != 0 || !m.exists(ctx, name) {
		return nil
	}
	m.tables[name] = m.newTable()
	return m.s.Bucket("b").Delete(ctx, name)
}

func (m *model) snapshot(ctx context.Context, name string) error {
	existing := map[string]*modelTable{}
	for _, name := range m.names {
		if m.exists(ctx, name) {
			existing[name] = m.tables[name].clone()
		}
	}
	if len(existing) == 0 {
		return nil
	}
	for old := range m.snapshots {
		if len(m.snapshots) < 4 {
			break
		}
		delete(m.snapshots, old)
		return m.s.Bucket("b").DeleteSnapshot(ctx, old)
	}
	m.next++
	snapshot := fmt.Sprint("at ", m.next)
	m.snapshots[snapshot] = existing
	_, err := m.s.Bucket("b").Snapshot(ctx, snapshot)
	return err
}

// anySnapshot returns the name of a random snapshot, or "" if there is none.
func (m *model) anySnapshot() string {
	names := []string{}
	for name := range m.snapshots {
		names = append(names, name)
	}
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	return names[m.rnd.IntN(len(names))]
}

// restore restores a table, or all tables, from a snapshot.
func (m *model) restore(ctx context.Context, name string) error {
	snapshot := m.anySnapshot()
	if snapshot == "" {
		return nil
	}
	tableNames, names := m.names, []string{}
	if m.rnd.IntN(2) == 0 {
		tableNames, names = []string{name}, []string{name}
	}
	for _, name := range tableNames {
		current, old := m.tables[name], m.snapshots[snapshot][name]
		switch {
		case old == nil && len(names) > 0:
			if err := m.s.Bucket("b").Restore(ctx, snapshot, names...); !errors.Is(err, tables.ErrNotFound) {
				return fmt.Errorf("restoring a table that is not in the snapshot: got error %v, want ErrNotFound", err)
			}
			return nil
		case old == nil:
			m.tables[name] = m.newTable()
		default:
			s := old.clone()
			if s.versions, s.ids = current.versions, current.ids; current.incarnation != old.incarnation || !m.exists(ctx, name) {
				m.next++
				s.incarnation, s.versions, s.ids = m.next, map[tables.Version][]tick{}, map[string]bool{}
			}
			m.tables[name] = s
		}
	}
	return m.s.Bucket("b").Restore(ctx, snapshot, names...)
}

func (m *model) checkSnapshot(ctx context.Context, name string) error {
	snapshot := m.anySnapshot()
	s := m.snapshots[snapshot][name]
	t, err := m.s.Bucket("b").Table(name).At(ctx, tables.AtSnapshot(snapshot))
	if s == nil {
		if snapshot != "" && !errors.Is(err, tables.ErrNotFound) {
			return fmt.Errorf("opening a table that is not in snapshot %q: got error %v, want ErrNotFound", snapshot, err)
		}
		return nil
	}
	if err != nil {
		return err
	}
	got, err := ticksFrom(t.Scan(ctx, nil))
	if want := s.read(); err != nil || !slices.Equal(got, want) {
		return fmt.Errorf("table %s in snapshot %q, with settings %+v, has rows\n%v, want\n%v; error: %w", name, snapshot, s.settings, got, want, err)
	}
	return nil
}
