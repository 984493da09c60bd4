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
	"github.com/go-partd/partd/internal/testutil/must"
)

// fullStore has all the interfaces of a store that operations calls.
type fullStore interface {
	partd.Partd
	partd.Setter
	partd.Deleter
	partd.Lister
}

// restartableStore is the store of a server that can restart with another store.
type restartableStore struct {
	fullStore
	instance atomic.Uint64
}

func (r *restartableStore) Instance() uint64 { return r.instance.Load() }

func (r *restartableStore) useStore(store fullStore) {
	r.fullStore = store
	r.instance.Add(1)
}

func (r *restartableStore) Sync(context.Context) error { return nil }

func (r *restartableStore) Check(context.Context) (partd.CheckResult, error) {
	return partd.CheckResult{}, nil
}

func (r *restartableStore) Close() error { return nil }

// operations returns functions that call each operation of s. Operations on a key use key.
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
		"keys":  func() error { _, err := partd.Stat(ctx, bareLister{s}); return err },
		"scan":  func() error { _, err := scan(s, 0, 1); return err },
		"stat":  func() error { _, err := s.Stat(ctx); return err },
		"sync":  func() error { return s.Sync(ctx) },
		"check": func() error { _, err := s.Check(ctx); return err },
	}
}

// restartable returns n servers with empty stores, and the same servers as stores for shardsOver.
func restartable(n int) (servers []*restartableStore, stores []partd.Partd) {
	for range n {
		servers = append(servers, &restartableStore{fullStore: partd.NewDict()})
		stores = append(stores, servers[len(servers)-1])
	}
	return servers, stores
}

// TestStoreMismatch checks that every operation on a shard fails if its server restarts with an
// empty or another store. The error must name the shard and the remedy, both for clients that
// started before the restart and for new ones.
func TestStoreMismatch(t *testing.T) {
	t.Parallel()
	foreignStore := func(t *testing.T) fullStore { // the store of a shard with the same name, but of another set of shards
		stores := dicts(3)
		fill(t, shardsOver(t, abc, stores), 30)
		return stores[1].(fullStore)
	}
	// The cases run in parallel, because each waits for the time dropWait, so that a concurrent Drop
	// could write a missing list again.
	var all sync.WaitGroup
	defer all.Wait()
	for name, newStore := range map[string]func(t *testing.T) fullStore{
		"empty": func(*testing.T) fullStore { return partd.NewDict() }, "another": foreignStore,
	} {
		for _, inUse := range []bool{false, true} {
			for op := range operations(t.Context(), nil, "") {
				label := fmt.Sprint(op, " with the store: ", name, ", replaced while in use: ", inUse)
				all.Go(func() {
					servers, stores := restartable(3)
					s := shardsOver(t, abc, stores)
					fill(t, s, 30)
					key := keyOf(s, "b")
					if !must.Check(t, s.Append(t.Context(), partd.Entry{Key: key, Value: []byte("x")})) {
						return
					}
					original := servers[1].fullStore
					servers[1].useStore(newStore(t))
					if !inUse {
						s = shardsOver(t, abc, stores)
						opened, err := Open(t.Context(), abc, opener(stores))
						if !errors.Is(err, ErrStoreMismatch) || !strings.Contains(err.Error(), "shard b: ") {
							t.Errorf("%s: Open = %v, %v, want ErrStoreMismatch of shard b", label, opened, err)
						}
					}
					err := operations(t.Context(), s, key)[op]()
					if !errors.Is(err, ErrStoreMismatch) || !strings.Contains(err.Error(), "shard b: ") || !strings.Contains(err.Error(), "partd adopt") || strings.Contains(err.Error(), "shard a: ") {
						t.Errorf("%s = %v, want ErrStoreMismatch of shard b only", label, err)
					}
					if op != "drop" {
						if _, err := s.Get(t.Context(), keyOf(s, "a")); err != nil {
							t.Errorf("%s: Get of a key of another shard: %v", label, err)
						}
					}
					servers[1].useStore(original)
					if v, err := s.Get(t.Context(), key); err != nil || len(v[0]) != 1 {
						t.Errorf("%s: Get after a restart with the original store = %q, %v, want one byte", label, v, err)
					}
				})
			}
		}
	}
}

