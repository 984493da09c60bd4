package tables_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

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
