package tables

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
)

// TestReturnedVersions checks that the version that each put returns contains the put's rows.
func TestReturnedVersions(t *testing.T) {
	s := mustOpen(t, t.TempDir(), &Options{FoldAge: -1})
	table := s.Bucket("").Table("t")
	append1 := func(n int64) Version {
		t.Helper()
		v, err := table.Put(t.Context(), rowsOf(n), PutAppend, nil)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	read := func(v Version, want ...int64) {
		t.Helper()
		old, err := table.At(t.Context(), AtVersion(v))
		if err != nil {
			t.Fatal(err)
		}
		if ns, err := readAll(t.Context(), old, nil); err != nil || !slices.Equal(ns, want) {
			t.Fatalf("version %d has rows %v, error %v; want rows %v", v, ns, err, want)
		}
	}
	listed := func(want ...Version) {
		t.Helper()
		versions, err := table.Versions(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []Version
		for _, i := range versions {
			got = append(got, i.Version)
			old, err := table.At(t.Context(), AtVersion(i.Version))
			if err != nil {
				t.Fatal(err)
			}
			if ns, err := readAll(t.Context(), old, nil); err != nil || int64(len(ns)) != i.Rows {
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
	replaced, err := table.Put(t.Context(), rowsOf(9), PutReplace, nil)
	if err != nil {
		t.Fatal(err)
	}
	read(v, 1, 2, 3, 4, 5)
	read(replaced, 9)
	listed(1, 2, 3, 4)
	// A reservation for another engine does not change which version contains the rows.
	if err := s.commits.ReserveVersion(tableName{Namespace: namespaceOf(""), Name: "t"}, int64(replaced)+1); err != nil {
		t.Fatal(err)
	}
	v = append1(10)
	if v != replaced+2 {
		t.Errorf("the append returned version %d, want %d", v, replaced+2)
	}
	over, err := table.Put(t.Context(), rowsOf(11), PutReplace, &PutOptions{Over: &v})
	if err != nil {
		t.Fatal(err)
	}
	read(v, 9, 10)
	read(over, 11)
	if _, err := table.At(t.Context(), AtVersion(over+1)); !errors.Is(err, ErrNotFound) {
		t.Errorf("At of a version that does not exist: error %v, want ErrNotFound", err)
	}
}

// versionsModel records what readers of a table saw, and compares it with later reads of these states.
type versionsModel struct {
	*testing.T
	s      *Store
	table  *Table
	random *rand.Rand
	next   int64

	moments  []time.Time // moments at which no change was in progress
	seen     [][]int64   // the table's rows at each moment, sorted
	versions map[Version][]int64
}

func (m *versionsModel) rows(t *Table) []int64 {
	m.Helper()
	ns, err := readAll(m.Context(), t, nil)
	if err != nil {
		m.Fatal(err)
	}
	slices.Sort(ns)
	return ns
}

// step makes a random change.
func (m *versionsModel) step() (change string) {
	m.Helper()
	ctx, mode := m.Context(), PutAppend
	m.next++
	var err error
	switch r := m.random.IntN(20); {
	case r < 9 || r == 19:
		change = "append"
	case r < 11:
		_, err = m.s.Fold(ctx, nil)
		return "fold"
	case r < 12:
		change, mode = "replace", PutReplace
	case r < 14:
		change = "upsert"
		result, err := m.table.Upsert(ctx, rowsOf(m.next), &UpsertOptions{Keys: []string{"n"}})
		if err != nil {
			m.Fatal(err)
		}
		m.versions[result.Version] = m.rows(m.table)
		return change
	case r < 15:
		change = "delete"
		_, err = m.table.Delete(ctx), nil
	}
	_ = err
	v, err := m.table.Put(ctx, rowsOf(m.next), mode, nil)
	if err != nil {
		m.Fatal(change, err)
	}
	m.versions[v] = append(m.versions[v], m.next)
	return change
}

var _ = fmt.Sprint
var _ = os.Getenv
var _ = strconv.Itoa
var _ array.RecordReader
