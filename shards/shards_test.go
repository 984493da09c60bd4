package shards

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd"
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

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var abc = []string{"a", "b", "c"}

func dicts(n int) (stores []partd.Partd) {
	for range n {
		stores = append(stores, partd.NewDict())
	}
	return stores
}

func over(t testing.TB, names []string, stores []partd.Partd) *Shards {
	t.Helper()
	s, err := New(names, stores)
	must(t, err)
	return s
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
	must(t, s.Append(t.Context(), batch...))
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
	l, err := logstore.Open(dir, &logstore.Options{Memory: logstore.MinMemory})
	must(t, err)
	return l
}

func TestKeepsPromises(t *testing.T) {
	require := []partdtest.Ability{
		partdtest.CanSet, partdtest.CanDelete, partdtest.CanList, partdtest.CanOpen,
		partdtest.CanScan, partdtest.CanStat, partdtest.CanClose,
	}
	own := []string{listKey, listKey + "\x00", listKey + "\x00\x00", listKey + "x"}
	t.Run("mem", func(t *testing.T) {
		partdtest.Run(t, func(t *testing.T) partd.Partd { return over(t, abc, dicts(3)) },
			&partdtest.Options{Require: require, OwnNames: own, MachineRuns: 50})
	})
	t.Run("log", func(t *testing.T) {
		dirs := map[partd.Partd]string{}
		open := func(t *testing.T, dir string) partd.Partd {
			var stores []partd.Partd
			for _, name := range abc {
				stores = append(stores, openLog(t, dir+"/"+name))
			}
			s := over(t, abc, stores)
			dirs[s] = dir
			return s
		}
		o := &partdtest.Options{
			Require: append(require, partdtest.CanFlush, partdtest.CanSync), OwnNames: own, MachineRuns: 3, Pieces: 60,
			Reopen: func(t *testing.T, store partd.Partd) partd.Partd {
				must(t, partd.Close(t.Context(), store))
				return open(t, dirs[store])
			},
		}
		run := partdtest.StateMachine
		if os.Getenv("PARTD_REQUIRE_ALL") != "" {
			run = partdtest.Run
		}
		run(t, func(t *testing.T) partd.Partd { return open(t, t.TempDir()) }, o)
	})
}

// The hash decides where everything is that was ever stored.
func TestPlacesNeverChange(t *testing.T) {
	s := over(t, []string{"10.0.0.1:7077", "10.0.0.2:7077", "10.0.0.3:7077"}, dicts(3))
	got := ""
	for i := range 40 {
		got += fmt.Sprint(s.indexOf(fmt.Sprint("key ", i)))
	}
	const want = "2202210211000221011020211112111210101001"
	if got != want {
		t.Errorf("the shards of 40 keys are %s, and were %s", got, want)
	}
}

// Each shard has its share, the order of names means nothing, and another name moves
// its share alone.
func TestShares(t *testing.T) {
	names := []string{"a:1", "b:1", "c:1"}
	s, turned := over(t, names, dicts(3)), over(t, []string{"c:1", "a:1", "b:1"}, dicts(3))
	more := over(t, append(names, "d:1"), dicts(4))
	const n = 30_000
	counts, moved := map[string]int{}, 0
	for i := range n {
		key := fmt.Sprint(i)
		at := s.shards[s.indexOf(key)].name
		counts[at]++
		if other := turned.shards[turned.indexOf(key)].name; other != at {
			t.Fatalf("key %s is on %s or on %s", key, at, other)
		}
		if now := more.shards[more.indexOf(key)].name; now != at {
			if moved++; now != "d:1" {
				t.Fatalf("key %s moved from %s to %s", key, at, now)
			}
		}
	}
	for name, got := range counts {
		if got < n*31/100 || got > n*36/100 {
			t.Errorf("shard %s has %d of %d keys", name, got, n)
		}
	}
	if moved < n*23/100 || moved > n*27/100 {
		t.Errorf("a fourth shard took %d of %d keys", moved, n)
	}
}

