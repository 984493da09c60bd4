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
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/vfstest"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// model applies operations to tables with a time column and to lists in memory.
type model struct {
	t      *testing.T
	rnd    *rand.Rand
	dir    string
	opts   tables.Options
	s      *tables.Store
	names  []string
	tables map[string]*modelTable
	// snapshots maps the names of snapshots to their expected tables.
	snapshots map[string]map[string]*modelTable
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
	run    func(m *model, ctx context.Context, name string) error
}

var modelSteps = []modelStep{
	{"put", 14, (*model).put},
	{"replace", 1, (*model).replace},
	{"settings", 1, (*model).settings},
	{"fold", 3, func(m *model, ctx context.Context, _ string) error { _, err := m.s.Fold(ctx, nil); return err }},
	{"compact", 1, func(m *model, ctx context.Context, _ string) error { _, err := m.s.Compact(ctx, nil); return err }},
	{"expire", 1, (*model).expire},
	{"reopen", 1, (*model).reopen},
	{"update", 2, (*model).update},
	{"metadata", 1, (*model).setMetadata},
	{"verify", 1, (*model).verify},
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

func (m *model) put(ctx context.Context, name string) error {
	s, exists := m.tables[name], m.exists(ctx, name)
	span := int64(300)
	if s.settings.OnDuplicate == tables.RefuseDuplicate { // a short span would make almost every put fail
		span = 30000
	}
	if !exists {
		s.renamed, s.wType, s.schemaVersion, s.evolvedVersion = false, "", 0, 0
	}
	r, rows := s.reader(m.ticks(span), 1+m.rnd.IntN(100))
	mode, o := tables.PutAppend, m.putOptions(s)
	if m.rnd.IntN(8) == 0 {
		mode = tables.PutError
	}
	after, rejected := s.put(s.rows, rows)
	_, err := m.s.Bucket("b").Table(name).Put(ctx, r, mode, o)
	var duplicates *tables.DuplicateError
	switch {
	case s.ids[o.ID]: // a put with a repeated ID changes nothing
		return err
	case exists && mode == tables.PutError:
		return expect(err, true, tables.ErrExists)
	case rejected != errors.As(err, &duplicates):
		return fmt.Errorf("got error %w, want a DuplicateError: %v", err, rejected)
	case !rejected && err != nil:
		return err
	case rejected:
		return nil
	}
	s.applied(o, after, len(rows) > 0 || mode == tables.PutError, !exists)
	return nil
}

// putOptions returns options with a table's settings, and sometimes with a new or used ID and with metadata.
func (m *model) putOptions(s *modelTable) *tables.PutOptions {
	o := &tables.PutOptions{Settings: &s.settings}
	if m.rnd.IntN(3) == 0 {
		if o.ID = fmt.Sprint("id", m.next, m.rnd.Int()); len(m.usedIDs) > 0 && m.rnd.IntN(2) == 0 {
			o.ID = m.usedIDs[m.rnd.IntN(len(m.usedIDs))]
		}
		m.usedIDs = append(m.usedIDs, o.ID)
	}
	if m.rnd.IntN(3) == 0 {
		o.Metadata = tables.Metadata{"k": fmt.Sprint(m.next)}
	}
	return o
}

func expect(err error, fails bool, want error) error {
	if !fails {
		return err
	}
	if !errors.Is(err, want) {
		return fmt.Errorf("got error %w, want %v", err, want)
	}
	return nil
}

func (m *model) randomSettings() tables.Settings {
	s := tables.Settings{Time: "ts", OnDuplicate: []tables.OnDuplicate{tables.KeepAll, tables.KeepFirst, tables.KeepLast, tables.RefuseDuplicate, ""}[m.rnd.IntN(5)], Evolution: []tables.Evolution{"", tables.Flexible}[m.rnd.IntN(2)]}
	if m.rnd.IntN(2) == 0 {
		s.Keys = []string{"k"}
	}
	return s
}

func (m *model) replace(ctx context.Context, name string) error {
	old := m.tables[name]
	s := &modelTable{settings: m.randomSettings(), versions: old.versions, ids: old.ids, schemaVersion: old.schemaVersion, incarnation: old.incarnation}
	rows, o := m.ticks(30000), m.putOptions(s)
	after, rejected := s.put(nil, rows)
	_, err := m.s.Bucket("b").Table(name).Put(ctx, ticksOf(rows, 50), tables.PutReplace, o)
	switch {
	case s.ids[o.ID]:
		return err
	case rejected:
		return expectDuplicate(err)
	case err == nil:
		s.applied(o, after, true, true)
		m.tables[name] = s
	}
	return err
}

func expectDuplicate(err error) error {
	if !errors.As(err, new(*tables.DuplicateError)) {
		return fmt.Errorf("got error %w, want a DuplicateError", err)
	}
	return nil
}

// update changes several tables in one commit, or fails and changes none.
func (m *model) update(ctx context.Context, _ string) error {
	fails, rejected, errFail := m.rnd.IntN(4) == 0, false, errors.New("fail")
	after, exists := map[string]*modelTable{}, map[string]bool{}
	for name, s := range m.tables {
		after[name], exists[name] = s.clone(), m.exists(ctx, name)
	}
	err := m.s.Update(ctx, func(x *tables.Txn) error {
		for range 1 + m.rnd.IntN(4) {
			name := m.names[m.rnd.IntN(len(m.names))]
			if exists[name] && m.rnd.IntN(4) == 0 {
				if err := x.Delete("b", name); err != nil {
					return err
				}
				after[name], exists[name] = m.newTable(), false
				continue
			}
			s, mode := after[name], tables.PutAppend
			r, rows := s.reader(m.ticks(300), 20)
			before, o := s.rows, m.putOptions(s)
			if m.rnd.IntN(3) == 0 {
				mode, before = tables.PutReplace, nil
			}
			if err := x.Put("b", name, r, mode, o); err != nil {
				rejected = errors.As(err, new(*tables.DuplicateError))
				return err
			}
			if s.ids[o.ID] {
				continue
			}
			newRows, isRejected := s.put(before, rows)
			rejected = rejected || isRejected
			s.applied(o, newRows, len(rows) > 0 || mode == tables.PutReplace, !exists[name] || mode == tables.PutReplace)
			if exists[name] = true; mode == tables.PutReplace && s.wType == "int64" {
				s.wType = "int32" // the type that reader gives the column
			}
		}
		if fails {
			return errFail
		}
		return nil
	})
	switch {
	case rejected && !errors.Is(err, errFail):
		return expectDuplicate(err)
	case fails:
		return expect(err, true, errFail)
	case err == nil:
		m.tables = after
	}
	return err
}

func (m *model) setMetadata(ctx context.Context, name string) error {
	meta, exists := tables.Metadata{"m": fmt.Sprint(m.next)}, m.exists(ctx, name)
	err := m.s.Bucket("b").Table(name).SetMetadata(ctx, meta)
	if exists && err == nil {
		m.tables[name].meta = meta
	}
	return expect(err, !exists, tables.ErrNotFound)
}

func (m *model) verify(context.Context, string) error {
	if findings, _ := tabletest.VerifyAll(m.t, m.s, tables.VerifyOptions{}); len(findings) > 0 {
		return fmt.Errorf("Verify reported %+v, want nothing", findings)
	}
	return nil
}

func (m *model) settings(ctx context.Context, name string) error {
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
		return expectDuplicate(err)
	}
	if err == nil {
		s.rows = after
	}
	return err
}

