package shards

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/storetest"
	"github.com/go-partd/partd/logstore"
	"github.com/go-partd/partd/partdtest"
)

var (
	_ partd.Partd       = (*Shards)(nil)
	_ partd.Setter      = (*Shards)(nil)
	_ partd.Deleter     = (*Shards)(nil)
	_ partd.Lister      = (*Shards)(nil)
	_ partd.Opener      = (*Shards)(nil)
	_ partd.Scanner     = (*Shards)(nil)
	_ partd.PartScanner = (*Shards)(nil)
	_ partd.Flusher     = (*Shards)(nil)
	_ partd.Syncer      = (*Shards)(nil)
	_ partd.Statter     = (*Shards)(nil)
	_ partd.Checker     = (*Shards)(nil)
	_ io.Closer         = (*Shards)(nil)
)

var abc = []string{"a", "b", "c"}

func dicts(n int) (stores []partd.Partd) {
	for range n {
		stores = append(stores, partd.NewDict())
	}
	return stores
}

func shardsOver(t testing.TB, names []string, stores []partd.Partd) *Shards {
	t.Helper()
	return must.Get(New(names, stores))(t)
}

func fill(t testing.TB, s partd.Partd, n int) map[string]string {
	t.Helper()
	want := map[string]string{}
	var batch []partd.Entry
	for i := range n {
		key := fmt.Sprint("key ", i)
		want[key] = fmt.Sprint("value ", i)
		batch = append(batch, partd.Entry{Key: key, Value: []byte(want[key])})
	}
	must.Do(t, s.Append(t.Context(), batch...))
	return want
}

func scan(s partd.Partd, part, parts int) (map[string]string, error) {
	got := map[string]string{}
	for c, err := range partd.ScanPart(context.Background(), s, part, parts) {
		if err != nil {
			return got, err
		}
		got[c.Key] += string(c.Data)
	}
	return got, nil
}

func openLog(t testing.TB, dir string) partd.Partd {
	t.Helper()
	return must.Get(logstore.Open(dir, &logstore.Options{Memory: logstore.MinMemory}))(t)
}

func TestKeepsPromises(t *testing.T) {
	require := []partdtest.Ability{
		partdtest.CanSet, partdtest.CanDelete, partdtest.CanList, partdtest.CanOpen,
		partdtest.CanScan, partdtest.CanStat, partdtest.CanClose,
	}
	internalNames := []string{listKey, listKey + "\x00", listKey + "\x00\x00", listKey + "x"}
	t.Run("mem", func(t *testing.T) {
		partdtest.Run(t, func(t *testing.T) partd.Partd { return shardsOver(t, abc, dicts(3)) },
			&partdtest.Options{Require: require, InternalNames: internalNames, MachineRuns: 50})
	})
	t.Run("log", func(t *testing.T) {
		dirs := map[partd.Partd]string{}
		open := func(t *testing.T, dir string) partd.Partd {
			var stores []partd.Partd
			for _, name := range abc {
				stores = append(stores, openLog(t, dir+"/"+name))
			}
			s := shardsOver(t, abc, stores)
			dirs[s] = dir
			return s
		}
		o := &partdtest.Options{
			Require: append(require, partdtest.CanFlush, partdtest.CanSync), InternalNames: internalNames, MachineRuns: 3, Pieces: 60,
			Reopen: func(t *testing.T, store partd.Partd) partd.Partd {
				if err := partd.Close(t.Context(), store); err != nil && !errors.Is(err, partd.ErrClosed) { // a check may have closed it
					t.Fatal(err)
				}
				return open(t, dirs[store])
			},
		}
		if os.Getenv("PARTD_ALL_LAYERS") == "" {
			o.Parts = 2000
		}
		storetest.CheckSlow(t, func(t *testing.T) partd.Partd { return open(t, t.TempDir()) }, o)
	})
}

// TestHashNeverChanges pins the shards of some keys. If the hash changed, stored keys would not be found.
func TestHashNeverChanges(t *testing.T) {
	s := shardsOver(t, []string{"10.0.0.1:7077", "10.0.0.2:7077", "10.0.0.3:7077"}, dicts(3))
	got := ""
	for i := range 40 {
		got += fmt.Sprint(s.indexOf(fmt.Sprint("key ", i)))
	}
	const want = "2202210211000221011020211112111210101001"
	if got != want {
		t.Errorf("the shards of 40 keys are %s, want %s", got, want)
	}
}