func TestNames(t *testing.T) {
	many := make([]string, MaxShards+1)
	for i := range many {
		many[i] = fmt.Sprint(i)
	}
	for _, c := range []struct {
		names  []string
		stores int
		want   string
	}{
		{nil, 0, "1 to 256"},
		{many, len(many), "1 to 256, not 257"},
		{abc, 2, "3 names for 2 stores"},
		{[]string{"a", ""}, 2, `not ""`},
		{[]string{"a", "b\n"}, 2, "on one line"},
		{[]string{"a", strings.Repeat("x", MaxName+1)}, 2, "1 to 255"},
		{[]string{"a", "b", "a"}, 3, "a is named twice"},
	} {
		if _, err := New(c.names, dicts(c.stores)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want …%s…", c.names, err, c.want)
		}
	}
	s := over(t, many[:MaxShards], dicts(MaxShards))
	want := fill(t, s, 3000)
	if got, err := scan(s, 0, 1); err != nil || !maps.Equal(got, want) {
		t.Errorf("%d keys, %v", len(got), err)
	}
}

// Who comes with another list is refused before it has changed or read anything, and
// is told both lists.
func TestAnotherList(t *testing.T) {
	stores := dicts(4)
	want := fill(t, over(t, abc, stores[:3]), 100)
	others := map[string]*Shards{
		"fewer":             over(t, abc[:2], stores[:2]),
		"more":              over(t, append(abc, "d"), stores),
		"named differently": over(t, []string{"A", "b", "c"}, stores[:3]),
	}
	for name, other := range others {
		key := ""
		for i := 0; name == "more" && other.shards[other.indexOf(key)].name != "d"; i++ {
			key = fmt.Sprint("of d ", i) // whose store has no list yet
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
			if !errors.Is(err, ErrOtherList) || errors.Is(err, partd.ErrUnknownOutcome) || !strings.Contains(err.Error(), " of a, b, c; given was ") {
				t.Errorf("%s, %s: %v", name, op, err)
			}
		}
	}
	if list, err := listOf(t.Context(), stores[3]); err != nil || list != "" {
		t.Errorf("a list that was refused was written: %q, %v", list, err)
	}
	if got, err := scan(over(t, []string{"c", "b", "a"}, []partd.Partd{stores[2], stores[1], stores[0]}), 0, 1); err != nil || !maps.Equal(got, want) {
		t.Errorf("the same list in another order: %d keys, %v", len(got), err)
	}
	// Dropped, the stores still have their list.
	must(t, over(t, abc, stores[:3]).Drop(t.Context()))
	if err := over(t, abc[:2], stores[:2]).Append(t.Context(), partd.Entry{Key: "k", Value: []byte("x")}); !errors.Is(err, ErrOtherList) {
		t.Errorf("after Drop: %v", err)
	}
	if stats, err := over(t, abc, stores[:3]).Stat(t.Context()); err != nil || stats.Keys != 0 || stats.Bytes != 0 {
		t.Errorf("after Drop: %+v, %v", stats, err)
	}
}

// Two names of one store would have all its keys twice, and stores that are exchanged none.
func TestTakenForAnother(t *testing.T) {
	ab := abc[:2]
	twice := partd.NewDict()
	s := over(t, ab, []partd.Partd{twice, twice})
	if err := s.Append(t.Context(), partd.Entry{Key: keyOf(s, "a"), Value: []byte("x")}); !errors.Is(err, ErrOtherList) || !strings.Contains(err.Error(), "it is a of a, b; given was b of a, b") {
		t.Errorf("twice: %v", err)
	}
	stores := dicts(2)
	fill(t, over(t, ab, stores), 10)
	if got, err := scan(over(t, ab, []partd.Partd{stores[1], stores[0]}), 0, 1); !errors.Is(err, ErrOtherList) {
		t.Errorf("exchanged: %v, %v", got, err)
	}
}

// What was stored without the other shards would not be found.
func TestAStoreOfItsOwn(t *testing.T) {
	stores := dicts(3)
	must(t, stores[1].Append(t.Context(), partd.Entry{Key: "mine", Value: []byte("x")}))
	s := over(t, abc, stores)
	for i := range 20 { // also of keys that are elsewhere
		err := s.Append(t.Context(), partd.Entry{Key: fmt.Sprint(i), Value: []byte("x")})
		if !errors.Is(err, ErrOtherList) || !strings.Contains(err.Error(), `shard b: `) || !strings.Contains(err.Error(), `"mine"`) {
			t.Fatal(err)
		}
	}
	if _, err := s.Stat(t.Context()); !errors.Is(err, ErrOtherList) {
		t.Error(err)
	}
	must(t, stores[1].Drop(t.Context()))
	fill(t, s, 20)
}

