package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/objstore"
)

// flakyBucket fails the first request for each object, deletes slowly, and lists ten objects at a time.
type flakyBucket struct {
	objstore.Memory
	mu          sync.Mutex
	requests    map[string]bool
	refusedName string
}

var errBusy = errors.New("503 SlowDown")

func (b *flakyBucket) Delete(ctx context.Context, name string) error {
	if name == b.refusedName {
		return fmt.Errorf("403: %w", objstore.ErrRefused)
	}
	b.mu.Lock()
	isRetry := b.requests[name]
	b.requests[name] = true
	b.mu.Unlock()
	if !isRetry {
		return errBusy
	}
	time.Sleep(50 * time.Second)
	return b.Memory.Delete(ctx, name)
}

func (b *flakyBucket) List(ctx context.Context, prefix, after string) iter.Seq2[objstore.Object, error] {
	return func(yield func(objstore.Object, error) bool) {
		n := 0
		for o, err := range b.Memory.List(ctx, prefix, after) {
			if n++; n > 10 {
				yield(objstore.Object{}, errBusy)
				return
			}
			if !yield(o, err) {
				return
			}
		}
	}
}

// TestRemove checks that a temporary failure does not end the removal, but that a refused request does.
func TestRemove(t *testing.T) { synctest.Test(t, testRemove) }

func testRemove(t *testing.T) {
	for _, refuses := range []string{"", "object 25"} {
		b := &flakyBucket{requests: map[string]bool{}, refusedName: refuses}
		for i := range 55 {
			must.Do(t, b.Create(t.Context(), fmt.Sprint("object ", i), nil))
		}
		n, err := removeAll(t.Context(), b)
		remaining := 0
		for range b.Memory.List(t.Context(), "", "") {
			remaining++
		}
		if refuses == "" && (n != 55 || err != nil || remaining != 0) {
			t.Errorf("removeAll() = %d, %v, and %d objects remain; want 55 and none", n, err, remaining)
		}
		if refuses != "" && (!errors.Is(err, objstore.ErrRefused) || !strings.Contains(err.Error(), refuses) || remaining == 0) {
			t.Errorf("removeAll() error = %v, and %d objects remain; want %v, with the object's name", err, remaining, objstore.ErrRefused)
		}
	}
}

// TestRemoveRejectsFragments checks that a # in a URL is an error: it belongs to the prefix of a
// store, so removing only the part before it would delete other stores.
func TestRemoveRejectsFragments(t *testing.T) {
	for url, want := range map[string]string{"s3://bucket/run#1": "%23", "s3://bucket/#1": "whole bucket", "s3://bucket": "whole bucket"} {
		cmd := newRemove()
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		cmd.SetArgs([]string{"--store", url + "?endpoint=http://127.0.0.1:1"})
		must.Fail(t, cmd.ExecuteContext(t.Context()), want, "remove --store %s", url)
	}
}
