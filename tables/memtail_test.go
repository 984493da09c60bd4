package tables

import (
	"context"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/go-partd/partd"
)

// memTail is a store for the tail (rows not yet in data files) in memory. It simulates a store on disk whose operations are durable when they return.
type memTail struct {
	mu     sync.Mutex
	values map[string][]byte
	around func() // called before and after each change
}

func (m *memTail) change(f func()) {
	m.around()
	m.mu.Lock()
	f()
	m.mu.Unlock()
	m.around()
}

func (m *memTail) Append(_ context.Context, entries ...partd.Entry) error {
	m.change(func() {
		for _, e := range entries {
			m.values[e.Key] = append(slices.Clip(m.values[e.Key]), e.Value...)
		}
	})
	return nil
}

func (m *memTail) Get(_ context.Context, keys ...string) ([][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	values := make([][]byte, len(keys))
	for i, k := range keys {
		values[i] = slices.Clone(m.values[k])
	}
	return values, nil
}

func (m *memTail) Drop(context.Context) error { m.change(func() { clear(m.values) }); return nil }

func (m *memTail) Delete(_ context.Context, keys ...string) error {
	m.change(func() {
		for _, k := range keys {
			delete(m.values, k)
		}
	})
	return nil
}

func (m *memTail) Keys(context.Context) iter.Seq2[partd.KeyInfo, error] {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := maps.Clone(m.values)
	return func(yield func(partd.KeyInfo, error) bool) {
		for k, v := range all {
			if !yield(partd.KeyInfo{Key: k, Size: int64(len(v))}, nil) {
				return
			}
		}
	}
}

func (m *memTail) Sync(context.Context) error { return nil }

func (m *memTail) clone() *memTail {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &memTail{values: maps.Clone(m.values), around: func() {}}
}
