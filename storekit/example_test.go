package storekit_test

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/storekit"
)

// mapStore keeps its values in a map.
type mapStore struct {
	mu     sync.Mutex
	values map[string][]byte
}

func (m *mapStore) Append(ctx context.Context, entries ...partd.Entry) error {
	if _, err := storekit.CheckEntries("append", entries); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := storekit.ContextError(ctx); err != nil {
		return &partd.Error{Op: "append", Err: err}
	}
	for _, e := range entries {
		if len(e.Value) > 0 {
			m.values[strings.Clone(e.Key)] = append(m.values[e.Key], e.Value...)
		}
	}
	return nil
}

func (m *mapStore) Get(ctx context.Context, keys ...string) ([][]byte, error) {
	if err := storekit.CheckKeys("get", keys); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := storekit.ContextError(ctx); err != nil {
		return nil, &partd.Error{Op: "get", Err: err}
	}
	values := make([][]byte, len(keys))
	for i, key := range keys {
		values[i] = append([]byte{}, m.values[key]...)
	}
	return values, nil
}

func (m *mapStore) Drop(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := storekit.ContextError(ctx); err != nil {
		return &partd.Error{Op: "drop", Err: err}
	}
	clear(m.values)
	return nil
}

// A store needs three methods. With the checks of storekit, it keeps the promises about limits and contexts.
func Example() {
	ctx := context.Background()
	store := &mapStore{values: map[string][]byte{}}
	fmt.Println(store.Append(ctx, partd.Entry{Key: "a", Value: []byte("1")}))
	fmt.Println(store.Append(ctx, partd.Entry{Key: strings.Repeat("k", 70_000)}))
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	fmt.Println(store.Drop(ctx))
	// Output:
	// <nil>
	// partd: append key "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"…"kkkkkkkkkkkkkkkkkkkk" (70000 bytes): too large: the key has 70000 bytes, the limit is 65535
	// partd: drop: context canceled
}
