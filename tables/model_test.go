package tables_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

type modelTable struct {
	rows     []int64
	ids      map[string]bool
	meta     tables.Metadata
	versions map[tables.Version][]int64
}

// model applies random operations to a Store and to maps in memory.
type model struct {
	t       testing.TB
	rnd     *rand.Rand
	dir     string
	opts    tables.Options
	s       *tables.Store
	next    int64
	tables  map[tables.TableName]*modelTable
	usedIDs []string
}

var modelNames = []tables.TableName{
	{Name: "a"}, {Name: "A"}, {Namespace: "default", Name: "a"}, {Namespace: "b", Name: "../../x"}, {Namespace: "b", Name: "BRK.B"}, {Namespace: "x/y", Name: " "},
}

func (m *model) rows(maxCount int) []int64 {
	ns := tabletest.Sequence(m.next, int64(m.rnd.IntN(maxCount)))
	m.next += int64(len(ns))
	return ns
}

func (m *model) step(ctx context.Context) (string, error) {
	n := modelNames[m.rnd.IntN(len(modelNames))]
	b := m.s.Bucket(n.Namespace) // the model's namespaces are bucket names
	mt := m.tables[n]
	switch k := m.rnd.IntN(24); {
	case k < 11:
		mode := []tables.PutMode{tables.PutAppend, tables.PutAppend, tables.PutAppend, tables.PutAppend, tables.PutReplace, tables.PutError}[m.rnd.IntN(6)]
		maxRows := 5
		if m.rnd.IntN(5) == 0 {
			maxRows = 400 // if the rows are too many for the tail, they are written directly to a file
		}
		o := &tables.PutOptions{}
		ns := m.rows(maxRows)
		if m.rnd.IntN(3) == 0 {
			o.ID = fmt.Sprint("id", m.next, m.rnd.Int())
			if len(m.usedIDs) > 0 && m.rnd.IntN(2) == 0 {
				o.ID = m.usedIDs[m.rnd.IntN(len(m.usedIDs))]
			}
			m.usedIDs = append(m.usedIDs, o.ID)
		}
		if m.rnd.IntN(3) == 0 {
			o.Metadata = tables.Metadata{"k": fmt.Sprint(m.next)}
		}
		op := fmt.Sprintf("put %v mode %d, %d rows, id %q", n, mode, len(ns), o.ID)
		_, err := b.Table(n.Name).Put(ctx, tabletest.Rows(ns...), mode, o)
		return op, m.put(mt, n, ns, mode, o, err)
	case k == 11:
		err := b.Delete(ctx, n.Name)
		delete(m.tables, n)
		return fmt.Sprint("delete ", n), expect(err, mt == nil, tables.ErrNotFound)
	case k == 12:
		meta := tables.Metadata{"m": fmt.Sprint(m.next)}
		err := b.Table(n.Name).SetMetadata(ctx, meta)
		if mt != nil {
			mt.meta = meta
		}
		return fmt.Sprint("set metadata ", n), expect(err, mt == nil, tables.ErrNotFound)
	case k < 15:
		_, err := m.s.Fold(ctx, nil)
		return "fold", err
	case k == 15:
		_, err := m.s.Compact(ctx, nil)
		return "compact", err
	case k == 16:
		_, err := m.s.Expire(ctx, &tables.MaintainOptions{Grace: -1, Keep: 1 + m.rnd.IntN(3)})
		for _, mt := range m.tables {
			clear(mt.versions) // the model does not know which versions remain; other tests check that
		}
		return "expire", err
	case k == 17:
		return "reopen", m.reopen(ctx)
	case k < 20:
		return "update", m.update(ctx)
	default:
		return "check", m.check(ctx)
	}
}

func expect(err error, fails bool, want error) error {
	if fails {
		if !errors.Is(err, want) {
			return fmt.Errorf("got error %v, want %v", err, want)
		}
		return nil
	}
	return err
}

func (m *model) put(mt *modelTable, n tables.TableName, ns []int64, mode tables.PutMode, o *tables.PutOptions, err error) error {
	if mt != nil && o.ID != "" && mt.ids[o.ID] {
		return err // a put with a repeated ID changes nothing
	}
	if mt != nil && mode == tables.PutError {
		return expect(err, true, tables.ErrExists)
	}
	if err != nil {
		return err
	}
	if mt == nil {
		mt = &modelTable{ids: map[string]bool{}, versions: map[tables.Version][]int64{}, meta: o.Metadata}
		m.tables[n] = mt
	}
	if mode == tables.PutReplace {
		mt.rows, mt.meta = nil, o.Metadata
	}
	mt.rows = append(slices.Clone(mt.rows), ns...)
	// An empty append does nothing, so its ID is not recorded.
	if o.ID != "" && (len(ns) > 0 || mode != tables.PutAppend) {
		mt.ids[o.ID] = true
	}
	return nil
}

