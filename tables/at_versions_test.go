package tables_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/apache/iceberg-go"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestReturnedVersions checks that the version that each put returns contains the put's rows.
func TestReturnedVersions(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	table := s.Bucket("").Table("t")
	append1 := func(n int64) tables.Version {
		t.Helper()
		v, err := table.Put(t.Context(), tabletest.Rows(n), tables.PutAppend, nil)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	read := func(v tables.Version, want ...int64) {
		t.Helper()
		old, err := table.At(t.Context(), tables.AtVersion(v))
		if err != nil {
			t.Fatal(err)
		}
		if ns, err := tabletest.ReadAll(t.Context(), old, nil); err != nil || !slices.Equal(ns, want) {
			t.Fatalf("version %d has rows %v, error %v; want rows %v", v, ns, err, want)
		}
	}
	listed := func(want ...tables.Version) {
		t.Helper()
		versions, err := table.Versions(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []tables.Version
		for _, i := range versions {
			got = append(got, i.Version)
			old, err := table.At(t.Context(), tables.AtVersion(i.Version))
			if err != nil {
				t.Fatal(err)
			}
			if ns, err := tabletest.ReadAll(t.Context(), old, nil); err != nil || int64(len(ns)) != i.Rows {
				t.Errorf("version %d has rows %v, error %v; Versions says %d rows", i.Version, ns, err, i.Rows)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("Versions lists %v, want %v", got, want)
		}
	}
	if a, b, c := append1(1), append1(2), append1(3); a != 1 || b != 1 || c != 1 {
		t.Fatalf("three appends return versions %d, %d and %d, want 1", a, b, c)
	}
	listed(1)
	v := append1(4)
	if info, err := table.Info(t.Context()); err != nil || info.Version != v || info.Rows != 4 {
		t.Errorf("Info = %+v, error %v; want version %d with 4 rows", info, err, v)
	}
	read(v, 1, 2, 3, 4)
	read(1, 1, 2, 3)
	v = append1(5)
	replaced, err := table.Put(t.Context(), tabletest.Rows(9), tables.PutReplace, nil)
	if err != nil {
		t.Fatal(err)
	}
	read(v, 1, 2, 3, 4, 5)
	read(replaced, 9)
	listed(1, 2, 3, 4)
	v = append1(10)
	over, err := table.Put(t.Context(), tabletest.Rows(11), tables.PutReplace, &tables.PutOptions{Over: &v})
	if err != nil {
		t.Fatal(err)
	}
	read(v, 9, 10)
	read(over, 11)
	if _, err := table.At(t.Context(), tables.AtVersion(over+1)); !errors.Is(err, tables.ErrNotFound) {
		t.Errorf("At of a version that does not exist: error %v, want ErrNotFound", err)
	}
}

// versionsModel changes a table at random, and records what readers saw.
type versionsModel struct {
	*testing.T
	s, other *tables.Store // other stands for another process
	table    *tables.Table
	random   *rand.Rand
	next     int64

	changes  []time.Time // when each change began
	moments  []time.Time // when each change had ended
	seen     [][]int64   // the sorted rows after each change
	versions map[tables.Version][]int64
	taken    map[tables.Version]bool // versions that the other process took; reading them can be an error
}

func (m *versionsModel) rows(t *tables.Table) []int64 {
	m.Helper()
	ns, err := tabletest.ReadAll(m.Context(), t, nil)
	if err != nil {
		m.Fatal(err)
	}
	slices.Sort(ns)
	return ns
}

func (m *versionsModel) check(err error) {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
}

// change makes a random change. Each change begins and ends in its own millisecond.
func (m *versionsModel) change() {
	m.Helper()
	ctx := m.Context()
	time.Sleep(2 * time.Millisecond)
	m.changes = append(m.changes, time.Now())
	m.next++
	put := func(table *tables.Table, mode tables.PutMode, o *tables.PutOptions) {
		m.Helper()
		v, err := table.Put(ctx, tabletest.Rows(m.next), mode, o)
		m.check(err)
		m.versions[v] = append(m.versions[v], m.next)
	}
	switch m.random.IntN(16) {
	case 0:
		_, err := m.s.Fold(ctx, nil)
		m.check(err)
	case 1:
		put(m.table, tables.PutReplace, nil)
	case 2:
		result, err := m.table.Upsert(ctx, tabletest.Rows(m.next-1, m.next), &tables.UpsertOptions{Keys: []string{"n"}})
		m.check(err)
		m.versions[result.Version] = append(m.versions[result.Version], m.next-1, m.next)
	case 3:
		where, err := filter.Parse(fmt.Sprintf("n = %d", m.next-2))
		m.check(err)
		_, err = m.table.DeleteRows(ctx, where)
		m.check(err)
	case 4:
		m.check(m.table.Evolve(ctx, tables.ColumnChange{Op: tables.AddColumn, Column: fmt.Sprint("c", m.next), Type: "int64"}))
	case 5:
		m.check(m.table.Evolve(ctx, tables.ColumnChange{Op: tables.RenameColumn, Column: "s", To: "s2"}))
		m.check(m.table.Evolve(ctx, tables.ColumnChange{Op: tables.RenameColumn, Column: "s2", To: "s"}))
	case 6: // two puts in one commit, which readers never saw apart
		m.check(m.s.Update(ctx, func(txn *tables.Txn) error {
			return errors.Join(txn.Put("", "t", tabletest.Rows(-m.next), tables.PutAppend, nil), txn.Put("", "t", tabletest.Rows(m.next), tables.PutAppend, nil))
		}))
	case 7: // the commit of another process can take the version of rows in the tail
		v, err := m.other.Bucket("").Table("t").Put(ctx, tabletest.Rows(m.next), tables.PutAppend, nil)
		m.check(err)
		m.versions[v] = append(m.versions[v], m.next)
		m.taken[v] = true
	case 8:
		_, err := m.s.Compact(ctx, nil)
		m.check(err)
	case 9: // a reader of a moment in the past folds the tail in two parts
		if len(m.moments) > 3 {
			m.readMoment(len(m.moments) - 1 - m.random.IntN(3))
		}
	default:
		put(m.table, tables.PutAppend, nil)
	}
	time.Sleep(2 * time.Millisecond)
	m.moments, m.seen = append(m.moments, time.Now()), append(m.seen, m.rows(m.table))
}

// readMoment reads the moment after a change, and reports whether AtTime can select it.
func (m *versionsModel) readMoment(i int) bool {
	m.Helper()
	when := m.moments[i]
	old, err := m.table.At(m.Context(), tables.AtTime(when))
	var moment *tables.MomentError
	if errors.As(err, &moment) {
		for _, nearest := range []time.Time{moment.Before, moment.After} {
			if !nearest.IsZero() {
				m.readNearest(nearest)
			}
		}
		for j, other := range m.moments {
			if j != i && other.After(moment.Before) && (moment.After.IsZero() || other.Before(moment.After)) && other.Truncate(time.Millisecond) != moment.Before {
				if _, err := m.table.At(m.Context(), tables.AtTime(other)); err == nil {
					m.Fatalf("AtTime can select %v, but named %v and %v as nearest to %v", other, moment.Before, moment.After, when)
				}
			}
		}
		return false
	}
	m.check(err)
	if ns := m.rows(old); !slices.Equal(ns, m.seen[i]) {
		m.Fatalf("AtTime(%v), after change %d, read rows %v; a reader at that time saw %v", when, i, ns, m.seen[i])
	}
	return true
}

// readNearest checks that AtTime selects a moment that an error named, with the rows before or after the change at the time.
func (m *versionsModel) readNearest(when time.Time) {
	m.Helper()
	old, err := m.table.At(m.Context(), tables.AtTime(when))
	m.check(err)
	ns := m.rows(old)
	i, _ := slices.BinarySearchFunc(m.moments, when.Add(time.Millisecond), time.Time.Compare) // the first change that ended later
	if i > 0 && slices.Equal(ns, m.seen[i-1]) || i < len(m.seen) && !when.Before(m.changes[i].Truncate(time.Millisecond)) && slices.Equal(ns, m.seen[i]) {
		return
	}
	m.Fatalf("AtTime(%v), which an error named, read rows %v before change %d", when, ns, i)
}

// TestVersionsModel checks that AtTime yields what readers saw or a MomentError with exact times, and that each version that
// a put returned contains the put's rows.
func TestVersionsModel(t *testing.T) {
	t.Parallel()
	seed := uint64(tabletest.Rounds(t, "PARTD_VERSIONS_SEED", 1))
	exact, refused, read := 0, 0, 0
	for round := range tabletest.Rounds(t, "PARTD_VERSIONS_ROUNDS", 2) {
		t.Logf("seed %d", seed+uint64(round))
		dir := t.TempDir()
		m := &versionsModel{
			T: t, s: tabletest.Open(t, dir, &tables.Options{FoldAge: -1}), other: tabletest.Open(t, dir, &tables.Options{NoTail: true}),
			random: rand.New(rand.NewPCG(seed+uint64(round), 0)), versions: map[tables.Version][]int64{}, taken: map[tables.Version]bool{},
		}
		m.table = m.s.Bucket("").Table("t")
		m.changes = append(m.changes, time.Now())
		tabletest.Put(t, m.s.Bucket(""), "t", tables.PutReplace, 0)
		time.Sleep(2 * time.Millisecond)
		m.moments, m.seen = append(m.moments, time.Now()), append(m.seen, []int64{0})
		for range 40 {
			m.change()
		}
		for i := range m.moments {
			if m.readMoment(i) {
				exact++
			} else {
				refused++
			}
		}
		for v, want := range m.versions {
			old, err := m.table.At(t.Context(), tables.AtVersion(v))
			if err != nil && m.taken[v] {
				continue
			}
			m.check(err)
			ns := m.rows(old)
			for _, n := range want {
				if !slices.Contains(ns, n) {
					t.Fatalf("version %d has rows %v, without row %d, whose put returned this version", v, ns, n)
				}
			}
			read++
		}
	}
	t.Logf("%d moments read exactly, %d refused; %d versions read", exact, refused, read)
	if exact == 0 || refused == 0 {
		t.Error("the test does not reach both outcomes of AtTime")
	}
}

// TestFormat1Versions checks that puts to tables whose Iceberg format does not number versions return version 0, and that AtTime
// selects the snapshot of the moment.
func TestFormat1Versions(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	columns := iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "n", Type: iceberg.PrimitiveTypes.Int64}, iceberg.NestedField{ID: 2, Name: "s", Type: iceberg.PrimitiveTypes.String})
	createIceberg(t, s.Bucket(""), columns, iceberg.UnpartitionedSpec, 1)
	table := s.Bucket("").Table("t")
	var moments []time.Time
	for n := range int64(4) {
		if v, err := table.Put(t.Context(), tabletest.Rows(n), tables.PutAppend, nil); v != 0 || err != nil {
			t.Fatalf("Put = version %d, error %v; want version 0", v, err)
		}
		time.Sleep(2 * time.Millisecond)
		moments = append(moments, time.Now())
		time.Sleep(2 * time.Millisecond)
		tabletest.Fold(t, s)
	}
	for i, moment := range moments {
		old, err := table.At(t.Context(), tables.AtTime(moment))
		if err != nil {
			t.Fatal(err)
		}
		if ns, err := tabletest.ReadAll(t.Context(), old, nil); err != nil || len(ns) != i+1 {
			t.Errorf("AtTime after %d puts read rows %v, error %v", i+1, ns, err)
		}
	}
}
