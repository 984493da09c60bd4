package objstore

import (
	"context"
	"io"
	"iter"
	"sync/atomic"

	"github.com/go-partd/partd/objstore/internal/plan"
)

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
