package tables_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/vfstest"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// seriesModel applies operations to tables with a time column and to lists in memory.
type seriesModel struct {
	rnd    *rand.Rand
	dir    string
	opts   tables.Options
	s      *tables.Store
	names  []string
	tables map[string]*modelSeries
	// snapshots maps the names of snapshots to their expected tables.
	snapshots map[string]map[string]*modelSeries
	next      int64
	callsLeft atomic.Int64 // file system calls until the simulated kill; negative means no kill
}

var errKilled = errors.New("killed")

// seriesStep is a kind of operation on a table. Add a step to seriesSteps for each new operation on tables.
type seriesStep struct {
	name   string
	weight int
	run    func(m *seriesModel, ctx context.Context, name string) error
}

var seriesSteps = []seriesStep{
	{"put", 14, (*seriesModel).put},
	{"replace", 1, (*seriesModel).replace},
	{"settings", 1, (*seriesModel).settings},
	{"fold", 3, func(m *seriesModel, ctx context.Context, _ string) error { _, err := m.s.Fold(ctx, nil); return err }},
	{"compact", 1, func(m *seriesModel, ctx context.Context, _ string) error { _, err := m.s.Compact(ctx, nil); return err }},
	{"expire", 1, (*seriesModel).expire},
	{"reopen", 1, (*seriesModel).reopen},
	{"read", 3, (*seriesModel).check},
	{"range", 3, (*seriesModel).checkRange},
	{"first and last", 3, (*seriesModel).checkEnds},
	{"old version", 1, (*seriesModel).checkVersions},
}

// killableSteps names the steps that a kill can interrupt.
var killableSteps = []string{"put", "replace", "settings", "fold", "compact"}

func init() { // kill refers to seriesSteps, so the literal cannot contain it
	seriesSteps = append(seriesSteps, seriesStep{"kill", 1, (*seriesModel).kill})
}