// The list is nobody's key, and all keys are the callers'.
func TestTheListIsHidden(t *testing.T) {
	stores := dicts(3)
	s := over(t, abc, stores)
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
		if list, err := store.Get(t.Context(), listKey); err != nil || string(list[0]) != "partd shards 1\n"+abc[i]+"\na\nb\nc\n" {
			t.Errorf("shard %d has the list %q, %v", i, list, err)
		}
	}
}

// Readers share the shards out: each key is in one part, and parts are of one size.
func TestPartsDivideShards(t *testing.T) {
	for n := 1; n <= 7; n++ {
		var names []string
		for i := range n {
			names = append(names, fmt.Sprint("shard ", i))
		}
		s := over(t, names, dicts(n))
		want := fill(t, s, 200)
		for _, parts := range []int{1, 2, 3, 4, 5, 6, 7, 12, 100} {
			got, pieces := map[string]string{}, map[string]float64{}
			for part := range parts {
				mine, err := scan(s, part, parts)
				must(t, err)
				for k, v := range mine {
					got[k] += v
				}
				size := 0.0
				for _, sh := range s.sharesOf(part, parts) {
					size += 1 / float64(sh.parts)
					pieces[sh.name] += 1 / float64(sh.parts)
				}
				if want := float64(n) / float64(parts); size < want*.999 || size > want*1.001 {
					t.Errorf("%d shards: part %d of %d is %v shards, want %v", n, part, parts, size, want)
				}
				if len(s.sharesOf(part, parts)) > 2*n {
					t.Errorf("%d shards: part %d of %d is %d scans", n, part, parts, len(s.sharesOf(part, parts)))
				}
			}
			if !maps.Equal(got, want) || len(pieces) != n {
				t.Errorf("%d shards: %d parts have %d keys, want %d", n, parts, len(got), len(want))
			}
		}
	}
	for part, want := range []string{"a 0/1", "b 0/1", "c 0/1"} {
		for _, sh := range over(t, abc, dicts(3)).sharesOf(part, 3) {
			if got := fmt.Sprintf("%s %d/%d", sh.name, sh.part, sh.parts); got != want {
				t.Errorf("part %d of 3 is %s, want %s", part, got, want)
			}
		}
	}
}

// faulty is a store that fails as long as it is told to.
type faulty struct {
	*partd.Dict
	err   atomic.Pointer[error]
	calls atomic.Int64
}

func (f *faulty) fail() error {
	f.calls.Add(1)
	if err := f.err.Load(); err != nil {
		return *err
	}
	return nil
}

func (f *faulty) Append(ctx context.Context, entries ...partd.Entry) error {
	return errors.Join(f.fail(), f.Dict.Append(ctx, entries...))
}

func (f *faulty) Get(ctx context.Context, keys ...string) ([][]byte, error) {
	v, err := f.Dict.Get(ctx, keys...)
	return v, errors.Join(f.fail(), err)
}

func (f *faulty) Delete(ctx context.Context, keys ...string) error {
	return errors.Join(f.fail(), f.Dict.Delete(ctx, keys...))
}

func (f *faulty) Close() error { return errors.Join(f.fail(), f.Dict.Close()) }

// keyOf returns a key of a shard.
func keyOf(s *Shards, name string) string {
	for i := 0; ; i++ {
		if key := fmt.Sprint("of ", name, i); s.shards[s.indexOf(key)].name == name {
			return key
		}
	}
}

