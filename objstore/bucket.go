// Package objstore implements a store in a bucket of an object store: S3, Google Cloud Storage
// or a compatible service. Many processes can share it without a partd server. Package
// objstore/cloud opens the clouds' buckets; this package has [Memory] and [Directory].
//
// Appends are buffered in memory and uploaded as segments that readers do not see yet. Flush,
// Sync and Close commit all of them at once, by creating the next object of a log. The creation
// fails if the object already exists. Flushes therefore order the changes of all processes, and a
// process that dies loses only the changes since its last successful Flush. Every read flushes
// first, then reads the log to its end. docs/dev/format.md in the repository describes the objects.
//
// Pop and Apply are not supported. Segments are never merged: values that a Set or Delete
// discarded stay in the bucket until [Store.Drop].
//
// docs/dev/invariants.md in the repository lists what must hold (O1 to O11).
package objstore

import (
	"bytes"
	"context"
	"errors"
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

// Object describes an object of a bucket.
type Object struct {
	Name     string
	Size     int64     // in bytes
	Modified time.Time // according to the bucket's clock
}

// Bucket is the interface of an object store. Objects never change. A Bucket must be safe for
// concurrent use, and several processes may use the same objects.
type Bucket interface {
	// Create creates an object in one atomic step. If the name exists, the error wraps
	// io/fs.ErrExist. If nothing was created and retrying is useless, the error must wrap
	// [ErrRefused]. After any other error, such as S3's 409 ConditionalRequestConflict, it is
	// unknown whether the object exists, and the store retries with the same name.
	Create(ctx context.Context, name string, data []byte) error
	// ReadRange returns length bytes of an object from offset, or fewer if the object ends
	// earlier. If length is negative, it returns all bytes to the object's end. The error for
	// a missing object wraps io/fs.ErrNotExist.
	ReadRange(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error)
	// List yields the objects whose names begin with prefix and are greater than after, in
	// bytewise order of the names. It may miss recent changes.
	List(ctx context.Context, prefix, after string) iter.Seq2[Object, error]
	// Delete removes an object. A missing object is not an error.
	Delete(ctx context.Context, name string) error
}

// ErrRefused is wrapped by a bucket's error for a request that can never succeed, because
// the bucket or a permission is missing.
var ErrRefused = errors.New("the bucket refuses the request")

// objectPath returns the path of an object for messages. The path includes the bucket's name if b is
// a fmt.Stringer.
func objectPath(b Bucket, name string) string {
	if s, ok := b.(fmt.Stringer); ok {
		return s.String() + "/" + name
	}
	return name
}

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
