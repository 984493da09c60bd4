package tables_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/vfstest"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// model applies operations to tables in several buckets, most of them with a time column, and to lists in memory.
type model struct {
	t      *testing.T
	rnd    *rand.Rand
	dir    string
	opts   tables.Options
	s      *tables.Store
	names  []tables.TableName // the namespaces are bucket names
	tables map[tables.TableName]*modelTable
	// snapshots maps the buckets and names of snapshots to their expected tables.
	snapshots map[tables.TableName]map[tables.TableName]*modelTable
	next      int64
	usedIDs   []string
	kills     bool         // whether steps can be interrupted by a simulated kill
	callsLeft atomic.Int64 // file system calls until the simulated kill; negative means no kill
}

var errKilled = errors.New("killed")

// modelStep is a kind of operation on a table. Add a step to modelSteps for each new operation on tables.
type modelStep struct {
	name   string
	weight int
	run    func(m *model, ctx context.Context, name tables.TableName) error
}

var modelSteps = []modelStep{
	{"put", 14, (*model).put},
	{"replace", 1, (*model).replace},
	{"settings", 1, (*model).settings},
	{"fold", 3, (*model).fold},
	{"compact", 1, (*model).compact},
	{"expire", 1, (*model).expire},
	{"reopen", 1, (*model).reopen},
	{"update", 2, (*model).update},
	{"metadata", 1, (*model).setMetadata},
	{"verify", 3, (*model).verify},
	{"read", 3, (*model).check},
	{"range", 3, (*model).checkRange},
	{"first and last", 3, (*model).checkEnds},
	{"old version", 1, (*model).checkVersions},
}

// killableSteps names the steps that a kill can interrupt.
var killableSteps = []string{"put", "replace", "settings", "fold", "compact", "update", "metadata"}

func init() { // kill refers to modelSteps, so the literal cannot contain it
	modelSteps = append(modelSteps, modelStep{"kill", 1, (*model).kill})
}

// ticks returns random rows with times in [0, span).
func (m *model) ticks(span int64) []tick {
	n := m.rnd.IntN(6)
	if m.rnd.IntN(4) == 0 {
		n = m.rnd.IntN(300) // if the rows are too many for the tail, they are written directly to a file
	}
	rows := make([]tick, n)
	for i := range rows {
		m.next++
		rows[i] = tick{m.rnd.Int64N(span), string(rune('a' + m.rnd.IntN(2))), m.next, 0}
	}
	if m.rnd.IntN(3) == 0 {
		slices.SortStableFunc(rows, func(a, b tick) int { return cmp.Compare(a.ts, b.ts) })
	}
	return rows
}

func (m *model) settings(ctx context.Context, name tables.TableName) error {
	s := m.tables[name]
	if !m.exists(name) {
		return nil
	}
	oldSettings, newSettings := s.settings, m.randomSettings()
	for newSettings.Time != oldSettings.Time { // without a time column, the arrival order of rows is lost
		newSettings = m.randomSettings()
	}
	if newSettings.Keys != nil {
		newSettings.Keys = []string{s.key()}
	}
	if oldSettings.Keys != nil { // with keys, the arrival order of rows with equal times is lost, so the keys stay
		newSettings.Keys = oldSettings.Keys
	}
	s.settings = newSettings
	after, rejected := s.put(nil, s.rows)
	same := oldSettings.OnDuplicate == newSettings.OnDuplicate && slices.Equal(oldSettings.Keys, newSettings.Keys)
	err := m.table(name).SetSettings(ctx, newSettings)
	if err != nil {
		s.settings = oldSettings
	}
	if rejected && !same {
		return expectDuplicate(err)
	}
	if err == nil {
		s.rows = after
	}
	return err
}

func (m *model) table(name tables.TableName) *tables.Table {
	return m.s.Bucket(name.Namespace).Table(name.Name)
}

func (m *model) exists(name tables.TableName) bool { return m.tables[name].exists }

func (m *model) fold(ctx context.Context, _ tables.TableName) error {
	_, err := m.s.Fold(ctx, nil)
	return err
}

func (m *model) compact(ctx context.Context, _ tables.TableName) error {
	_, err := m.s.Compact(ctx, nil)
	return err
}

func (m *model) expire(ctx context.Context, _ tables.TableName) error {
	_, err := m.s.Expire(ctx, &tables.MaintainOptions{Grace: -1, Keep: m.rnd.IntN(4)})
	for _, s := range m.tables {
		clear(s.versions)
	}
	return err
}