func TestAShardThatFails(t *testing.T) {
	ctx := t.Context()
	stores := []*faulty{{Dict: partd.NewDict()}, {Dict: partd.NewDict()}, {Dict: partd.NewDict()}}
	s := over(t, abc, []partd.Partd{stores[0], stores[1], stores[2]})
	down := errors.New("no route to host")
	batch := func(names ...string) (entries []partd.Entry) {
		for _, name := range names {
			entries = append(entries, partd.Entry{Key: keyOf(s, name), Value: []byte("x")})
		}
		return entries
	}
	// Before all lists are written nothing is changed anywhere: the name may be a wrong one.
	stores[1].err.Store(&down)
	for _, names := range [][]string{abc, {"a", "c"}} {
		err := s.Append(ctx, batch(names...)...)
		if !errors.Is(err, down) || errors.Is(err, partd.ErrUnknownOutcome) || !strings.Contains(err.Error(), "shard b: ") {
			t.Errorf("to %s first: %v", names, err)
		}
	}
	for _, store := range stores {
		if st, err := store.Stat(ctx); err != nil || st.Keys > 0 {
			t.Errorf("%+v, %v: want no list and no key", st, err)
		}
	}
	stores[1].err.Store(nil)
	must(t, s.Append(ctx, batch("a", "b", "c")...))
	stores[1].err.Store(&down)
	late := over(t, abc, []partd.Partd{stores[0], stores[1], stores[2]})
	must(t, late.Append(ctx, batch("a", "c")...)) // the others work
	for name, err := range map[string]error{
		"append": s.Append(ctx, batch("a", "b", "c")...),
		"delete": s.Delete(ctx, keyOf(s, "a"), keyOf(s, "b"), keyOf(s, "c")),
	} {
		if !errors.Is(err, down) || !errors.Is(err, partd.ErrUnknownOutcome) || !strings.Contains(err.Error(), "done by a, c, but shard b: no route") {
			t.Errorf("%s of some: %v", name, err)
		}
	}
	if err := s.Append(ctx, batch("b")...); !errors.Is(err, down) || errors.Is(err, partd.ErrUnknownOutcome) {
		t.Errorf("of one: %v", err)
	}
	if _, err := s.Get(ctx, keyOf(s, "b")); !errors.Is(err, down) || !strings.Contains(err.Error(), "shard b: ") {
		t.Error(err)
	}
	if _, err := s.Get(ctx, keyOf(s, "a"), keyOf(s, "c")); err != nil {
		t.Error(err)
	}
	also := errors.New("no space")
	stores[2].err.Store(&also)
	if err := s.Close(); !errors.Is(err, down) || !errors.Is(err, also) || stores[0].Dict.Append(ctx) == nil {
		t.Errorf("closing: %v", err)
	}
}

// bare can do no more than it must; setting can set as well.
type bare struct{ partd.Partd }

type setting struct {
	bare
	partd.Setter
}

// What not all stores can do is an error, which no other failure hides behind.
func TestAbilities(t *testing.T) {
	ctx := t.Context()
	d := partd.NewDict()
	s := over(t, abc[:2], []partd.Partd{setting{bare{d}, d}, partd.NewDict()})
	fill(t, s, 10)
	tries := map[string]func() error{
		"keys":  func() error { _, err := partd.Stat(ctx, bareLister{s}); return err },
		"scan":  func() error { _, err := scan(s, 0, 1); return err },
		"stat":  func() error { _, err := s.Stat(ctx); return err },
		"pop":   func() error { _, err := partd.Pop(ctx, s, "k"); return err },
		"apply": func() error { _, err := partd.Apply(ctx, s, partd.Tag{}, partd.Operation{}); return err },
		"sync":  func() error { return s.Sync(ctx) },
		"flush": func() error { return s.Flush(ctx) },
		"check": func() error { _, err := s.Check(ctx); return err },
	}
	for name, try := range tries {
		if err := try(); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
	err := s.Delete(ctx, keyOf(s, "a"), keyOf(s, "b"))
	if errors.Is(err, errors.ErrUnsupported) || !errors.Is(err, partd.ErrUnknownOutcome) || !strings.Contains(err.Error(), "shard a: ") {
		t.Errorf("a Delete that one store made: %v", err)
	}
	must(t, s.Close())
	if err := over(t, abc[:1], []partd.Partd{bare{partd.NewDict()}}).Append(ctx, partd.Entry{Key: "k"}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a store that cannot set: %v", err)
	}
	// A flush that failed must not look like one that nobody needs.
	b, err := partd.NewBuffer(partd.NewDict(), &faulty{Dict: partd.NewDict()}, nil)
	must(t, err)
	s = over(t, abc[:2], []partd.Partd{partd.NewDict(), b})
	fill(t, s, 10)
	must(t, s.Flush(ctx))
	fill(t, s, 10)
	down := errors.New("no route to host")
	b.Unwrap().(*faulty).err.Store(&down)
	if err := s.Flush(ctx); !errors.Is(err, down) || errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a flush that failed: %v", err)
	}
	b.Unwrap().(*faulty).err.Store(nil)
	must(t, s.Close())
}

type bareLister struct{ *Shards }

func (b bareLister) Stat(ctx context.Context) (st partd.Stats, err error) {
	for _, err = range b.Keys(ctx) {
		break
	}
	return st, err
}

