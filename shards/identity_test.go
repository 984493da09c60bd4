package shards

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-partd/partd"
)

// fullStore is a store with the abilities that these tests need.
type fullStore interface {
	partd.Partd
	partd.Setter
	partd.Deleter
	partd.Lister
}

// restarted is the store of a server that can restart with another store.
type restarted struct {
	fullStore
	life atomic.Uint64
}

func (r *restarted) Instance() uint64 { return r.life.Load() }

func (r *restarted) useStore(store fullStore) {
	r.fullStore = store
	r.life.Add(1)
}

func (r *restarted) Sync(context.Context) error { return nil }

func (r *restarted) Check(context.Context) (partd.CheckResult, error) {
	return partd.CheckResult{}, nil
}

func (r *restarted) Close() error { return nil }

// operations returns all operations of s; those on a key use key.
func operations(ctx context.Context, s *Shards, key string) map[string]func() error {
	return map[string]func() error{
		"append":   func() error { return s.Append(ctx, partd.Entry{Key: key, Value: []byte("x")}) },
		"set":      func() error { return s.Set(ctx, key, []byte("x")) },
		"set once": func() error { return s.SetOnce(ctx, key, []byte("x")) },
		"delete":   func() error { return s.Delete(ctx, key) },
		"drop":     func() error { return s.Drop(ctx) },
		"get":      func() error { _, err := s.Get(ctx, key); return err },
		"open": func() error {
			r, err := s.Open(ctx, key)
			if err == nil {
				_, err = io.Copy(io.Discard, r)
				err = errors.Join(err, r.Close())
			}
			return err
		},
		"keys": func() error { _, err := partd.Stat(ctx, bareLister{s}); return err },
		"scan": func() error { _, err := scan(s, 0, 1); return err },
		"stat": func() error { _, err := s.Stat(ctx); return err },
		"sync": func() error { return s.Sync(ctx) },
		"check": func() error {
			_, err := s.Check(ctx)
			return err
		},
	}
}

func restartable(n int) (servers []*restarted, stores []partd.Partd) {
	for range n {
		servers = append(servers, &restarted{fullStore: partd.NewDict()})
		stores = append(stores, servers[len(servers)-1])
	}
	return servers, stores
}

// TestOtherStores checks that a shard that returns empty, or with another store, fails
// every operation that needs it. The error names the shard and the remedy, for clients
// that started before and after.
func TestOtherStores(t *testing.T) {
	elsewhere := func(t *testing.T) fullStore { // a shard of the same name from another list
		stores := dicts(3)
		fill(t, shardsOver(t, abc, stores), 30)
		return stores[1].(fullStore)
	}
	var all sync.WaitGroup // each run waits a second, in case a list returns
	defer all.Wait()
	for name, other := range map[string]func(t *testing.T) fullStore{
		"empty": func(*testing.T) fullStore { return partd.NewDict() }, "another": elsewhere,
	} {
		for _, between := range []bool{false, true} {
			for op := range operations(t.Context(), nil, "") {
				label := fmt.Sprint(name, ", while in use: ", between, ", ", op)
				all.Go(func() {
					servers, stores := restartable(3)
					s := shardsOver(t, abc, stores)
					fill(t, s, 30)
					key := keyOf(s, "b")
					must(t, s.Append(t.Context(), partd.Entry{Key: key, Value: []byte("x")}))
					own := servers[1].fullStore
					servers[1].useStore(other(t))
					if !between {
						s = shardsOver(t, abc, stores)
						opened, err := Open(t.Context(), abc, func(_ context.Context, name string) (partd.Partd, error) {
							return stores[slices.Index(abc, name)], nil
						})
						if !errors.Is(err, ErrStoreMismatch) || !strings.Contains(err.Error(), "shard b: ") {
							t.Errorf("%s: opening: %v, %v", label, opened, err)
						}
					}
					err := operations(t.Context(), s, key)[op]()
					if !errors.Is(err, ErrStoreMismatch) || !strings.Contains(err.Error(), "shard b: ") || !strings.Contains(err.Error(), "partd adopt") || strings.Contains(err.Error(), "shard a: ") {
						t.Errorf("%s: %v", label, err)
					}
					if op != "drop" {
						if _, err := s.Get(t.Context(), keyOf(s, "a")); err != nil {
							t.Errorf("%s: a key of another shard: %v", label, err)
						}
					}
					servers[1].useStore(own)
					if v, err := s.Get(t.Context(), key); err != nil || len(v[0]) != 1 {
						t.Errorf("%s: restarted with its own store: %q, %v", label, v, err)
					}
				})
			}
		}
	}
}