// update changes several tables in one commit, or fails and changes none.
func (m *model) update(ctx context.Context) error {
	fail := m.rnd.IntN(4) == 0
	errFail := errors.New("fail")
	after := maps.Clone(m.tables)
	err := m.s.Update(ctx, func(t *tables.Txn) error {
		for range 1 + m.rnd.IntN(4) {
			n := modelNames[m.rnd.IntN(len(modelNames))]
			mt := after[n]
			if mt != nil && m.rnd.IntN(4) == 0 {
				if err := t.Delete(n.Namespace, n.Name); err != nil {
					return err
				}
				delete(after, n)
				continue
			}
			ns, mode := m.rows(5), tables.PutAppend
			if m.rnd.IntN(3) == 0 {
				mode = tables.PutReplace
			}
			if err := t.Put(n.Namespace, n.Name, tabletest.Rows(ns...), mode, nil); err != nil {
				return err
			}
			next := &modelTable{ids: map[string]bool{}, versions: map[tables.Version][]int64{}}
			if mt != nil {
				next.ids, next.versions = mt.ids, mt.versions
				if mode != tables.PutReplace {
					next.rows, next.meta = mt.rows, mt.meta
				}
			}
			next.rows = append(slices.Clone(next.rows), ns...)
			after[n] = next
		}
		if fail {
			return errFail
		}
		return nil
	})
	if fail {
		return expect(err, true, errFail)
	}
	if err == nil {
		m.tables = after
	}
	return err
}

func (m *model) reopen(ctx context.Context) (err error) {
	if err := m.s.Close(); err != nil {
		return err
	}
	m.s, err = tables.Open(ctx, m.dir, &m.opts)
	return err
}

// check compares all tables, and their versions that are still known, with the model.
func (m *model) check(ctx context.Context) error {
	for _, n := range modelNames {
		b := m.s.Bucket(n.Namespace)
		mt := m.tables[n]
		got, ok, err := tabletest.Read(ctx, b, n.Name)
		if err != nil {
			return err
		}
		if ok != (mt != nil) {
			return fmt.Errorf("table %v exists: %v, want %v", n, ok, mt != nil)
		}
		if mt == nil {
			continue
		}
		want := slices.Sorted(slices.Values(mt.rows))
		if !slices.Equal(got, want) {
			return fmt.Errorf("table %v has rows %v, want %v", n, got, want)
		}
		t := b.Table(n.Name)
		info, err := t.Info(ctx)
		if err != nil {
			return err
		}
		if info.Rows != int64(len(want)) || info.Updated.Location() != time.UTC {
			return fmt.Errorf("table %v: Info = %+v, want %d rows and a UTC time", n, info, len(want))
		}
		if updated := info.Metadata[tables.UpdatedKey]; updated != icecat.UpdatedText(info.Updated) {
			return fmt.Errorf("table %v: _updated is %q, want %q", n, updated, icecat.UpdatedText(info.Updated))
		}
		delete(info.Metadata, tables.UpdatedKey)
		if !maps.Equal(info.Metadata, mt.meta) {
			return fmt.Errorf("table %v has metadata %v, want %v", n, info.Metadata, mt.meta)
		}
		for v, rows := range mt.versions {
			old, err := b.Table(n.Name).At(ctx, tables.AtVersion(v))
			if err != nil {
				return err
			}
			got, err := tabletest.ReadAll(ctx, old, nil)
			slices.Sort(got)
			if err != nil || !slices.Equal(got, rows) {
				return fmt.Errorf("table %v at version %d has rows %v, want %v; error: %v", n, v, got, rows, err)
			}
		}
		// If the tail has no rows of the table, the current version contains all rows: remember it.
		if vs, err := t.Versions(ctx); err != nil {
			return err
		} else if len(vs) > 0 && vs[len(vs)-1].Rows == info.Rows && vs[len(vs)-1].Current && !m.inTail(n) {
			mt.versions[vs[len(vs)-1].Version] = want
		}
	}
	return nil
}

func (m *model) inTail(n tables.TableName) bool {
	return slices.Contains(m.s.Commits().WithTail(tables.NamespaceOf(n.Namespace)), tables.TableName{Namespace: tables.NamespaceOf(n.Namespace), Name: n.Name})
}

// TestModel compares a Store with maps in memory over random operations.
func TestModel(t *testing.T) {
	for seed := range uint64(tabletest.Rounds(t, "PARTD_MODELS", 3)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			runModel(t, t.TempDir(), tables.Options{FoldBytes: 4000, FoldAge: -1, Memory: 1 << 20, NoTail: seed%3 == 2}, seed, 120)
		})
	}
}

// runModel compares the store at a directory or URL with a model over random operations.
func runModel(t *testing.T, dir string, o tables.Options, seed uint64, steps int) {
	t.Helper()
	m := &model{t: t, rnd: rand.New(rand.NewPCG(seed, 0)), dir: dir, tables: map[tables.TableName]*modelTable{}, opts: o}
	var err error
	if m.s, err = tables.Open(t.Context(), m.dir, &m.opts); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := m.s.Close(); err != nil {
			t.Error(err)
		}
	}()
	var log []string
	for range steps {
		op, err := m.step(t.Context())
		log = append(log, op)
		if err != nil {
			t.Fatalf("%v\nafter %q", err, log[max(0, len(log)-15):])
		}
	}
	if err := m.check(t.Context()); err != nil {
		t.Fatal(err)
	}
}
