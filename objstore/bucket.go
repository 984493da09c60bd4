// Package objstore keeps a store in a bucket of an object store: S3, Google Cloud
// Storage or something compatible. Many processes can share it without a partd
// server. Package objstore/cloud has the clouds' buckets; [Memory] and [Directory]
// are here.
//
// Appends are buffered in memory and uploaded as segments that no reader sees yet. Flush,
// Sync and Close commit all of them at once, by creating the next object of a log, which
// must not exist yet. So the calls of Flush order the changes of several processes, and a
// process that dies loses only changes that no successful Flush covers. Every read flushes
// first, then reads the log to its end. docs/format.md in the repository describes the
// objects.
//
// Pop and Apply are not supported. Segments are never merged: values that Set or Delete
// replaced stay in the bucket until [Store.Drop].
package objstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd/objstore/internal/plan"
)

// Object describes an object in a listing.
type Object struct {
	Name     string
	Size     int64     // in bytes
	Modified time.Time // by the bucket's clock
}

// Bucket is the part of an object store that a store needs. Objects never
// change. Any number of goroutines and processes may use a bucket at the same
// time.
type Bucket interface {
	// Create creates a whole object in one atomic step. If the name is taken, its
	// error wraps io/fs.ErrExist. An error that wraps [ErrRefused] says that nothing
	// was created, and that a retry is useless. After any other error it is unknown
	// whether the object exists, and the store retries under the same name. So S3's
	// 409 ConditionalRequestConflict is neither of the two.
	Create(ctx context.Context, name string, data []byte) error
	// ReadRange returns length bytes of an object from an offset, or fewer if the
	// object ends earlier, or all the rest if length is negative. The error for a
	// missing object wraps io/fs.ErrNotExist.
	ReadRange(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error)
	// List yields the objects whose names begin with prefix and are greater than
	// after, ordered bytewise by name. It may lag behind.
	List(ctx context.Context, prefix, after string) iter.Seq2[Object, error]
	// Delete removes an object. A missing object is not an error.
	Delete(ctx context.Context, name string) error
}

// ErrRefused is wrapped by a bucket's error for a request that will never succeed,
// because a permission or the bucket itself is missing.
var ErrRefused = errors.New("the bucket refuses")

// place names an object for messages, with its bucket where that has a name.
func place(b Bucket, name string) string {
	if s, ok := b.(fmt.Stringer); ok {
		return s.String() + "/" + name
	}
	return name
}

// Requests counts requests by kind.
type Requests = plan.Requests

// Counter is a bucket that counts the requests to another one.
type Counter struct {
	Bucket
	put, get, list, deletes atomic.Int64
}

// listPage is how many objects a request for a listing returns.
const listPage = 1000

// Count returns a bucket that counts the requests to b.
func Count(b Bucket) *Counter { return &Counter{Bucket: b} }

func (c *Counter) String() string { return place(c.Bucket, "") }

// Requests returns the number of requests so far.
func (c *Counter) Requests() Requests {
	return Requests{Put: c.put.Load(), Get: c.get.Load(), List: c.list.Load(), Delete: c.deletes.Load()}
}

// Create counts a PUT.
func (c *Counter) Create(ctx context.Context, name string, data []byte) error {
	c.put.Add(1)
	return orNone(c.Bucket).Create(ctx, name, data)
}

// ReadRange counts a GET.
func (c *Counter) ReadRange(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	c.get.Add(1)
	return orNone(c.Bucket).ReadRange(ctx, name, offset, length)
}

// List counts a LIST for each thousand objects.
func (c *Counter) List(ctx context.Context, prefix, after string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		c.list.Add(1)
		n := 0
		for o, err := range orNone(c.Bucket).List(ctx, prefix, after) {
			if n++; n > listPage {
				c.list.Add(1)
				n = 1
			}
			if !yield(o, err) {
				return
			}
		}
	}
}

// Delete counts a DELETE.
func (c *Counter) Delete(ctx context.Context, name string) error {
	c.deletes.Add(1)
	return orNone(c.Bucket).Delete(ctx, name)
}