// TestStoreReplacedDuringOperation exchanges the store during an operation. The original
// store may be back when the client checks. A restart with the same store must not be an
// error.
func TestStoreReplacedDuringOperation(t *testing.T) {
	servers, stores := restartable(3)
	meanwhile := &exchanging{restarted: servers[1]}
	stores[1] = meanwhile
	s := shardsOver(t, abc, stores)
	fill(t, s, 30)
	own := servers[1].fullStore
	key := keyOf(s, "b")
	must(t, s.Append(t.Context(), partd.Entry{Key: key, Value: []byte("x")}))
	for _, c := range []struct {
		name    string
		during  fullStore
		returns bool
	}{{"exchanged", nil, false}, {"exchanged, and back", nil, true}, {"started again", own, false}} {
		for op, try := range operations(t.Context(), s, key) {
			if slices.Contains([]string{"drop", "delete", "keys"}, op) || c.name == "exchanged" && op != "get" && op != "append" { // these wait a second
				continue
			}
			if _, err := s.Get(t.Context(), key); err != nil { // recognized again
				t.Fatal(err)
			}
			meanwhile.during, meanwhile.after = partd.NewDict(), nil
			if c.during != nil {
				meanwhile.during = c.during
			}
			if c.returns {
				meanwhile.after = own
			}
			meanwhile.armed.Store(true)
			err := try()
			changes := op == "append" || strings.HasPrefix(op, "set")
			if c.during == nil && (!errors.Is(err, ErrStoreMismatch) || !strings.Contains(err.Error(), "shard b: ") || errors.Is(err, partd.ErrUnknownOutcome) != changes) ||
				c.during != nil && err != nil || meanwhile.armed.Load() {
				t.Errorf("%s, %s: %v", c.name, op, err)
			}
			servers[1].useStore(own)
		}
	}
	if got, err := scan(s, 0, 1); err != nil || len(got) != 31 {
		t.Errorf("%d keys, %v", len(got), err)
	}
}

// exchanging exchanges its store during the next operation, and again after it.
type exchanging struct {
	*restarted
	armed         atomic.Bool
	during, after fullStore
}

func (e *exchanging) swapStores() (end func()) {
	if !e.armed.CompareAndSwap(true, false) {
		return func() {}
	}
	e.useStore(e.during)
	return func() {
		if e.after != nil {
			e.useStore(e.after)
		}
	}
}

func (e *exchanging) Get(ctx context.Context, keys ...string) ([][]byte, error) {
	defer e.swapStores()()
	return e.restarted.Get(ctx, keys...)
}

func (e *exchanging) Append(ctx context.Context, entries ...partd.Entry) error {
	defer e.swapStores()()
	return e.restarted.Append(ctx, entries...)
}

func (e *exchanging) Set(ctx context.Context, key string, value []byte) error {
	defer e.swapStores()()
	return e.restarted.Set(ctx, key, value)
}

func (e *exchanging) SetOnce(ctx context.Context, key string, value []byte) error {
	defer e.swapStores()()
	return e.restarted.SetOnce(ctx, key, value)
}

func (e *exchanging) Keys(ctx context.Context) iter.Seq2[partd.KeyInfo, error] {
	return func(yield func(partd.KeyInfo, error) bool) {
		defer e.swapStores()()
		e.restarted.Keys(ctx)(yield)
	}
}

func (e *exchanging) Sync(context.Context) error { e.swapStores()(); return nil }

func (e *exchanging) Check(context.Context) (partd.CheckResult, error) {
	e.swapStores()()
	return partd.CheckResult{}, nil
}

// TestOtherStoreOfTwo checks that neither of two shards is used if they disagree, because either
// could be the wrong one.
func TestOtherStoreOfTwo(t *testing.T) {
	one, two := dicts(2), dicts(2)
	fill(t, shardsOver(t, abc[:2], one), 10)
	fill(t, shardsOver(t, abc[:2], two), 10)
	if got, err := scan(shardsOver(t, abc[:2], []partd.Partd{one[0], two[1]}), 0, 1); !errors.Is(err, ErrStoreMismatch) {
		t.Errorf("%v, %v", got, err)
	}
}