// ticks returns random rows with times in [0, span).
func (m *seriesModel) ticks(span int64) []tick {
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

func (m *seriesModel) put(ctx context.Context, name string) error {
	s := m.tables[name]
	span := int64(300)
	if s.settings.OnDuplicate == tables.RefuseDuplicate { // a short span would make almost every put fail
		span = 30000
	}
	if !m.exists(ctx, name) {
		s.renamed, s.wType, s.schemaVersion, s.evolvedVersion = false, "", 0, 0
	}
	r, rows := s.reader(m.ticks(span), 1+m.rnd.IntN(100))
	after, rejected := s.put(s.rows, rows)
	_, err := m.s.Bucket("b").Table(name).Put(ctx, r, tables.PutAppend, &tables.PutOptions{Settings: &s.settings})
	var duplicates *tables.DuplicateError
	switch {
	case rejected != errors.As(err, &duplicates):
		return fmt.Errorf("got error %w, want a DuplicateError: %v", err, rejected)
	case !rejected && err != nil:
		return err
	}
	s.rows = after
	return nil
}

func (m *seriesModel) randomSettings() tables.Settings {
	s := tables.Settings{Time: "ts", OnDuplicate: []tables.OnDuplicate{tables.KeepAll, tables.KeepFirst, tables.KeepLast, tables.RefuseDuplicate, ""}[m.rnd.IntN(5)], Evolution: []tables.Evolution{"", tables.Flexible}[m.rnd.IntN(2)]}
	if m.rnd.IntN(2) == 0 {
		s.Keys = []string{"k"}
	}
	return s
}

func (m *seriesModel) replace(ctx context.Context, name string) error {
	s := &modelSeries{settings: m.randomSettings(), versions: map[tables.Version][]tick{}}
	rows := m.ticks(30000)
	after, rejected := s.put(nil, rows)
	_, err := m.s.Bucket("b").Table(name).Put(ctx, ticksOf(rows, 50), tables.PutReplace, &tables.PutOptions{Settings: &s.settings})
	if rejected {
		if !errors.As(err, new(*tables.DuplicateError)) {
			return fmt.Errorf("got error %w, want a DuplicateError", err)
		}
		return nil
	}
	if err == nil {
		s.rows = after
		old := m.tables[name]
		s.versions, s.schemaVersion, s.incarnation = old.versions, old.schemaVersion, old.incarnation
		m.tables[name] = s
	}
	return err
}

func (m *seriesModel) settings(ctx context.Context, name string) error {
	s := m.tables[name]
	if !m.exists(ctx, name) {
		return nil
	}
	oldSettings, newSettings := s.settings, m.randomSettings()
	if newSettings.Keys != nil {
		newSettings.Keys = []string{s.key()}
	}
	if oldSettings.Keys != nil { // with keys, the arrival order of rows with equal times is lost, so the keys stay
		newSettings.Keys = oldSettings.Keys
	}
	s.settings = newSettings
	after, rejected := s.put(nil, s.rows)
	same := oldSettings.OnDuplicate == newSettings.OnDuplicate && slices.Equal(oldSettings.Keys, newSettings.Keys)
	err := m.s.Bucket("b").Table(name).SetSettings(ctx, newSettings)
	if err != nil {
		s.settings = oldSettings
	}
	if rejected && !same {
		if !errors.As(err, new(*tables.DuplicateError)) {
			return fmt.Errorf("got error %w, want a DuplicateError", err)
		}
		return nil
	}
	if err == nil {
		s.rows = after
	}
	return err
}

func (m *seriesModel) exists(ctx context.Context, name string) bool {
	_, err := m.s.Bucket("b").Table(name).Info(ctx)
	return !errors.Is(err, tables.ErrNotFound) // other errors, such as from a kill, do not mean that the table is missing
}

func (m *seriesModel) expire(ctx context.Context, _ string) error {
	_, err := m.s.Expire(ctx, &tables.MaintainOptions{Grace: -1, Keep: 1 + m.rnd.IntN(3)})
	for _, s := range m.tables {
		clear(s.versions)
	}
	return err
}

func (m *seriesModel) open(ctx context.Context) (err error) {
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

func (m *seriesModel) reopen(ctx context.Context, _ string) error {
	m.callsLeft.Store(-1)
	if err := m.s.Close(); err != nil {
		return err
	}
	return m.open(ctx)
}

// kill runs a step during which the file system starts to fail, as if the process were killed. The step
// must take effect completely or not at all.
func (m *seriesModel) kill(ctx context.Context, name string) error {
	before, snapshots := m.tables, maps.Clone(m.snapshots)
	m.tables = map[string]*modelSeries{}
	for n, s := range before {
		m.tables[n] = s.clone()
	}
	steps := slices.DeleteFunc(slices.Clone(seriesSteps), func(s seriesStep) bool { return !slices.Contains(killableSteps, s.name) })
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

func (m *seriesModel) scan(ctx context.Context, name string, o *tables.ScanOptions) ([]tick, error) {
	t := m.s.Bucket("b").Table(name)
	return ticksFrom(t.Scan(ctx, o))
}

func (m *seriesModel) check(ctx context.Context, name string) error {
	if !m.exists(ctx, name) {
		return nil
	}
	s := m.tables[name]
	got, err := m.scan(ctx, name, nil)
	if want := s.read(); err != nil || !slices.Equal(got, want) {
		return fmt.Errorf("table %s with settings %+v has rows\n%v, want\n%v; error: %w", name, s.settings, got, want, err)
	}
	t := m.s.Bucket("b").Table(name)
	if i, err := t.Info(ctx); err == nil && !(&model{s: m.s}).inTail(tables.TableName{Namespace: "b", Name: name}) {
		if i.Rows != int64(len(got)) {
			return fmt.Errorf("%s has %d rows, but Info says %d", name, len(got), i.Rows)
		}
		if i.Version > s.evolvedVersion { // a new version has the current columns
			s.versions[i.Version] = got
		}
	}
	return nil
}

// checkRange compares a scan of a time range, sometimes with a filter or only one column, with the model.
func (m *seriesModel) checkRange(ctx context.Context, name string) error {
	if !m.exists(ctx, name) {
		return nil
	}
	s := m.tables[name]
	start := m.rnd.Int64N(300)
	end := start + m.rnd.Int64N(100)
	o := &tables.ScanOptions{From: time.Unix(start, 0), To: time.Unix(end, 0), Limit: m.rnd.Int64N(20)}
	minV := m.rnd.Int64N(m.next + 1)
	var err error
	if m.rnd.IntN(2) == 0 {
		if o.Filter, err = filter.Parse(fmt.Sprintf("v > %d", minV)); err != nil {
			return err
		}
	}
	if m.rnd.IntN(2) == 0 {
		o.Columns = []string{"v"}
	}
	want := []tick{}
	for _, r := range s.read() {
		if r.ts < start || r.ts >= end || o.Filter != nil && r.v <= minV || o.Limit > 0 && int64(len(want)) == o.Limit {
			continue
		}
		if o.Columns != nil {
			r = tick{v: r.v}
		}
		want = append(want, r)
	}
	got, err := m.scan(ctx, name, o)
	if err != nil || !slices.Equal(got, want) {
		return fmt.Errorf("table %s with settings %+v: Scan(%+v) =\n%v, want\n%v; error: %w", name, s.settings, o, got, want, err)
	}
	return nil
}

func (m *seriesModel) checkEnds(ctx context.Context, name string) error {
	if !m.exists(ctx, name) {
		return nil
	}
	all := m.tables[name].read()
	n := 1 + m.rnd.IntN(30)
	o := &tables.ScanOptions{Last: int64(n)}
	minV := m.rnd.Int64N(m.next + 1)
	if m.rnd.IntN(2) == 0 {
		var err error
		if o.Filter, err = filter.Parse(fmt.Sprintf("v > %d", minV)); err != nil {
			return err
		}
		all = slices.DeleteFunc(all, func(r tick) bool { return r.v <= minV })
	}
	got, err := m.scan(ctx, name, o)
	if want := all[max(0, len(all)-n):]; err != nil || !slices.Equal(got, want) {
		return fmt.Errorf("table %s with settings %+v: the last %d rows are\n%v, want\n%v; error: %w", name, m.tables[name].settings, n, got, want, err)
	}
	o = &tables.ScanOptions{Limit: int64(n), Filter: o.Filter}
	got, err = m.scan(ctx, name, o)
	if want := all[:min(len(all), n)]; err != nil || !slices.Equal(got, want) {
		return fmt.Errorf("table %s with settings %+v: the first %d rows are\n%v, want\n%v; error: %w", name, m.tables[name].settings, n, got, want, err)
	}
	return nil
}

func (m *seriesModel) checkVersions(ctx context.Context, name string) error {
	for v, want := range m.tables[name].versions {
		t, err := m.s.Bucket("b").Table(name).At(ctx, tables.AtVersion(v))
		if err != nil {
			return err
		}
		got, err := ticksFrom(t.Scan(ctx, nil))
		compareV := func(a, b tick) int { return cmp.Compare(a.v, b.v) } // a later change of settings may have changed the order
		slices.SortFunc(got, compareV)
		want = slices.SortedFunc(slices.Values(want), compareV)
		if err != nil || !slices.Equal(got, want) {
			return fmt.Errorf("table %s at version %d has rows\n%v, want\n%v; error: %w", name, v, got, want, err)
		}
	}
	return nil
}

// TestSeriesModel compares tables that have a time column with lists in memory over
// random operations; PARTD_SERIES_STEPS sets how many.
func TestSeriesModel(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			if os.Getenv("PARTD_SERIES_STEPS") != "" {
				t.Parallel()
			}
			m := &seriesModel{
				rnd: rand.New(rand.NewPCG(seed, 3)), dir: t.TempDir(), names: []string{"x", "y", "z"}, tables: map[string]*modelSeries{}, snapshots: map[string]map[string]*modelSeries{},
				opts: tables.Options{FoldBytes: 4000, FoldAge: -1, Memory: 1 << 20, NoTail: seed == 3},
			}
			for _, name := range m.names {
				m.tables[name] = &modelSeries{settings: m.randomSettings(), versions: map[tables.Version][]tick{}}
			}
			if err := m.open(t.Context()); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := m.s.Close(); err != nil {
					t.Error(err)
				}
			}()
			var steps []seriesStep
			for _, s := range seriesSteps {
				steps = append(steps, slices.Repeat([]seriesStep{s}, s.weight)...)
			}
			var log []string
			for range tabletest.Rounds(t, "PARTD_SERIES_STEPS", 600) / 4 {
				s, name := steps[m.rnd.IntN(len(steps))], m.names[m.rnd.IntN(len(m.names))]
				log = append(log, s.name+" "+name)
				err := s.run(m, t.Context(), name)
				if err != nil {
					t.Fatalf("seed %d: %s %s: %v\nafter %q", seed, s.name, name, err, log[max(0, len(log)-20):])
				}
			}
			for _, name := range m.names {
				t.Log(name, len(m.tables[name].rows), "rows")
				if err := m.check(t.Context(), name); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
