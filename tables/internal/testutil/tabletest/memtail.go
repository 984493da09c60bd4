package tabletest

import (
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/go-partd/partd"
)

// MemTail is a store for the tail (rows not yet in data files) in memory. It simulates a store on disk whose operations
// are durable when they return.
type MemTail struct {
	mu     sync.Mutex
	Values map[string][]byte
	Around func() // called before and after each change
}

func (m *MemTail) change(f func()) {
	m.Around()
	m.mu.Lock()
	f()
	m.mu.Unlock()
	m.Around()
}

func (m *MemTail) Append(_ context.Context, entries ...partd.Entry) error {
	m.change(func() {
		for _, e := range entries {
			m.Values[e.Key] = append(slices.Clip(m.Values[e.Key]), e.Value...)
		}
	})
	return nil
}

func (m *MemTail) Get(_ context.Context, keys ...string) ([][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	values := make([][]byte, len(keys))
	for i, k := range keys {
		values[i] = slices.Clone(m.Values[k])
	}
	return values, nil
}

func (m *MemTail) Drop(context.Context) error { m.change(func() { clear(m.Values) }); return nil }

func (m *MemTail) Delete(_ context.Context, keys ...string) error {
	m.change(func() {
		for _, k := range keys {
			delete(m.Values, k)
		}
	})
	return nil
}

func (m *MemTail) Keys(context.Context) iter.Seq2[partd.KeyInfo, error] {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := maps.Clone(m.Values)
	return func(yield func(partd.KeyInfo, error) bool) {
		for k, v := range all {
			if !yield(partd.KeyInfo{Key: k, Size: int64(len(v))}, nil) {
				return
			}
		}
	}
}

func (m *MemTail) Sync(context.Context) error { return nil }

func (m *MemTail) Clone() *MemTail {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &MemTail{Values: maps.Clone(m.Values), Around: func() {}}
}

var ErrShaky = errors.New("shaky")
