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

	"github.com/go-partd/partd/objstore"
)

// busy is a bucket that fails the first request for each object, is slow to delete, and
// lists at most ten objects at a time.
type busy struct {
	objstore.Memory
	mu      sync.Mutex
	asked   map[string]bool
	refuses string
}

var errBusy = errors.New("503 SlowDown")

func (b *busy) Delete(ctx context.Context, name string) error {
	if name == b.refuses {
		return fmt.Errorf("403: %w", objstore.ErrRefused)
	}
	b.mu.Lock()
	asked := b.asked[name]
	b.asked[name] = true
	b.mu.Unlock()
	if !asked {
		return errBusy
	}
	time.Sleep(50 * time.Second)
	return b.Memory.Delete(ctx, name)
}

func (b *busy) List(ctx context.Context, prefix, after string) iter.Seq2[objstore.Object, error] {
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

// A temporary failure must not end the removal, but a refused request must.
func TestRemove(t *testing.T) { synctest.Test(t, testRemove) }

func testRemove(t *testing.T) {
	for _, refuses := range []string{"", "object 25"} {
		b := &busy{asked: map[string]bool{}, refuses: refuses}
		for i := range 55 {
			if err := b.Create(t.Context(), fmt.Sprint("object ", i), nil); err != nil {
				t.Fatal(err)
			}
		}
		n, err := removeAll(t.Context(), b)
		remaining := 0
		for range b.Memory.List(t.Context(), "", "") {
			remaining++
		}
		if refuses == "" && (n != 55 || err != nil || remaining != 0) {
			t.Errorf("%d removed, %d are left, %v", n, remaining, err)
		}
		if refuses != "" && (!errors.Is(err, objstore.ErrRefused) || !strings.Contains(err.Error(), refuses) || remaining == 0) {
			t.Errorf("%d are left, %v", remaining, err)
		}
	}
}

// In a URL, # is part of the prefix, so the prefix before it must not be removed.
func TestRemoveTakesNoPrefixForAnother(t *testing.T) {
	for url, want := range map[string]string{"s3://bucket/run#1": "%23", "s3://bucket/#1": "whole bucket", "s3://bucket": "whole bucket"} {
		cmd := newRemove()
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		cmd.SetArgs([]string{"--store", url + "?endpoint=http://127.0.0.1:1"})
		if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", url, err)
		}
	}
}