// Damage on any shard is found, and said of which it is.
func TestCheck(t *testing.T) {
	dir := t.TempDir()
	open := func() *Shards {
		var stores []partd.Partd
		for _, name := range abc {
			stores = append(stores, openLog(t, dir+"/"+name))
		}
		return over(t, abc, stores)
	}
	s := open()
	fill(t, s, 1000)
	must(t, s.Sync(t.Context()))
	if found, err := s.Check(t.Context()); err != nil || found.Records != 1003 {
		t.Errorf("%+v, %v: want 1,000 records and three lists", found, err)
	}
	must(t, s.Close())
	s = open() // what is in the write-ahead file becomes a segment
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
		stores = append(stores, b)
		s = over(t, abc[:2], stores)
		_, err = s.Check(t.Context())
		if !strings.Contains(fmt.Sprint(err), "shard b: ") || strings.Contains(fmt.Sprint(err), "shard a: ") {
			t.Errorf("%v", err)
		}
		_ = s.Close() // which may find the damage, too
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

// Open goes on without those that are away, and comes back to them.
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
		t.Errorf("all away: %v", err)
	}
	set(map[string]error{"a": refused, "b": os.ErrPermission})
	if _, err := Open(ctx, abc, open); !errors.Is(err, os.ErrPermission) {
		t.Errorf("one that refuses: %v", err)
	}
	stores["c"] = partd.NewDict() // that one is closed
	must(t, over(t, abc, []partd.Partd{stores["a"], stores["b"], stores["c"]}).Drop(ctx))
	set(map[string]error{"b": refused})
	s, err := Open(ctx, abc, open)
	must(t, err)
	must(t, s.Append(ctx, partd.Entry{Key: keyOf(s, "a"), Value: []byte("x")}))
	if err := s.Append(ctx, partd.Entry{Key: keyOf(s, "b"), Value: []byte("x")}); !errors.Is(err, refused) || !strings.Contains(err.Error(), "shard b: ") {
		t.Errorf("one that is away: %v", err)
	}
	if _, err := scan(s, 0, 1); !errors.Is(err, refused) {
		t.Errorf("reading everything: %v", err)
	}
	if got, err := scan(s, 0, 3); err != nil || len(got) != 1 {
		t.Errorf("reading the part of a: %v, %v", got, err)
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

// Those who wait while a shard cannot be opened do not wait for the same again, one after
// the other.
func TestWaitingTogether(t *testing.T) {
	refused := error(&net.OpError{Op: "dial", Net: "tcp", Err: errors.New("no route to host")})
	const readers = 20
	var opened atomic.Int64
	began := make(chan struct{}, readers+1)
	s, err := Open(t.Context(), abc[:2], func(_ context.Context, name string) (partd.Partd, error) {
		if name == "a" {
			return partd.NewDict(), nil
		}
		if opened.Add(1) > 1 {
			began <- struct{}{}
			time.Sleep(100 * time.Millisecond)
		}
		return nil, refused
	})
	must(t, err)
	errs := make(chan error, readers)
	for range readers {
		go func() { _, err := s.Get(t.Context(), keyOf(s, "b")); errs <- err }()
	}
	for range readers {
		if err := <-errs; !errors.Is(err, refused) {
			t.Error(err)
		}
	}
	if n := len(began); n == readers {
		t.Errorf("%d readers tried %d times", readers, n)
	}
	must(t, s.Close())
}

// Close ends what is being opened.
func TestCloseWhileOpening(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	again, opening := false, make(chan struct{})
	s, err := Open(t.Context(), abc[:2], func(ctx context.Context, name string) (partd.Partd, error) {
		if name == "a" {
			return partd.NewDict(), nil
		}
		if !again {
			again = true
			return nil, refused
		}
		close(opening)
		<-ctx.Done()
		return nil, context.Cause(ctx)
	})
	must(t, err)
	done := make(chan error)
	go func() { _, err := s.Get(context.Background(), keyOf(s, "b")); done <- err }()
	<-opening
	must(t, s.Close())
	if err := <-done; !errors.Is(err, partd.ErrClosed) {
		t.Error(err)
	}
}

// A context that has ended changes nothing.
func TestCancelled(t *testing.T) {
	store := &faulty{Dict: partd.NewDict()}
	s := over(t, abc[:1], []partd.Partd{store})
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	if err := s.Append(ctx, partd.Entry{Key: "k", Value: []byte("x")}); !errors.Is(err, why) || store.calls.Load() != 0 {
		t.Errorf("%v, %d calls", err, store.calls.Load())
	}
}

// Clients that begin at the same time agree on one list, and none of those with another
// changes anything.
func TestBeginningTogether(t *testing.T) {
	for round := range 20 {
		stores := dicts(3)
		first := make(chan error, 8)
		for i := range 8 {
			names := slices.Clone(abc)
			rand.Shuffle(3, func(i, j int) { names[i], names[j] = names[j], names[i] })
			mine := make([]partd.Partd, 3)
			for j, name := range names {
				mine[j] = stores[slices.Index(abc, name)]
			}
			go func() {
				s, err := New(names, mine)
				for j := 0; j < 20 && err == nil; j++ {
					err = s.Append(context.Background(), partd.Entry{Key: fmt.Sprint(j), Value: []byte{byte(i)}})
				}
				first <- err
			}()
		}
		for range 8 {
			must(t, <-first)
		}
		stats, err := over(t, abc, stores).Stat(t.Context())
		if err != nil || stats.Keys != 20 || stats.Bytes != 160 {
			t.Fatalf("round %d: %+v, %v", round, stats, err)
		}
	}
}

// Whoever was killed when only some stores had their list, others begin where he ended.
func TestBeginningAgain(t *testing.T) {
	for done := range 3 {
		stores := dicts(3)
		s := over(t, abc, stores)
		for _, sh := range s.shards[:done] {
			must(t, s.enter(t.Context(), sh, change))
		}
		want := fill(t, over(t, abc, stores), 50)
		if got, err := scan(s, 0, 1); err != nil || !maps.Equal(got, want) {
			t.Errorf("%d keys, %v", len(got), err)
		}
	}
}

// dropping is a store whose Drop is the last thing that somebody waits for.
type dropping struct {
	*partd.Dict
	giveUp context.CancelFunc
}

func (d *dropping) Drop(ctx context.Context) error {
	d.giveUp()
	return errors.Join(d.Dict.Drop(context.WithoutCancel(ctx)), ctx.Err())
}

// A Drop whose context ends leaves no store without its list, with which nobody who comes
// later could do anything once it has keys again.
func TestDropCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stores := []partd.Partd{&dropping{partd.NewDict(), cancel}, &dropping{partd.NewDict(), cancel}}
	s, other := over(t, abc[:2], stores), over(t, abc[:2], stores)
	fill(t, s, 10)
	fill(t, other, 10)
	if err := s.Drop(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	fill(t, other, 10)
	if got, err := scan(over(t, abc[:2], stores), 0, 1); err != nil || len(got) != 10 {
		t.Errorf("%d keys, %v", len(got), err)
	}
}

// Of two lists that begin at the same time with shards in common, one gets them all.
func TestTwoListsBegin(t *testing.T) {
	for round := range 200 {
		stores := dicts(3)
		other := [][]int{{0, 1}, {1, 2}, {0, 2}}[round%3]
		var names []string
		var some []partd.Partd
		for _, i := range other {
			names, some = append(names, abc[i]), append(some, stores[i])
		}
		clients := []*Shards{over(t, abc, stores), over(t, names, some)}
		errs := together([]*shard{nil, nil}, func(i int, _ *shard) error {
			return clients[i].Append(t.Context(), partd.Entry{Key: "k", Value: []byte("x")})
		})
		if one, two := errs[0] == nil, errs[1] == nil; one == two || !errors.Is(errors.Join(errs...), ErrOtherList) {
			t.Fatalf("round %d: %v", round, errs)
		}
		for i, err := range errs {
			if err == nil {
				fill(t, clients[i], 50)
			}
		}
	}
}

// beginning is a store that another client fills after it was first asked for its list.
type beginning struct {
	*partd.Dict
	other func()
}

func (b *beginning) Get(ctx context.Context, keys ...string) ([][]byte, error) {
	values, err := b.Dict.Get(ctx, keys...)
	if other := b.other; other != nil {
		b.other = nil
		other()
	}
	return values, err
}

// Keys that come between the look at the list and that at the keys are no foreign ones.
func TestBeginningAfterAnother(t *testing.T) {
	d := partd.NewDict()
	b := &beginning{d, func() { fill(t, over(t, abc[:1], []partd.Partd{d}), 10) }}
	fill(t, over(t, abc[:1], []partd.Partd{b}), 10)
	if stats, err := over(t, abc[:1], []partd.Partd{d}).Stat(t.Context()); err != nil || stats.Keys != 10 || stats.Bytes != 140 {
		t.Errorf("%+v, %v", stats, err)
	}
}