func (m *model) open(ctx context.Context) (err error) {
	if !m.kills {
		m.s, err = tables.Open(ctx, m.dir, &m.opts)
		return err
	}
	m.callsLeft.Store(-1)
	fs := vfstest.Inject(vfs.OS{}, func(op vfstest.Op, _ string) error {
		if m.callsLeft.Load() < 0 || !op.Changes() {
			return nil
		}
		for n := m.callsLeft.Load(); n > 0; n = m.callsLeft.Load() {
			if m.callsLeft.CompareAndSwap(n, n-1) {
				return nil
			}
		}
		return errKilled
	})
	m.s, err = tables.OpenHooked(ctx, m.dir, &m.opts, tables.Hooks{FS: fs})
	return err
}

func (m *model) reopen(ctx context.Context, _ tables.TableName) error {
	m.callsLeft.Store(-1)
	if err := m.s.Close(); err != nil {
		return err
	}
	return m.open(ctx)
}

// kill runs a step during which the file system starts to fail, as if the process were killed. The step
// must take effect completely or not at all.
func (m *model) kill(ctx context.Context, name tables.TableName) error {
	before, snapshots := m.tables, maps.Clone(m.snapshots)
	m.tables = map[tables.TableName]*modelTable{}
	for n, s := range before {
		m.tables[n] = s.clone()
	}
	steps := slices.DeleteFunc(slices.Clone(modelSteps), func(s modelStep) bool { return !slices.Contains(killableSteps, s.name) })
	m.callsLeft.Store(m.rnd.Int64N(12))
	step := steps[m.rnd.IntN(len(steps))]
	err := step.run(m, ctx, name)
	if reopenErr := m.reopen(ctx, name); reopenErr != nil {
		return reopenErr
	}
	if err == nil {
		return nil
	}
	if !errors.Is(err, errKilled) && !errors.Is(err, table.ErrWriterClosed) { // Iceberg's library can hide the cause behind this error
		return fmt.Errorf("%s: %w", step.name, err)
	}
	m.tables, m.snapshots = before, snapshots
	return nil
}

// TestModel compares tables with lists in memory over random operations. PARTD_SERIES_STEPS sets how
// many operations, and PARTD_MODELS how many stores.
func TestModel(t *testing.T) {
	for seed := range uint64(tabletest.Rounds(t, "PARTD_MODELS", 4)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			m := &model{kills: true, dir: t.TempDir(), opts: tables.Options{FoldBytes: 4000, FoldAge: -1, Memory: 1 << 20, NoTail: seed%4 == 3}}
			m.run(t, seed, tabletest.Rounds(t, "PARTD_SERIES_STEPS", 440)/4)
		})
	}
}

// run opens the store, and compares it with the model over random steps.
func (m *model) run(t *testing.T, seed uint64, count int) {
	t.Helper()
	m.t, m.rnd, m.names = t, rand.New(rand.NewPCG(seed, 3)), []tables.TableName{
		{Name: "a"}, {Name: "A"}, {Namespace: "default", Name: "a"}, {Namespace: "b", Name: "../../x"}, {Namespace: "b", Name: "BRK.B"}, {Namespace: "x/y", Name: " "},
	}
	m.tables, m.snapshots = map[tables.TableName]*modelTable{}, map[tables.TableName]map[tables.TableName]*modelTable{}
	for _, name := range m.names {
		m.tables[name] = m.newTable()
	}
	if err := m.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := m.s.Close(); err != nil {
			t.Error(err)
		}
	}()
	var steps []modelStep
	for _, s := range modelSteps {
		if m.kills || s.name != "kill" {
			steps = append(steps, slices.Repeat([]modelStep{s}, s.weight)...)
		}
	}
	var log []string
	for range count {
		s, name := steps[m.rnd.IntN(len(steps))], m.names[m.rnd.IntN(len(m.names))]
		log = append(log, fmt.Sprint(s.name, " ", name))
		if err := s.run(m, t.Context(), name); err != nil {
			t.Fatalf("seed %d: %s %v: %v\nafter %q", seed, s.name, name, err, log[max(0, len(log)-20):])
		}
	}
	for _, name := range m.names {
		t.Log(name, len(m.tables[name].rows), "rows")
		if err := m.check(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(m.reopen(t.Context(), tables.TableName{}), m.verify(t.Context(), tables.TableName{})); err != nil {
		t.Fatal(err)
	}
}
