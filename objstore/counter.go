package objstore

import (
	"context"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync/atomic"
)

// Counter is a bucket that counts requests and passes them to another bucket.
type Counter struct {
	Bucket
	put, get, list, deletes atomic.Int64
}

const listPage = 1000

// NewCounter returns a bucket that counts the requests to b.
func NewCounter(b Bucket) *Counter { return &Counter{Bucket: b} }

func (c *Counter) String() string { return strings.TrimSuffix(objectPath(c.Bucket, ""), "/") }

// Requests returns the number of requests so far.
func (c *Counter) Requests() Requests {
	return Requests{Put: c.put.Load(), Get: c.get.Load(), List: c.list.Load(), Delete: c.deletes.Load()}
}

// Create counts a PUT.
func (c *Counter) Create(ctx context.Context, name string, data []byte) error {
	c.put.Add(1)
	return nonNil(c.Bucket).Create(ctx, name, data)
}

// ReadRange counts a GET.
func (c *Counter) ReadRange(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	c.get.Add(1)
	return nonNil(c.Bucket).ReadRange(ctx, name, offset, length)
}

// List counts a LIST for each thousand objects.
func (c *Counter) List(ctx context.Context, prefix, after string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		c.list.Add(1)
		n := 0
		for o, err := range nonNil(c.Bucket).List(ctx, prefix, after) {
			n++
			if n > listPage {
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
	return nonNil(c.Bucket).Delete(ctx, name)
}

// Requests counts requests by kind.
type Requests struct{ Put, Get, List, Delete int64 }

// List prices of S3 Standard in us-east-1, in dollars: per request, and per GB (10^9
// bytes) and month. Deleting is free.
const (
	s3Put          = 0.005 / 1000
	s3Get          = 0.0004 / 1000
	s3List         = 0.005 / 1000
	s3StorageMonth = 0.023
)

func (r Requests) dollars() float64 {
	return float64(r.Put)*s3Put + float64(r.Get)*s3Get + float64(r.List)*s3List
}

func (r Requests) String() string {
	return fmt.Sprintf("%d PUT, %d GET, %d LIST, %d DELETE: $%.6f at S3's list prices",
		r.Put, r.Get, r.List, r.Delete, r.dollars())
}