// TestListsWithoutIdentifiers checks that concurrent clients add identifiers to lists of earlier
// versions, and agree.
func TestListsWithoutIdentifiers(t *testing.T) {
	for round := range 20 {
		servers, stores := restartable(3)
		old := shardsOver(t, abc, stores)
		for i, sh := range old.shards {
			must(t, partd.SetOnce(t.Context(), stores[i], listKey, []byte(sh.list)))
			must(t, stores[i].Append(t.Context(), partd.Entry{Key: keyOf(old, sh.name), Value: []byte("old")}))
		}
		if got, err := scan(old, 0, 1); err != nil || len(got) != 3 {
			t.Fatalf("%v, %v", got, err)
		}
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				s, err := New(abc, stores)
				for j := 0; j < 10 && err == nil; j++ {
					err = s.Append(t.Context(), partd.Entry{Key: fmt.Sprint(j), Value: []byte{byte(i)}})
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		late := shardsOver(t, abc, stores)
		if got, err := scan(late, 0, 1); err != nil || len(got) != 13 {
			t.Fatalf("round %d: %d keys, %v", round, len(got), err)
		}
		for _, sh := range late.shards {
			for _, other := range late.shards {
				if k := sh.current.Load(); other != sh && (k.ownID == "" || k.ownID != other.current.Load().otherIDs[sh.name]) {
					t.Errorf("round %d: %s is %q, and %s knows %q", round, sh.name, k.ownID, other.name, other.current.Load().otherIDs[sh.name])
				}
			}
		}
		if round > 0 {
			continue
		}
		servers[2].useStore(partd.NewDict())
		if got, err := scan(late, 0, 1); !errors.Is(err, ErrStoreMismatch) {
			t.Errorf("round %d: %v, %v", round, got, err)
		}
	}
}

// TestAdopt checks that Adopt accepts an empty store, and that the former store is rejected
// afterwards.
func TestAdopt(t *testing.T) {
	servers, stores := restartable(3)
	s := shardsOver(t, abc, stores)
	want := fill(t, s, 50)
	open := func(_ context.Context, name string) (partd.Partd, error) {
		return stores[slices.Index(abc, name)], nil
	}
	adopt := func(name string) error { return Adopt(t.Context(), abc, open, name) }
	if err := adopt("b"); err == nil || !strings.Contains(err.Error(), `it has keys, such as "key `) {
		t.Errorf("a store with keys: %v", err)
	}
	if err := adopt("d"); err == nil || !strings.Contains(err.Error(), "d is not one of a, b, c") {
		t.Error(err)
	}
	asleep := shardsOver(t, abc, stores)
	if _, err := scan(asleep, 0, 1); err != nil {
		t.Fatal(err)
	}
	before := []fullStore{servers[0].fullStore, servers[1].fullStore}
	servers[0].useStore(partd.NewDict())
	servers[1].useStore(partd.NewDict())
	must(t, adopt("a"))
	if _, err := scan(s, 0, 1); !errors.Is(err, ErrStoreMismatch) || strings.Contains(err.Error(), "shard a: ") {
		t.Errorf("after adopting one of two: %v", err)
	}
	for range 2 {
		must(t, adopt("b"))
	}
	for key := range want {
		if name := s.shards[s.indexOf(key)].name; name != "c" {
			delete(want, key)
		}
	}
	for _, client := range []*Shards{s, shardsOver(t, abc, stores)} { // s was opened earlier
		if got, err := scan(client, 0, 1); err != nil || !maps.Equal(got, want) || len(got) == 0 {
			t.Errorf("%d keys, %v", len(got), err)
		}
	}
	fill(t, s, 50)
	servers[1].useStore(before[1])
	for _, client := range []*Shards{s, asleep, shardsOver(t, abc, stores)} {
		if got, err := scan(client, 0, 1); !errors.Is(err, ErrStoreMismatch) || !strings.Contains(err.Error(), "shard b: ") {
			t.Errorf("the former store: %d keys, %v", len(got), err)
		}
	}
	for i := range servers {
		servers[i].useStore(partd.NewDict())
	}
	if err := adopt("b"); err == nil || !strings.Contains(err.Error(), "all stores are empty") {
		t.Error(err)
	}
	downErr := errors.New("no route to host")
	if err := Adopt(t.Context(), abc, func(ctx context.Context, name string) (partd.Partd, error) {
		if name == "c" {
			return nil, downErr
		}
		return open(ctx, name)
	}, "b"); !errors.Is(err, downErr) {
		t.Error(err)
	}
}

// TestEmptyStoreWithUnreachableShards checks that an empty shard is not mistaken for a new one while the shards that know
// its identifier are unreachable.
func TestEmptyStoreWithUnreachableShards(t *testing.T) {
	_, stores := restartable(3)
	fill(t, shardsOver(t, abc, stores), 30)
	downShard := &faulty{Dict: partd.NewDict()}
	cause := os.ErrDeadlineExceeded
	downShard.err.Store(&cause)
	s := shardsOver(t, abc, []partd.Partd{downShard, partd.NewDict(), downShard})
	if _, err := s.Get(t.Context(), keyOf(s, "b")); !errors.Is(err, cause) || !strings.Contains(err.Error(), "shard b: ") {
		t.Error(err)
	}
}

// TestClientsStartingDuringDrop checks that clients that start during a Drop do not
// consider a shard lost.
func TestClientsStartingDuringDrop(t *testing.T) {
	_, stores := restartable(3)
	s := shardsOver(t, abc, stores)
	fill(t, s, 30)
	done := make(chan error)
	go func() {
		var err error
		for i := 0; i < 300 && err == nil; i++ {
			err = s.Drop(context.Background())
		}
		done <- err
	}()
	for {
		select {
		case err := <-done:
			must(t, err)
			return
		default:
		}
		if _, err := scan(shardsOver(t, abc, stores), 0, 1); err != nil {
			t.Fatal(err)
		}
	}
}