// TestStoreReplacedDuringOperation replaces a shard's store during an operation, which must fail
// even if the original store is back when the client checks. A restart with the same store must not
// be an error.
func TestStoreReplacedDuringOperation(t *testing.T) {
	t.Parallel()
	servers, stores := restartable(3)
	exchanged := &swappingStore{restartableStore: servers[1]}
	stores[1] = exchanged
	s := shardsOver(t, abc, stores)
	fill(t, s, 30)
	original := servers[1].fullStore
	key := keyOf(s, "b")
	must.Do(t, s.Append(t.Context(), partd.Entry{Key: key, Value: []byte("x")}))
	for _, c := range []struct {
		name    string
		during  fullStore // the store during the operation; nil for an empty one
		restore bool      // whether the original store is back after the operation
	}{{"replaced", nil, false}, {"replaced and restored", nil, true}, {"restarted", original, false}} {
		for op, try := range operations(t.Context(), s, key) {
			if slices.Contains([]string{"drop", "delete", "keys"}, op) || c.name == "replaced" && op != "get" && op != "append" { // these would take long, because they wait for dropWait
				continue
			}
			if _, err := s.Get(t.Context(), key); err != nil { // makes s recognize the original store again
				t.Fatal(err)
			}
			exchanged.during, exchanged.after = partd.NewDict(), nil
			if c.during != nil {
				exchanged.during = c.during
			}
			if c.restore {
				exchanged.after = original
			}
			exchanged.armed.Store(true)
			err := try()
			changes := op == "append" || strings.HasPrefix(op, "set")
			if c.during == nil && (!errors.Is(err, ErrStoreMismatch) || !strings.Contains(err.Error(), "shard b: ") || errors.Is(err, partd.ErrUnknownOutcome) != changes) ||
				c.during != nil && err != nil || exchanged.armed.Load() {
				t.Errorf("%s while the store is %s = %v, want ErrStoreMismatch of shard b only if the store was replaced", op, c.name, err)
			}
			servers[1].useStore(original)
		}
	}
	if got, err := scan(s, 0, 1); err != nil || len(got) != 31 {
		t.Errorf("scan = %d keys, %v, want 31", len(got), err)
	}
}

// swappingStore simulates a server that restarts with other stores. If armed is set, the next
// operation uses the store in the field during. Later operations use after, unless after is nil.
type swappingStore struct {
	*restartableStore
	armed         atomic.Bool
	during, after fullStore
}

