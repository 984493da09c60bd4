package objstore

import (
	"context"
	"fmt"
	"io"
	"iter"
	"sync/atomic"
)

// Requests are how many requests of each kind were made.
type Requests struct{ Put, Get, List, Delete int64 }

// Prices are what requests cost, in dollars per thousand, and data, in dollars per GB
// (10^9 bytes) and month. Deleting is free.
type Prices struct{ Put, Get, List, StorageMonth float64 }

// S3Prices returns the list prices of S3 Standard in us-east-1.
func S3Prices() Prices { return Prices{Put: 0.005, Get: 0.0004, List: 0.005, StorageMonth: 0.023} }

// Dollars is what the requests cost.
func (r Requests) Dollars(p Prices) float64 {
	return (float64(r.Put)*p.Put + float64(r.Get)*p.Get + float64(r.List)*p.List) / 1000
}

func (r Requests) String() string {
	return fmt.Sprintf("%d PUT, %d GET, %d LIST, %d DELETE: $%.6f at S3's list prices", r.Put, r.Get, r.List, r.Delete, r.Dollars(S3Prices()))
}

// Counter is a bucket that counts the requests made of another.
type Counter struct {
	Bucket
	put, get, list, deletes atomic.Int64
}

// listPage is how many objects a request for a listing returns.
const listPage = 1000

// Count returns a bucket that counts.
func Count(b Bucket) *Counter { return &Counter{Bucket: b} }

func (c *Counter) String() string { return place(c.Bucket, "") }

// Requests returns how many there were.
func (c *Counter) Requests() Requests {
	return Requests{c.put.Load(), c.get.Load(), c.list.Load(), c.deletes.Load()}
}

// Create counts a PUT.
func (c *Counter) Create(ctx context.Context, name string, data []byte) error {
	c.put.Add(1)
	return c.Bucket.Create(ctx, name, data)
}

// ReadRange counts a GET.
func (c *Counter) ReadRange(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	c.get.Add(1)
	return c.Bucket.ReadRange(ctx, name, offset, length)
}

// List counts a LIST for each thousand objects.
func (c *Counter) List(ctx context.Context, prefix, after string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		c.list.Add(1)
		n := 0
		for o, err := range c.Bucket.List(ctx, prefix, after) {
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
	return c.Bucket.Delete(ctx, name)
}
