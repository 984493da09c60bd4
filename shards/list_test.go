package shards

import (
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
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestListMismatch checks that every operation of a client with another shard list fails with an error that contains
// both lists.
func TestListMismatch(t *testing.T) {
	stores := dicts(4)
	want := fill(t, shardsOver(t, abc, stores[:3]), 100)
	otherClients := map[string]*Shards{
		"fewer":             shardsOver(t, abc[:2], stores[:2]),
		"more":              shardsOver(t, append(abc, "d"), stores),
		"named differently": shardsOver(t, []string{"A", "b", "c"}, stores[:3]),
	}
	for name, client := range otherClients {
		key := ""
		for i := 0; name == "more" && client.shards[client.indexOf(key)].name != "d"; i++ {
			key = fmt.Sprint("of d ", i) // a key of shard d, whose store has no list yet
		}
		for op, try := range map[string]func() error{
			"append": func() error { return client.Append(t.Context(), partd.Entry{Key: key, Value: []byte("x")}) },
			"set":    func() error { return client.Set(t.Context(), key, []byte("x")) },
			"delete": func() error { return client.Delete(t.Context(), key) },
			"drop":   func() error { return client.Drop(t.Context()) },
			"get":    func() error { _, err := client.Get(t.Context(), "key 1", "key 2", "key 3", "key 4"); return err },
			"scan":   func() error { _, err := scan(client, 0, 1); return err },
			"stat":   func() error { _, err := client.Stat(t.Context()); return err },
		} {
			err := try()
			if !errors.Is(err, ErrListMismatch) || errors.Is(err, partd.ErrUnknownOutcome) || !strings.Contains(err.Error(), " of a, b, c, but ") {
				t.Errorf("%s with the list %q = %v, want ErrListMismatch with both lists", op, name, err)
			}
		}
	}
	if list, err := readList(t.Context(), stores[3]); err != nil || list != "" {
		t.Errorf("readList of the store without a list = %q, %v, want none", list, err)
	}
	if got, err := scan(shardsOver(t, []string{"c", "b", "a"}, []partd.Partd{stores[2], stores[1], stores[0]}), 0, 1); err != nil || !maps.Equal(got, want) {
		t.Errorf("scan with the list in another order = %d keys, %v, want %d", len(got), err, len(want))
	}
	// After Drop, the stores still have their list.
	must.Do(t, shardsOver(t, abc, stores[:3]).Drop(t.Context()))
	if err := shardsOver(t, abc[:2], stores[:2]).Append(t.Context(), partd.Entry{Key: "k", Value: []byte("x")}); !errors.Is(err, ErrListMismatch) {
		t.Errorf("Append with another list after Drop = %v, want ErrListMismatch", err)
	}
	if stats, err := shardsOver(t, abc, stores[:3]).Stat(t.Context()); err != nil || stats.Keys != 0 || stats.Bytes != 0 {
		t.Errorf("Stat after Drop = %+v, %v, want no keys", stats, err)
	}
}

// TestMistakenStores checks that a store used under two names, a store whose list has no identifier,
// and stores whose names are swapped are rejected. Otherwise keys would be read twice or not found.
func TestMistakenStores(t *testing.T) {
	ab := abc[:2]
	store := partd.NewDict()
	s := shardsOver(t, ab, []partd.Partd{store, store})
	if err := s.Append(t.Context(), partd.Entry{Key: keyOf(s, "a"), Value: []byte("x")}); !errors.Is(err, ErrListMismatch) || !strings.Contains(err.Error(), "it was used as shard a of a, b, but was now opened as shard b of a, b") {
		t.Errorf("Append to a store with two names = %v, want ErrListMismatch", err)
	}
	stores := dicts(2)
	must.Do(t, partd.SetOnce(t.Context(), stores[0], listKey, []byte(s.shards[0].list)))
	if err := shardsOver(t, ab, stores).Append(t.Context(), partd.Entry{Key: "k"}); !errors.Is(err, ErrListMismatch) || !strings.Contains(err.Error(), "its list is damaged") {
		t.Errorf("Append to a store whose list has no identifier = %v, want ErrListMismatch", err)
	}
	stores = dicts(2)
	fill(t, shardsOver(t, ab, stores), 10)
	if got, err := scan(shardsOver(t, ab, []partd.Partd{stores[1], stores[0]}), 0, 1); !errors.Is(err, ErrListMismatch) {
		t.Errorf("scan of swapped stores = %v, %v, want ErrListMismatch", got, err)
	}
}

func TestStoreWithKeysButNoList(t *testing.T) {
	stores := dicts(3)
	must.Do(t, stores[1].Append(t.Context(), partd.Entry{Key: "mine", Value: []byte("x")}))
	s := shardsOver(t, abc, stores)
	for i := range 20 { // appends must fail even for keys of other shards
		err := s.Append(t.Context(), partd.Entry{Key: fmt.Sprint(i), Value: []byte("x")})
		if !errors.Is(err, ErrListMismatch) || !strings.Contains(err.Error(), `shard b: `) || !strings.Contains(err.Error(), `"mine"`) {
			t.Fatalf("Append = %v, want ErrListMismatch of shard b with its key", err)
		}
	}
	must.Fail(t, must.Err(s.Stat(t.Context())), ErrListMismatch, "Stat")
	must.Do(t, stores[1].Drop(t.Context()))
	fill(t, s, 20)
}

// TestOpen checks that Open succeeds if some shards are unreachable, and opens them when they are needed.
func TestOpen(t *testing.T) {
	ctx := t.Context()
	stores := map[string]partd.Partd{"a": partd.NewDict(), "b": partd.NewDict(), "c": partd.NewDict()}
	var openErrors atomic.Pointer[map[string]error]
	open := func(_ context.Context, name string) (partd.Partd, error) {
		if err := (*openErrors.Load())[name]; err != nil {
			return nil, err
		}
		return stores[name], nil
	}
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	setErrors := func(errs map[string]error) { openErrors.Store(&errs) }
	setErrors(map[string]error{"a": refused, "b": refused, "c": refused})
	if _, err := Open(ctx, abc, open); !errors.Is(err, refused) || !strings.Contains(err.Error(), "shard c: ") {
		t.Errorf("Open with all shards unreachable = %v, want %v", err, refused)
	}
	setErrors(map[string]error{"a": refused, "b": os.ErrPermission})
	must.Fail(t, must.Err(Open(ctx, abc, open)), os.ErrPermission, "Open with a shard that denies access")
	stores["c"] = partd.NewDict() // the failed Open has closed c
	must.Do(t, shardsOver(t, abc, []partd.Partd{stores["a"], stores["b"], stores["c"]}).Drop(ctx))
	setErrors(map[string]error{"b": refused})
	s := must.Get(Open(ctx, abc, open))(t)
	must.Do(t, s.Append(ctx, partd.Entry{Key: keyOf(s, "a"), Value: []byte("x")}))
	if err := s.Append(ctx, partd.Entry{Key: keyOf(s, "b"), Value: []byte("x")}); !errors.Is(err, refused) || !strings.Contains(err.Error(), "shard b: ") {
		t.Errorf("Append to an unreachable shard = %v, want %v for shard b", err, refused)
	}
	must.Fail(t, must.Err(scan(s, 0, 1)), refused, "scan of all shards")
	if got, err := scan(s, 0, 3); err != nil || len(got) != 1 {
		t.Errorf("scan of the part on shard a = %v, %v, want 1 key", got, err)
	}
	setErrors(nil)
	must.Do(t, s.Append(ctx, partd.Entry{Key: keyOf(s, "b"), Value: []byte("x")}))
	if got, err := scan(s, 0, 1); err != nil || len(got) != 2 {
		t.Errorf("scan once all shards are reachable = %v, %v, want 2 keys", got, err)
	}
	must.Do(t, s.Close())
	must.Do(t, s.Close())
	for name, store := range stores {
		if err := store.Append(ctx, partd.Entry{Key: "k", Value: []byte("x")}); !errors.Is(err, partd.ErrClosed) {
			t.Errorf("Append to store %s after Close = %v, want ErrClosed", name, err)
		}
	}
}
