//go:build cgo

package duck_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// versionsModel changes a table at random, and remembers what readers saw: the columns, and the rows in their order, as
// text.
type versionsModel struct {
	*testing.T
	s, other *tables.Store // other stands for another process
	b        *tables.Bucket
	table    *tables.Table
	random   *rand.Rand
	next     int64
	ops      []string

	changes   []time.Time // when each change began
	moments   []time.Time // when each change had ended
	seen      []string    // the table after each change
	versions  map[tables.Version]string
	puts      map[tables.Version][]int64 // values of the column n that were put, by the version that the put returned
	snapshots map[string]string
	life      int            // how often the table was created
	lives     map[string]int // life when each snapshot was made

	read int // number of versions read
}

const noTable = "no table"

// text returns the table in a state. ok is false if the state does not exist.
func (m *versionsModel) text(at tables.At) (text string, ok bool) {
	m.Helper()
	t, err := m.table.At(m.Context(), at)
	if errors.Is(err, tables.ErrNotFound) {
		return noTable, false
	}
	m.check(err)
	r, err := t.Scan(m.Context(), nil)
	m.check(err)
	return tabletest.ReaderText(m, r), true
}

func (m *versionsModel) check(err error) {
	m.Helper()
	if err != nil {
		m.Fatalf("%v\nafter %s", err, m.history())
	}
}

func (m *versionsModel) history() string {
	return strings.Join(m.ops, "\n")
}

// same fails the test if a reader of a state, which kind describes, did not get the text.
func (m *versionsModel) same(got, want, kind string, args ...any) {
	m.Helper()
	if got != want {
		m.Fatalf("%s:\n%s\nwant\n%s\nafter %s", fmt.Sprintf(kind, args...), got, want, m.history())
	}
}

// change makes a random change. Each change begins and ends in its own millisecond.
func (m *versionsModel) change() {
	m.Helper()
	time.Sleep(2 * time.Millisecond)
	m.changes = append(m.changes, time.Now())
	m.next++
	m.step()
	time.Sleep(2 * time.Millisecond)
	now := time.Now()
	text, exists := m.text(nil)
	m.moments, m.seen = append(m.moments, now), append(m.seen, text)
	if !exists {
		return
	}
	info, err := m.table.Info(m.Context())
	m.check(err)
	m.ops = append(m.ops, fmt.Sprintf("  version %d: %s", info.Version, text))
	plan, err := m.table.ScanPlan(m.Context())
	m.check(err)
	mark := plan.TailMark
	plan.Close()
	if mark == "" {
		if old, ok := m.versions[info.Version]; ok {
			m.same(text, old, "the current version %d, after a change that made no version", info.Version)
		}
		m.versions[info.Version] = text
	}
	for range 2 {
		m.readVersion(slices.Sorted(maps.Keys(m.versions))[m.random.IntN(len(m.versions))])
	}
	if names := slices.Sorted(maps.Keys(m.snapshots)); len(names) > 0 {
		name := names[m.random.IntN(len(names))]
		m.read++
		m.readState(tables.AtSnapshot(name), m.snapshots[name], "snapshot "+name)
	}
	if m.random.IntN(8) == 0 {
		m.readMoment(m.random.IntN(len(m.moments)))
	}
}

// isAmbiguous reports whether the other process took the number of a version while its rows were in the tail.
func (m *versionsModel) isAmbiguous(v tables.Version) bool {
	_, err := m.table.At(m.Context(), tables.AtVersion(v))
	return err != nil && strings.Contains(err.Error(), "is ambiguous")
}

func (m *versionsModel) readVersion(v tables.Version) {
	m.Helper()
	if m.isAmbiguous(v) {
		return
	}
	m.read++
	m.readState(tables.AtVersion(v), m.versions[v], fmt.Sprint("version ", v))
}

// readState reads a state, and once more in a way that is chosen at random.
func (m *versionsModel) readState(at tables.At, want, name string) {
	m.Helper()
	text, _ := m.text(at)
	m.same(text, want, "%s", name)
	if want == noTable {
		return
	}
	parts := strings.Split(want, " | ")
	columns, rows := parts[0], parts[1:]
	t, err := m.table.At(m.Context(), at)
	m.check(err)
	scan := func(o *tables.ScanOptions) string {
		m.Helper()
		r, err := t.Scan(m.Context(), o)
		m.check(err)
		return tabletest.ReaderText(m, r)
	}
	n := 1 + m.random.IntN(3)
	switch m.random.IntN(5) {
	case 0:
		m.same(scan(&tables.ScanOptions{Limit: int64(n)}), strings.Join(parts[:min(len(parts), n+1)], " | "), "the first %d rows of %s", n, name)
	case 1:
		last := append([]string{columns}, rows[max(0, len(rows)-n):]...)
		m.same(scan(&tables.ScanOptions{Last: int64(n)}), strings.Join(last, " | "), "the last %d rows of %s", n, name)
	case 2:
		r, err := m.s.Query(m.Context(), "SELECT * FROM t", &tables.QueryOptions{At: at})
		m.check(err)
		m.same(sortedText(tabletest.ReaderText(m, r)), sortedText(want), "SELECT from %s", name)
	case 3:
		r, err := t.Changes(m.Context(), nil, nil)
		m.check(err)
		inserted := strings.ReplaceAll(tabletest.ReaderText(m, r), ",insert", "")
		m.same(sortedText(strings.Replace(inserted, "; _change utf8", "", 1)), sortedText(want), "the changes from nothing to %s", name)
	case 4:
		count, err := t.Parts(m.Context())
		m.check(err)
		all := columns
		for part := range count {
			all += strings.TrimPrefix(scan(&tables.ScanOptions{Part: int64(part + 1)}), columns)
		}
		m.same(all, want, "the parts of %s", name)
	}
}