func (e *swappingStore) swapStores() (swapBack func()) {
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

func (e *swappingStore) Get(ctx context.Context, keys ...string) ([][]byte, error) {
	defer e.swapStores()()
	return e.restartableStore.Get(ctx, keys...)
}

func (e *swappingStore) Append(ctx context.Context, entries ...partd.Entry) error {
	defer e.swapStores()()
	return e.restartableStore.Append(ctx, entries...)
}

func (e *swappingStore) Set(ctx context.Context, key string, value []byte) error {
	defer e.swapStores()()
	return e.restartableStore.Set(ctx, key, value)
}

func (e *swappingStore) SetOnce(ctx context.Context, key string, value []byte) error {
	defer e.swapStores()()
	return e.restartableStore.SetOnce(ctx, key, value)
}

func (e *swappingStore) Keys(ctx context.Context) iter.Seq2[partd.KeyInfo, error] {
	return func(yield func(partd.KeyInfo, error) bool) {
		defer e.swapStores()()
		e.restartableStore.Keys(ctx)(yield)
	}
}

func (e *swappingStore) Sync(context.Context) error { e.swapStores()(); return nil }

func (e *swappingStore) Check(context.Context) (partd.CheckResult, error) {
	e.swapStores()()
	return partd.CheckResult{}, nil
}

// TestTwoShardsDisagree checks that if two shards disagree, neither is used, because either could be wrong.
func TestTwoShardsDisagree(t *testing.T) {
	first, second := dicts(2), dicts(2)
	fill(t, shardsOver(t, abc[:2], first), 10)
	fill(t, shardsOver(t, abc[:2], second), 10)
	if got, err := scan(shardsOver(t, abc[:2], []partd.Partd{first[0], second[1]}), 0, 1); !errors.Is(err, ErrStoreMismatch) {
		t.Errorf("scan = %v, %v, want ErrStoreMismatch", got, err)
	}
}

// TestAdopt checks that Adopt accepts an empty store, and that the original store is rejected after that.
func TestAdopt(t *testing.T) {
	t.Parallel()
	servers, stores := restartable(3)
	s := shardsOver(t, abc, stores)
	want := fill(t, s, 50)
	open := opener(stores)
	adopt := func(name string) error { return Adopt(t.Context(), abc, open, name) }
	must.Fail(t, adopt("b"), `it has keys, such as "key `, "Adopt of a store with keys")
	must.Fail(t, adopt("d"), "d is not one of a, b, c", "Adopt of an unknown shard")
	idle := shardsOver(t, abc, stores) // used before and after the adoption, but not during it
	must.Get(scan(idle, 0, 1))(t)
	originals := []fullStore{servers[0].fullStore, servers[1].fullStore}
	servers[0].useStore(partd.NewDict())
	servers[1].useStore(partd.NewDict())
	must.Do(t, adopt("a"))
	if _, err := scan(s, 0, 1); !errors.Is(err, ErrStoreMismatch) || strings.Contains(err.Error(), "shard a: ") {
		t.Errorf("scan after adopting one of two empty stores = %v, want ErrStoreMismatch of the other store", err)
	}
	for range 2 {
		must.Do(t, adopt("b"))
	}
	for key := range want {
		if name := s.shards[s.indexOf(key)].name; name != "c" {
			delete(want, key)
		}
	}
	for _, client := range []*Shards{s, shardsOver(t, abc, stores)} { // s was opened before the adoptions
		if got, err := scan(client, 0, 1); err != nil || !maps.Equal(got, want) || len(got) == 0 {
			t.Errorf("scan after both adoptions = %d keys, %v, want the %d keys of shard c", len(got), err, len(want))
		}
	}
	fill(t, s, 50)
	servers[1].useStore(originals[1])
	for _, client := range []*Shards{s, idle, shardsOver(t, abc, stores)} {
		if got, err := scan(client, 0, 1); !errors.Is(err, ErrStoreMismatch) || !strings.Contains(err.Error(), "shard b: ") {
			t.Errorf("scan with the original store = %d keys, %v, want ErrStoreMismatch of shard b", len(got), err)
		}
	}
	for i := range servers {
		servers[i].useStore(partd.NewDict())
	}
	must.Fail(t, adopt("b"), "all stores are empty", "Adopt with only empty stores")
	downErr := errors.New("no route to host")
	if err := Adopt(t.Context(), abc, func(ctx context.Context, name string) (partd.Partd, error) {
		if name == "c" {
			return nil, downErr
		}
		return open(ctx, name)
	}, "b"); !errors.Is(err, downErr) {
		t.Errorf("Adopt with an unreachable shard = %v, want %v", err, downErr)
	}
}

// TestEmptyStoreWithUnreachableShards checks that an empty store is not mistaken for a new one while
// the shards that have recorded the identifier of the original store are unreachable.
func TestEmptyStoreWithUnreachableShards(t *testing.T) {
	_, stores := restartable(3)
	fill(t, shardsOver(t, abc, stores), 30)
	downShard := &faultyStore{Dict: partd.NewDict()}
	cause := os.ErrDeadlineExceeded
	downShard.err.Store(&cause)
	s := shardsOver(t, abc, []partd.Partd{downShard, partd.NewDict(), downShard})
	if _, err := s.Get(t.Context(), keyOf(s, "b")); !errors.Is(err, cause) || !strings.Contains(err.Error(), "shard b: ") {
		t.Errorf("Get from the empty shard = %v, want %v of shard b", err, cause)
	}
}

// TestClientsStartingDuringDrop checks that new clients accept a shard whose list is missing during a Drop.
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
			must.Do(t, err)
			return
		default:
		}
		must.Get(scan(shardsOver(t, abc, stores), 0, 1))(t)
	}
}

func openShards(t *testing.T, stores []partd.Partd) *Shards {
	return must.Get(Open(t.Context(), abc, opener(stores)))(t)
}

// opener returns a function that opens the store of a shard.
func opener(stores []partd.Partd) func(context.Context, string) (partd.Partd, error) {
	return func(_ context.Context, name string) (partd.Partd, error) { return stores[slices.Index(abc, name)], nil }
}

// TestOpenSharesIdentifiers checks that an append exchanges missing identifiers after Open has read all lists.
func TestOpenSharesIdentifiers(t *testing.T) {
	_, stores := restartable(3)
	for i, sh := range shardsOver(t, abc, stores).shards {
		must.Do(t, partd.SetOnce(t.Context(), stores[i], listKey, []byte(sh.signature())))
	}
	s := openShards(t, stores)
	must.Do(t, s.Append(t.Context(), partd.Entry{Key: "k", Value: []byte("v")}))
	for i, sh := range s.shards {
		text := must.Get(readList(t.Context(), stores[i]))(t)
		if id, ok := sh.parseList(text); !ok || len(id.otherIDs) != 2 {
			t.Errorf("after an append, the list of %s is %q, want three identifiers", sh.name, text)
		}
	}
}
