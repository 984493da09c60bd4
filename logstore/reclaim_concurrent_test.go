package logstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestReclaimDuringRead reclaims space while a reader is open. Closing the reader must free the space that it retained.
func TestReclaimDuringRead(t *testing.T) {
	for _, size := range []int{10_000, 100_000} { // small values are in segments, large ones in blob files
		dir := t.TempDir()
		s := opener(t, dir, &Options{Memory: MinMemory, FileSize: 1 << 20}, hooks{fs: vfs.OS{}, reclaimSlack: -1})()
		value := strings.Repeat("v", size)
		for i := range 20_000_000 / size {
			mustAppend(t, s, fmt.Sprint(i%10), value)
		}
		r := must.Get(s.Open(t.Context(), "3"))(t)
		must.Get(io.ReadFull(r, make([]byte, 10)))(t)
		for i := range 9 { // delete all keys except 9
			must.Do(t, s.Delete(t.Context(), fmt.Sprint(i)))
		}
		reclaimNow(t, s, 1<<18)
		sizeWithReader := disk(t, dir, "blob-")
		b, err := io.ReadAll(r)
		if err != nil || string(b) != strings.Repeat(value, 2_000_000/size)[10:] {
			t.Fatalf("the reader returned %d bytes, %v, want the rest of the value", len(b), err)
		}
		must.Do(t, r.Close())
		settle(t, s)
		if n := disk(t, dir, "seg-") + disk(t, dir, "blob-"); n > 7<<20 {
			t.Errorf("values of %d bytes: with an open reader, blob files used %d bytes; after it was closed, all data files use %d, want at most 7 MiB", size, sizeWithReader, n)
		}
		wantValue(t, s, "9", strings.Repeat(value, 2_000_000/size))
		mustVerify(t, s)
		must.Do(t, s.Close())
	}
}

// TestReclaimInterrupted checks that Drop and Close succeed and lose no data if they start during reclaiming.
func TestReclaimInterrupted(t *testing.T) {
	h := reclaimHooks
	h.tableBytes, h.minMerge = 16<<10, -1
	start := vfstest.NewMem()
	want := makeWasteful(t, start, h)
	for _, end := range []string{"drop", "close"} {
		for call := int64(1); ; call += 2 {
			mem := start.KillClone()
			var calls atomic.Int64
			var armed, ended atomic.Bool
			endCalls := make(chan func() error, 1)
			done := make(chan error, 1)
			h.reclaimSlack = -1
			h.fs = vfstest.Inject(mem, func(vfstest.Op, string) error {
				if armed.Load() && calls.Add(1) == call {
					ended.Store(true)
					go func() { done <- (<-endCalls)() }()
					select {
					case err := <-done:
						done <- err
					case <-time.After(2 * time.Millisecond):
					}
				}
				return nil
			})
			s := opener(t, "/s", reclaimOpts, h)()
			if end == "drop" {
				endCalls <- func() error { return s.Drop(context.Background()) }
			} else {
				endCalls <- s.Close
			}
			armed.Store(true)
			reclaimNow(t, s, 1<<10)
			armed.Store(false)
			if !ended.Load() {
				must.Do(t, s.Close())
				break
			}
			if err := <-done; err != nil {
				t.Fatalf("%[2]s at call %[1]d: %[3]v", call, end, err)
			}
			wanted := want
			if end == "drop" {
				wanted = map[string][]byte{"k": []byte("v")}
				if err := s.Append(t.Context(), partd.Entry{Key: "k", Value: []byte("v")}); err != nil {
					t.Fatalf("Append after a drop at call %d: %v", call, err)
				}
				waitMerged(t, s)
				must.Do(t, s.Close())
			}
			if n := mem.OpenCount(); n != 0 {
				t.Fatalf("%[2]s at call %[1]d: %[3]d files are still open", call, end, n)
			}
			h.fs = mem
			s = opener(t, "/s", reclaimOpts, h)()
			got, err := contents(s)
			if err != nil || !maps.EqualFunc(got, wanted, bytes.Equal) {
				t.Fatalf("%[2]s at call %[1]d: the reopened store has wrong contents: %[3]d keys, want %[4]d; error %[5]v", call, end, len(got), len(wanted), err)
			}
			_, err = s.verify(t.Context())
			if err := errors.Join(err, s.Close()); err != nil {
				t.Fatalf("%[2]s at call %[1]d: Verify or Close of the reopened store: %[3]v", call, end, err)
			}
		}
	}
}

// TestReclaimDuringAppend checks that reclaiming keeps a large value that is being written.
func TestReclaimDuringAppend(t *testing.T) {
	proceed, blocked := make(chan struct{}), make(chan struct{})
	var armed atomic.Bool
	h := reclaimHooks
	h.fs = vfstest.Inject(vfstest.NewMem(), func(op vfstest.Op, name string) error {
		if op == vfstest.OpWrite && strings.Contains(name, "blob-") && armed.CompareAndSwap(true, false) {
			close(blocked)
			<-proceed
		}
		return nil
	})
	h.reclaimSlack = -1
	s := opener(t, "/s", &Options{Memory: MinMemory, FileSize: 1 << 20}, h)()
	for i := range 20 {
		mustAppend(t, s, fmt.Sprint(i), strings.Repeat("dead", 5000))
		must.Do(t, s.Delete(t.Context(), fmt.Sprint(i)))
	}
	armed.Store(true)
	done := make(chan error, 1)
	value := strings.Repeat("slow", 5000)
	go func() { done <- s.Append(context.Background(), partd.Entry{Key: "slow", Value: []byte(value)}) }()
	<-blocked
	time.AfterFunc(30*time.Millisecond, func() { close(proceed) })
	reclaimNow(t, s, 1<<10)
	must.Do(t, <-done)
	wantValue(t, s, "slow", value)
	reclaimNow(t, s, 1<<10)
	wantValue(t, s, "slow", value)
	mustVerify(t, s)
	must.Do(t, s.Close())
}
