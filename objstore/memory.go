package objstore

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-partd/partd/internal/base/canceled"
)

// Memory is a bucket in memory, for tests and temporary stores. The zero value is ready to use.
type Memory struct {
	mu      sync.Mutex
	objects map[string]memoryObject
}

type memoryObject struct {
	data     []byte
	modified time.Time
}

var _ Bucket = (*Memory)(nil)

// Create creates an object; see [Bucket].
func (m *Memory) Create(ctx context.Context, name string, data []byte) error {
	if err := canceled.Err(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, exists := m.objects[name]; exists {
		return fmt.Errorf("object %s: %w", name, fs.ErrExist)
	}
	if m.objects == nil {
		m.objects = map[string]memoryObject{}
	}
	m.objects[name] = memoryObject{bytes.Clone(data), time.Now()}
	return nil
}

// ReadRange reads a part of an object; see [Bucket].
func (m *Memory) ReadRange(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if err := canceled.Err(ctx); err != nil {
		return nil, err
	}
	m.mu.Lock()
	o, exists := m.objects[name]
	m.mu.Unlock()
	if !exists {
		return nil, fmt.Errorf("object %s: %w", name, fs.ErrNotExist)
	}
	b := o.data[min(offset, int64(len(o.data))):]
	if length >= 0 {
		b = b[:min(length, int64(len(b)))]
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

// List lists objects; see [Bucket].
func (m *Memory) List(ctx context.Context, prefix, after string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		m.mu.Lock()
		objects := maps.Clone(m.objects)
		m.mu.Unlock()
		for _, name := range slices.Sorted(maps.Keys(objects)) {
			if !strings.HasPrefix(name, prefix) || name <= after {
				continue
			}
			o := objects[name]
			if err := canceled.Err(ctx); err != nil {
				yield(Object{}, err)
				return
			}
			if !yield(Object{Name: name, Size: int64(len(o.data)), Modified: o.modified}, nil) {
				return
			}
		}
	}
}

// Delete removes an object; see [Bucket].
func (m *Memory) Delete(ctx context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, name)
	return canceled.Err(ctx)
}
