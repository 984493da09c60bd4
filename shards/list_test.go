package shards

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/logstore"
)

// TestAnotherList checks that a client with another list fails before it reads or changes anything,
// and that the error shows both lists.
func TestAnotherList(t *testing.T) {
	stores := dicts(4)
	want := fill(t, shardsOver(t, abc, stores[:3]), 100)
	others := map[string]*Shards{
		"fewer":             shardsOver(t, abc[:2], stores[:2]),
		"more":              shardsOver(t, append(abc, "d"), stores),
		"named differently": shardsOver(t, []string{"A", "b", "c"}, stores[:3]),
	}
	for name, other := range others {
		key := ""
		for i := 0; name == "more" && other.shards[other.indexOf(key)].name != "d"; i++ {
			key = fmt.Sprint("of d ", i) // its store has no list yet
		}
		for op, try := range map[string]func() error{
			"append": func() error { return other.Append(t.Context(), partd.Entry{Key: key, Value: []byte("x")}) },
			"set":    func() error { return other.Set(t.Context(), key, []byte("x")) },
			"delete": func() error { return other.Delete(t.Context(), key) },
			"drop":   func() error { return other.Drop(t.Context()) },
			"get":    func() error { _, err := other.Get(t.Context(), "key 1", "key 2", "key 3", "key 4"); return err },
			"scan":   func() error { _, err := scan(other, 0, 1); return err },
			"stat":   func() error { _, err := other.Stat(t.Context()); return err },
		} {
			err := try()
			if !errors.Is(err, ErrListMismatch) || errors.Is(err, partd.ErrUnknownOutcome) || !strings.Contains(err.Error(), " of a, b, c, but ") {
				t.Errorf("%s, %s: %v", name, op, err)
			}
		}
	}
	if list, err := readList(t.Context(), stores[3]); err != nil || list != "" {
		t.Errorf("a rejected list was written: %q, %v", list, err)
	}
	if got, err := scan(shardsOver(t, []string{"c", "b", "a"}, []partd.Partd{stores[2], stores[1], stores[0]}), 0, 1); err != nil || !maps.Equal(got, want) {
		t.Errorf("the same list in another order: %d keys, %v", len(got), err)
	}
	// After Drop, the stores still have their list.
	must(t, shardsOver(t, abc, stores[:3]).Drop(t.Context()))
	if err := shardsOver(t, abc[:2], stores[:2]).Append(t.Context(), partd.Entry{Key: "k", Value: []byte("x")}); !errors.Is(err, ErrListMismatch) {
		t.Errorf("after Drop: %v", err)
	}
	if stats, err := shardsOver(t, abc, stores[:3]).Stat(t.Context()); err != nil || stats.Keys != 0 || stats.Bytes != 0 {
		t.Errorf("after Drop: %+v, %v", stats, err)
	}
}

// TestMistakenStores checks that a store with two names, and exchanged stores, are
// rejected. Otherwise every key would exist twice, or not at all.
func TestMistakenStores(t *testing.T) {
	ab := abc[:2]
	twice := partd.NewDict()
	s := shardsOver(t, ab, []partd.Partd{twice, twice})
	if err := s.Append(t.Context(), partd.Entry{Key: keyOf(s, "a"), Value: []byte("x")}); !errors.Is(err, ErrListMismatch) || !strings.Contains(err.Error(), "it was used as shard a of a, b, but was now opened as shard b of a, b") {
		t.Errorf("twice: %v", err)
	}
	stores := dicts(2)
	fill(t, shardsOver(t, ab, stores), 10)
	if got, err := scan(shardsOver(t, ab, []partd.Partd{stores[1], stores[0]}), 0, 1); !errors.Is(err, ErrListMismatch) {
		t.Errorf("exchanged: %v, %v", got, err)
	}
}

// TestStoreWithKeysButNoList checks that a store with keys but no list is rejected.
func TestStoreWithKeysButNoList(t *testing.T) {
	stores := dicts(3)
	must(t, stores[1].Append(t.Context(), partd.Entry{Key: "mine", Value: []byte("x")}))
	s := shardsOver(t, abc, stores)
	for i := range 20 { // even for keys of other shards
		err := s.Append(t.Context(), partd.Entry{Key: fmt.Sprint(i), Value: []byte("x")})
		if !errors.Is(err, ErrListMismatch) || !strings.Contains(err.Error(), `shard b: `) || !strings.Contains(err.Error(), `"mine"`) {
			t.Fatal(err)
		}
	}
	if _, err := s.Stat(t.Context()); !errors.Is(err, ErrListMismatch) {
		t.Error(err)
	}
	must(t, stores[1].Drop(t.Context()))
	fill(t, s, 20)
}

// TestTheListIsHidden checks that the list is invisible, and that callers can use every key.
func TestTheListIsHidden(t *testing.T) {
	stores := dicts(3)
	s := shardsOver(t, abc, stores)
	want := map[string]string{}
	for i := range 4 {
		key := listKey + strings.Repeat("\x00", i)
		want[key] = fmt.Sprint(i)
		must(t, s.Append(t.Context(), partd.Entry{Key: key, Value: []byte(want[key])}))
	}
	must(t, s.Delete(t.Context(), listKey+"\x00"))
	delete(want, listKey+"\x00")
	if got, err := scan(s, 0, 1); err != nil || !maps.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	if stats, err := s.Stat(t.Context()); err != nil || stats.Keys != 3 || stats.Bytes != 3 {
		t.Errorf("%+v, %v", stats, err)
	}
	for i, store := range stores {
		if list, err := store.Get(t.Context(), listKey); err != nil || !strings.HasPrefix(string(list[0]), "partd shards 1\n"+abc[i]+"\na\nb\nc\nid ") {
			t.Errorf("shard %d has the list %q, %v", i, list, err)
		}
	}
}

