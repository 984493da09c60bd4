package pull_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/tables/pull"
)

// inMemory is a registry for nodes in the same process. It keeps all changes in order.
type inMemory struct {
	mu      sync.Mutex
	log     []pull.Entry
	changed chan struct{} // closed at the next change
}

func newInMemory() *inMemory { return &inMemory{changed: make(chan struct{})} }

// last returns the last change of a key. mu must be held.
func (m *inMemory) last(key string) (e pull.Entry) {
	for _, e := range slices.Backward(m.log) {
		if e.Key == key {
			return e
		}
	}
	return e
}

func (m *inMemory) Watch(ctx context.Context, f func(pull.Entry)) error {
	m.mu.Lock()
	var current []pull.Entry
	for _, e := range m.log {
		if m.last(e.Key).Revision == e.Revision && len(e.Value) > 0 {
			current = append(current, e)
		}
	}
	seen := len(m.log)
	m.mu.Unlock()
	for _, e := range append(current, pull.Entry{}) {
		f(e)
	}
	for {
		m.mu.Lock()
		changes, changed := m.log[seen:], m.changed
		m.mu.Unlock()
		for _, e := range changes {
			f(e)
		}
		seen += len(changes)
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// set appends a change if ok accepts the key's last one.
func (m *inMemory) set(key string, value []byte, ok func(last pull.Entry) bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !ok(m.last(key)) {
		return pull.ErrConflict
	}
	m.log = append(m.log, pull.Entry{Key: key, Value: value, Revision: uint64(len(m.log) + 1), Time: time.Now()})
	close(m.changed)
	m.changed = make(chan struct{})
	return nil
}

func (m *inMemory) Put(_ context.Context, key string, value []byte) error {
	return m.set(key, value, func(pull.Entry) bool { return true })
}

func (m *inMemory) Update(_ context.Context, key string, value []byte, revision uint64) error {
	return m.set(key, value, func(last pull.Entry) bool { return last.Revision == revision })
}

func (m *inMemory) Delete(_ context.Context, key string) error {
	return m.Put(context.Background(), key, nil)
}

// The nodes share a Registry in memory instead of NATS, and keep their files in a bucket.
func ExampleRegistry() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // examples keep error handling short
	ctx, registry, bucket := context.Background(), newInMemory(), new(objstore.Memory)
	open := func(name string) *pull.Node {
		n, err := pull.Open(ctx, filepath.Join(dir, name), &pull.Options{OwnRegistry: registry, Storage: bucket, Listen: "localhost:0"})
		if err != nil {
			panic(err)
		}
		return n
	}
	one, two := open("one"), open("two")
	defer one.Close() //nolint:errcheck // examples keep error handling short
	defer two.Close() //nolint:errcheck // examples keep error handling short
	schema := arrow.NewSchema([]arrow.Field{{Name: "day", Type: arrow.PrimitiveTypes.Date32}, {Name: "price", Type: arrow.PrimitiveTypes.Float64}}, nil)
	prices := array.NewJSONReader(strings.NewReader(`{"day": "2026-01-01", "price": 10} {"day": "2026-01-02", "price": 11}`), schema, array.WithChunk(-1))
	defer prices.Release()
	if _, err := one.Save(ctx, "prices", prices); err != nil {
		panic(err)
	}
	rows, err := two.Load(ctx, "prices", time.Time{}, time.Time{})
	if err != nil {
		panic(err)
	}
	defer rows.Release()
	for rows.Next() {
		fmt.Println(rows.RecordBatch().Column(1))
	}
	// Output: [10 11]
}
