package tables_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/internal/testutil/vfstest"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
	_ "github.com/go-partd/partd/tables/postgres" // registers catalogs at postgres://…
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
	return must.Err(m.s.Fold(ctx, nil))
}

func (m *model) compact(ctx context.Context, _ tables.TableName) error {
	return must.Err(m.s.Compact(ctx, nil))
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
	must.Do(t, m.open(t.Context()))
	defer func() {
		must.Check(t, m.s.Close())
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
		must.Do(t, m.check(t.Context(), name))
	}
	must.Do(t, errors.Join(m.reopen(t.Context(), tables.TableName{}), m.verify(t.Context(), tables.TableName{})))
}

// TestModelOnPostgresAndS3 runs TestModel's operations on a bucket with the catalog in PostgreSQL. PARTD_REMOTE_STEPS
// sets how many operations.
func TestModelOnPostgresAndS3(t *testing.T) {
	w := tabletest.StartWarehouse(t)
	for seed := range uint64(2) {
		name := fmt.Sprint("model", seed)
		o := w.Options
		o.Catalog, o.FoldBytes = w.SchemaOf(t, name), 3000
		o.CacheSize = 100_000 // far less than the data
		url := fmt.Sprintf("s3://bucket/%s?endpoint=http://%s", name, w.Gateway.Addr)
		if seed == 0 {
			o.TailDir = t.TempDir() + "/tail"
		}
		(&model{dir: url, opts: o}).run(t, seed, tabletest.Rounds(t, "PARTD_REMOTE_STEPS", 50))
		s := tabletest.Open(t, url, &o)
		if findings, r := tabletest.VerifyAll(t, s, tables.VerifyOptions{}); len(findings) > 0 || r.Files == 0 {
			t.Errorf("Verify reported %+v with result %+v, want no findings and Files above 0", findings, r)
		}
	}
}

// TestModelOnPostgres runs TestModel's operations on a directory whose catalog is in PostgreSQL.
func TestModelOnPostgres(t *testing.T) {
	s := procs.StartPostgres(t)
	dir := t.TempDir()
	(&model{dir: dir, opts: tables.Options{Catalog: s.URL(), FoldBytes: 3000, FoldAge: -1}}).run(t, 3, tabletest.Rounds(t, "PARTD_REMOTE_STEPS", 75))
	o := &tables.Options{Catalog: s.URL()}
	if other, err := tables.Open(t.Context(), t.TempDir(), o); err == nil {
		other.Close()
		t.Error("Open of a second directory with the same catalog database succeeded, want an error")
	}
	o.Catalog = (&tabletest.Warehouse{Postgres: s}).SchemaOf(t, "empty")
	if other, err := tables.Open(t.Context(), dir, o); !errors.Is(err, tables.ErrDamaged) || !strings.Contains(err.Error(), "the catalog is new") {
		other.Close()
		t.Errorf("Open with an empty database = %v, want ErrDamaged", err)
	}
}

func (m *model) scan(ctx context.Context, name tables.TableName, o *tables.ScanOptions) ([]tick, error) {
	rows, err := ticksFrom(m.table(name).Scan(ctx, o))
	return m.tables[name].inOrder(rows), err
}

func (m *model) check(ctx context.Context, name tables.TableName) error {
	if !m.exists(name) {
		_, err := m.table(name).Info(ctx)
		return expect(err, true, tables.ErrNotFound)
	}
	s := m.tables[name]
	got, err := m.scan(ctx, name, nil)
	if want := s.read(); err != nil || !slices.Equal(got, want) {
		return fmt.Errorf("table %v with settings %+v has rows\n%v, want\n%v; error: %w", name, s.settings, got, want, err)
	}
	i, err := m.table(name).Info(ctx)
	if err != nil {
		return err
	}
	if updated := i.Metadata[tables.UpdatedKey]; updated != icecat.UpdatedText(i.Updated) || i.Updated.Location() != time.UTC {
		return fmt.Errorf("table %v: _updated is %q, and Updated %v", name, updated, i.Updated)
	}
	delete(i.Metadata, tables.UpdatedKey)
	if !maps.Equal(i.Metadata, s.meta) {
		return fmt.Errorf("table %v has metadata %v, want %v", name, i.Metadata, s.meta)
	}
	namespace := tables.NamespaceOf(name.Namespace)
	if !slices.Contains(m.s.Commits().WithTail(ctx, namespace), tables.TableName{Namespace: namespace, Name: name.Name}) {
		if i.Rows != int64(len(got)) {
			return fmt.Errorf("table %v has %d rows, but Info says %d", name, len(got), i.Rows)
		}
		if i.Version > s.evolvedVersion { // a new version has the current columns
			s.versions[i.Version] = got
		}
	}
	return nil
}

// checkRange compares a scan of a time range, sometimes with a filter or only one column, with the model.
func (m *model) checkRange(ctx context.Context, name tables.TableName) error {
	s := m.tables[name]
	if !s.exists || s.settings.Time == "" {
		return nil
	}
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
		return fmt.Errorf("table %v with settings %+v: Scan(%+v) =\n%v, want\n%v; error: %w", name, s.settings, o, got, want, err)
	}
	return nil
}

func (m *model) checkEnds(ctx context.Context, name tables.TableName) error {
	if s := m.tables[name]; !s.exists || s.settings.Time == "" {
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
		return fmt.Errorf("table %v with settings %+v: the last %d rows are\n%v, want\n%v; error: %w", name, m.tables[name].settings, n, got, want, err)
	}
	o = &tables.ScanOptions{Limit: int64(n), Filter: o.Filter}
	got, err = m.scan(ctx, name, o)
	if want := all[:min(len(all), n)]; err != nil || !slices.Equal(got, want) {
		return fmt.Errorf("table %v with settings %+v: the first %d rows are\n%v, want\n%v; error: %w", name, m.tables[name].settings, n, got, want, err)
	}
	return nil
}

func (m *model) checkVersions(ctx context.Context, name tables.TableName) error {
	for v, want := range m.tables[name].versions {
		t, err := m.table(name).At(ctx, tables.AtVersion(v))
		if err != nil {
			return err
		}
		got, err := ticksFrom(t.Scan(ctx, nil))
		compareV := func(a, b tick) int { return cmp.Compare(a.v, b.v) } // a later change of settings may have changed the order
		slices.SortFunc(got, compareV)
		want = slices.SortedFunc(slices.Values(want), compareV)
		if err != nil || !slices.Equal(got, want) {
			return fmt.Errorf("table %v at version %d has rows\n%v, want\n%v; error: %w", name, v, got, want, err)
		}
	}
	return nil
}

func (m *model) verify(context.Context, tables.TableName) error {
	if findings, _ := tabletest.VerifyAll(m.t, m.s, tables.VerifyOptions{}); len(findings) > 0 {
		return fmt.Errorf("Verify reported %+v, want nothing", findings)
	}
	return nil
}