// sortedText returns a table's text with the rows in order.
func sortedText(text string) string {
	parts := strings.Split(text, " | ")
	slices.Sort(parts[1:])
	return strings.Join(parts, " | ")
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
					m.Fatalf("AtTime can select %v, but named %v and %v as nearest to %v\nafter %s", other, moment.Before, moment.After, when, m.history())
				}
			}
		}
		return false
	}
	m.check(err)
	r, err := old.Scan(m.Context(), nil)
	m.check(err)
	m.same(tabletest.ReaderText(m, r), m.seen[i], "AtTime(%v), after change %d", when, i)
	m.readState(tables.AtTime(when), m.seen[i], fmt.Sprint("AtTime ", when))
	return true
}

// readNearest checks that AtTime selects a moment that an error named, with the rows before or after the change at the
// time.
func (m *versionsModel) readNearest(when time.Time) {
	m.Helper()
	text, _ := m.text(tables.AtTime(when))
	i, _ := slices.BinarySearchFunc(m.moments, when.Add(time.Millisecond), time.Time.Compare) // the first change that ended later
	if i > 0 && text == m.seen[i-1] || i < len(m.seen) && !when.Before(m.changes[i].Truncate(time.Millisecond)) && text == m.seen[i] {
		return
	}
	m.Fatalf("AtTime(%v), which an error named, read %s before change %d\nafter %s", when, text, i, m.history())
}

// forget forgets all versions and moments, because the table was deleted or created again.
func (m *versionsModel) forget() {
	m.changes, m.moments, m.seen = m.changes[len(m.changes)-1:], nil, nil
	m.versions, m.puts = map[tables.Version]string{}, map[tables.Version][]int64{}
	m.life++
}

// checkPuts checks that each version that a put returned contains the put's rows.
func (m *versionsModel) checkPuts() {
	m.Helper()
	for v, want := range m.puts {
		if m.isAmbiguous(v) {
			continue
		}
		old, err := m.table.At(m.Context(), tables.AtVersion(v))
		m.check(err)
		r, err := old.Scan(m.Context(), &tables.ScanOptions{Columns: []string{"n"}})
		m.check(err)
		ns := strings.Split(tabletest.ReaderText(m, r), " | ")
		for _, n := range want {
			if !slices.Contains(ns, strconv.FormatInt(n, 10)) {
				m.Fatalf("version %d has rows %v, without row %d, whose put returned this version\nafter %s", v, ns, n, m.history())
			}
		}
	}
}

// TestVersionsModel checks that versions, snapshots and moments show what readers saw, whatever changes later; that
// AtTime otherwise returns a MomentError with exact times; and that each version that a put returned contains the put's
// rows.
func TestVersionsModel(t *testing.T) {
	t.Parallel()
	seed := uint64(tabletest.Rounds(t, "PARTD_VERSIONS_SEED", 1))
	exact, refused, read := 0, 0, 0
	for round := range tabletest.Rounds(t, "PARTD_VERSIONS_ROUNDS", 3) {
		t.Run(fmt.Sprint(seed+uint64(round)), func(t *testing.T) {
			dir := t.TempDir()
			m := &versionsModel{
				T: t, s: openStore(t, dir, nil, tables.Options{FoldAge: -1}), other: tabletest.Open(t, dir, &tables.Options{NoTail: true}),
				random: rand.New(rand.NewPCG(seed+uint64(round), 0)), versions: map[tables.Version]string{},
				puts: map[tables.Version][]int64{}, snapshots: map[string]string{}, lives: map[string]int{},
			}
			m.b = m.s.Bucket("")
			m.table = m.b.Table("t")
			for range 80 {
				m.change()
			}
			for i := range m.moments {
				if m.seen[i] == noTable {
					continue
				}
				if m.readMoment(i) {
					exact++
				} else {
					refused++
				}
			}
			for v := range m.versions {
				m.readVersion(v)
			}
			m.checkPuts()
			read += m.read
		})
	}
	t.Logf("%d moments read exactly, %d refused; %d versions and snapshots read", exact, refused, read)
	if exact == 0 || refused == 0 {
		t.Error("the test does not reach both outcomes of AtTime")
	}
}