// TestShares checks that every shard gets about the same number of keys, that the order of names does
// not matter, and that keys move to a new shard but not between the old ones.
func TestShares(t *testing.T) {
	names := []string{"a:1", "b:1", "c:1"}
	s, reordered := shardsOver(t, names, dicts(3)), shardsOver(t, []string{"c:1", "a:1", "b:1"}, dicts(3))
	fourShards := shardsOver(t, append(names, "d:1"), dicts(4))
	const n = 30_000
	counts, moved := map[string]int{}, 0
	for i := range n {
		key := fmt.Sprint(i)
		name := s.shards[s.indexOf(key)].name
		counts[name]++
		if other := reordered.shards[reordered.indexOf(key)].name; other != name {
			t.Fatalf("key %s is on %s, but on %s with the names in another order", key, name, other)
		}
		if newName := fourShards.shards[fourShards.indexOf(key)].name; newName != name {
			if moved++; newName != "d:1" {
				t.Fatalf("a fourth shard moves key %s from %s to %s", key, name, newName)
			}
		}
	}
	for name, got := range counts {
		if got < n*31/100 || got > n*36/100 {
			t.Errorf("shard %s has %d of %d keys, want about a third", name, got, n)
		}
	}
	if moved < n*23/100 || moved > n*27/100 {
		t.Errorf("a fourth shard gets %d of %d keys, want about a quarter", moved, n)
	}
}

func TestNames(t *testing.T) {
	tooMany := make([]string, MaxShards+1)
	for i := range tooMany {
		tooMany[i] = fmt.Sprint(i)
	}
	for _, c := range []struct {
		names  []string
		stores int
		want   string
	}{
		{nil, 0, "1 to 256"},
		{tooMany, len(tooMany), "there are 257 names: use 1 to 256"},
		{abc, 2, "3 names for 2 stores"},
		{[]string{"a", ""}, 2, `not ""`},
		{[]string{"a", "b\n"}, 2, "on one line"},
		{[]string{"a", strings.Repeat("x", MaxNameLen+1)}, 2, "1 to 255"},
		{[]string{"a", "b", "a"}, 3, "a is named twice"},
	} {
		must.Fail(t, must.Err(New(c.names, dicts(c.stores))), c.want, "New(%q)", c.names)
	}
	s := shardsOver(t, tooMany[:MaxShards], dicts(MaxShards))
	want := fill(t, s, 3000)
	if got, err := scan(s, 0, 1); err != nil || !maps.Equal(got, want) {
		t.Errorf("scan of %d shards = %d keys, %v, want %d", MaxShards, len(got), err, len(want))
	}
}

// TestPartsDivideShards checks that each key is in one part, and that all parts have the same size.
func TestPartsDivideShards(t *testing.T) {
	for n := 1; n <= 7; n++ {
		var names []string
		for i := range n {
			names = append(names, fmt.Sprint("shard ", i))
		}
		s := shardsOver(t, names, dicts(n))
		want := fill(t, s, 200)
		for _, parts := range []int{1, 2, 3, 4, 5, 6, 7, 12, 100} {
			got, pieces := map[string]string{}, map[string]float64{}
			for part := range parts {
				partValues := must.Get(scan(s, part, parts))(t)
				for k, v := range partValues {
					got[k] += v
				}
				size := 0.0
				for _, sh := range s.sharesOf(part, parts) {
					size += 1 / float64(sh.parts)
					pieces[sh.name] += 1 / float64(sh.parts)
				}
				if want := float64(n) / float64(parts); size < want*.999 || size > want*1.001 {
					t.Errorf("%d shards: part %d of %d covers %v shards, want %v", n, part, parts, size, want)
				}
				if len(s.sharesOf(part, parts)) > 2*n {
					t.Errorf("%d shards: part %d of %d needs %d scans, want at most %d", n, part, parts, len(s.sharesOf(part, parts)), 2*n)
				}
			}
			if !maps.Equal(got, want) || len(pieces) != n {
				t.Errorf("%d shards: %d parts have %d keys, want %d", n, parts, len(got), len(want))
			}
		}
	}
	for part, want := range []string{"a 0/1", "b 0/1", "c 0/1"} {
		for _, sh := range shardsOver(t, abc, dicts(3)).sharesOf(part, 3) {
			if got := fmt.Sprintf("%s %d/%d", sh.name, sh.part, sh.parts); got != want {
				t.Errorf("part %d of 3 is %s, want %s", part, got, want)
			}
		}
	}
}

// TestNewCopiesStores checks that the caller of New may change its slice of stores.
func TestNewCopiesStores(t *testing.T) {
	stores := dicts(3)
	s := shardsOver(t, abc, stores)
	want := fill(t, s, 20)
	clear(stores)
	if got := must.Get(scan(s, 0, 1))(t); !maps.Equal(got, want) {
		t.Errorf("after the caller cleared its slice, the store has %v, want %v", got, want)
	}
}