func (m *model) exists(ctx context.Context, name string) bool {
	_, err := m.s.Bucket("b").Table(name).Info(ctx)
	return !errors.Is(err, tables.ErrNotFound) // other errors, such as from a kill, do not mean that the table is missing
}

func (m *model) expire(ctx context.Context, _ string) error {
	_, err := m.s.Expire(ctx, &tables.MaintainOptions{Grace: -1, Keep: 1 + m.rnd.IntN(3)})
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

func (m *model) reopen(ctx context.Context, _ string) error {
	m.callsLeft.Store(-1)
	if err := m.s.Close(); err != nil {
		return err
	}
	return m.open(ctx)
}

// kill runs a step during which the file system starts to fail, as if the process were killed. The step
// must take effect completely or not at all.
func (m *model) kill(ctx context.Context, name string) error {
	before, snapshots := m.tables, maps.Clone(m.snapshots)
	m.tables = map[string]*modelTable{}
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

func (m *model) scan(ctx context.Context, name string, o *tables.ScanOptions) ([]tick, error) {
	t := m.s.Bucket("b").Table(name)
	return ticksFrom(t.Scan(ctx, o))
}

func (m *model) check(ctx context.Context, name string) error {
	if !m.exists(ctx, name) {
		return nil
	}
	s := m.tables[name]
	got, err := m.scan(ctx, name, nil)
	if want := s.read(); err != nil || !slices.Equal(got, want) {
		return fmt.Errorf("table %s with settings %+v has rows\n%v, want\n%v; error: %w", name, s.settings, got, want, err)
	}
	i, err := m.s.Bucket("b").Table(name).Info(ctx)
	if err != nil {
		return err
	}
	if updated := i.Metadata[tables.UpdatedKey]; updated != icecat.UpdatedText(i.Updated) || i.Updated.Location() != time.UTC {
		return fmt.Errorf("table %s: _updated is %q, and Updated %v", name, updated, i.Updated)
	}
	delete(i.Metadata, tables.UpdatedKey)
	if !maps.Equal(i.Metadata, s.meta) {
		return fmt.Errorf("table %s has metadata %v, want %v", name, i.Metadata, s.meta)
	}
	if !slices.Contains(m.s.Commits().WithTail("b"), tables.TableName{Namespace: "b", Name: name}) {
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
func (m *model) checkRange(ctx context.Context, name string) error {
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

func (m *model) checkEnds(ctx context.Context, name string) error {
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

func (m *model) checkVersions(ctx context.Context, name string) error {
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

// TestModel compares tables that have a time column with lists in memory over random operations. PARTD_SERIES_STEPS sets how
// many operations, and PARTD_MODELS how many stores.
func TestModel(t *testing.T) {
	for seed := range uint64(tabletest.Rounds(t, "PARTD_MODELS", 4)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			m := &model{kills: true, dir: t.TempDir(), opts: tables.Options{FoldBytes: 4000, FoldAge: -1, Memory: 1 << 20, NoTail: seed%4 == 3}}
			m.run(t, seed, tabletest.Rounds(t, "PARTD_SERIES_STEPS", 600)/4)
		})
	}
}

// run opens the store, and compares it with the model over random steps.
func (m *model) run(t *testing.T, seed uint64, count int) {
	t.Helper()
	m.t, m.rnd, m.names = t, rand.New(rand.NewPCG(seed, 3)), []string{"a", "A", "../../x", "BRK.B", " "}
	m.tables, m.snapshots = map[string]*modelTable{}, map[string]map[string]*modelTable{}
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
		log = append(log, s.name+" "+name)
		if err := s.run(m, t.Context(), name); err != nil {
			t.Fatalf("seed %d: %s %s: %v\nafter %q", seed, s.name, name, err, log[max(0, len(log)-20):])
		}
	}
	for _, name := range m.names {
		t.Log(name, len(m.tables[name].rows), "rows")
		if err := m.check(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(m.reopen(t.Context(), ""), m.verify(t.Context(), "")); err != nil {
		t.Fatal(err)
	}
}