// TestCheck checks that Check finds damage on any shard and names the shard.
func TestCheck(t *testing.T) {
	dir := t.TempDir()
	open := func() *Shards {
		var stores []partd.Partd
		for _, name := range abc {
			stores = append(stores, openLog(t, dir+"/"+name))
		}
		return shardsOver(t, abc, stores)
	}
	s := open()
	fill(t, s, 1000)
	must(t, s.Sync(t.Context()))
	if found, err := s.Check(t.Context()); err != nil || found.Records != 1006 {
		t.Errorf("%+v, %v: want 1,000 records, three lists, and three records with identifiers", found, err)
	}
	must(t, s.Close())
	s = open() // moves the write-ahead log into a segment
	must(t, s.Close())
	damaged := 0
	must(t, fsWalk(dir+"/b", func(path string, data []byte) []byte {
		if i := bytes.Index(data, []byte("value ")); i >= 0 {
			data[i] ^= 1
			damaged++
		}
		return data
	}))
	if damaged == 0 {
		t.Fatal("no file of shard b has a value")
	}
	stores := []partd.Partd{openLog(t, dir+"/a")}
	b, err := logstore.Open(dir+"/b", &logstore.Options{Memory: logstore.MinMemory})
	if err == nil {
		stores = append(stores, b, openLog(t, dir+"/c"))
		s = shardsOver(t, abc, stores)
		_, err = s.Check(t.Context())
		if !strings.Contains(fmt.Sprint(err), "shard b: ") || strings.Contains(fmt.Sprint(err), "shard a: ") {
			t.Errorf("%v", err)
		}
		_ = s.Close() // this may also report the damage
	}
	if !errors.As(err, new(*partd.CorruptError)) {
		t.Errorf("damage of shard b: %v", err)
	}
}

func fsWalk(dir string, f func(path string, data []byte) []byte) error {
	files, err := os.ReadDir(dir)
	for _, file := range files {
		path := dir + "/" + file.Name()
		data, readErr := os.ReadFile(path)
		err = errors.Join(err, readErr)
		if readErr == nil {
			err = errors.Join(err, os.WriteFile(path, f(path, data), 0o600))
		}
	}
	return err
}

// TestOpen checks that Open succeeds without unreachable shards, and tries them again later.
func TestOpen(t *testing.T) {
	ctx := t.Context()
	stores := map[string]partd.Partd{"a": partd.NewDict(), "b": partd.NewDict(), "c": partd.NewDict()}
	var away atomic.Pointer[map[string]error]
	open := func(_ context.Context, name string) (partd.Partd, error) {
		if err := (*away.Load())[name]; err != nil {
			return nil, err
		}
		return stores[name], nil
	}
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	set := func(errs map[string]error) { away.Store(&errs) }
	set(map[string]error{"a": refused, "b": refused, "c": refused})
	if _, err := Open(ctx, abc, open); !errors.Is(err, refused) || !strings.Contains(err.Error(), "shard c: ") {
		t.Errorf("all unreachable: %v", err)
	}
	set(map[string]error{"a": refused, "b": os.ErrPermission})
	if _, err := Open(ctx, abc, open); !errors.Is(err, os.ErrPermission) {
		t.Errorf("a shard that denies access: %v", err)
	}
	stores["c"] = partd.NewDict() // the failed Open has closed c
	must(t, shardsOver(t, abc, []partd.Partd{stores["a"], stores["b"], stores["c"]}).Drop(ctx))
	set(map[string]error{"b": refused})
	s, err := Open(ctx, abc, open)
	must(t, err)
	must(t, s.Append(ctx, partd.Entry{Key: keyOf(s, "a"), Value: []byte("x")}))
	if err := s.Append(ctx, partd.Entry{Key: keyOf(s, "b"), Value: []byte("x")}); !errors.Is(err, refused) || !strings.Contains(err.Error(), "shard b: ") {
		t.Errorf("an unreachable shard: %v", err)
	}
	if _, err := scan(s, 0, 1); !errors.Is(err, refused) {
		t.Errorf("reading everything: %v", err)
	}
	if got, err := scan(s, 0, 3); err != nil || len(got) != 1 {
		t.Errorf("reading the part on shard a: %v, %v", got, err)
	}
	set(nil)
	must(t, s.Append(ctx, partd.Entry{Key: keyOf(s, "b"), Value: []byte("x")}))
	if got, err := scan(s, 0, 1); err != nil || len(got) != 2 {
		t.Errorf("%v, %v", got, err)
	}
	must(t, s.Close())
	must(t, s.Close())
	for name, store := range stores {
		if err := store.Append(ctx, partd.Entry{Key: "k", Value: []byte("x")}); !errors.Is(err, partd.ErrClosed) {
			t.Errorf("%s is not closed: %v", name, err)
		}
	}
}
