package logstore

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// makeWasteful creates a closed store in which three quarters of the data are dead. The data has small
// entries, large values and hot keys. makeWasteful returns the live content.
func makeWasteful(t *testing.T, fs vfs.FS, h hooks) map[string][]byte {
	t.Helper()
	h.fs, h.reclaimSlack = fs, -1
	s := opener(t, "/s", reclaimOpts, h)()
	want := map[string][]byte{}
	for i := range 200 {
		k, v := fmt.Sprint("key", i%9), bytes.Repeat(fmt.Appendf(nil, "%d ", i), 30)
		if i%5 == 0 {
			v = bytes.Repeat(v, 8)
		}
		mustAppend(t, s, k, string(v))
		if want[k] = append(want[k], v...); i%3 == 0 && i%9 != 0 {
			must.Do(t, s.Delete(t.Context(), k))
			delete(want, k)
		}
		if i%50 == 49 {
			for k := range want {
				if k != "key0" && k != "key8" {
					must.Get(s.Pop(t.Context(), k))(t)
					delete(want, k)
				}
			}
			must.Do(t, s.Set(t.Context(), "key8", v))
			want["key8"] = v
		}
	}
	must.Do(t, s.Close())
	return want
}

var reclaimOpts = &Options{Memory: MinMemory, FileSize: 16 << 10}

// reclaimNow reclaims space with the given slack, and waits for the end of all background work.
func reclaimNow(t *testing.T, s *Store, slack int64) {
	t.Helper()
	s.mu.Lock()
	s.reclaim.slack, s.reclaim.disabled = slack, false
	s.reclaim.mustMeasure, s.reclaim.failures = true, 0
	s.background.startIfDue()
	s.mu.Unlock()
	settle(t, s)
}

func dataBytesOf(t *testing.T, fs vfs.FS, s *Store) (n int64) {
	t.Helper()
	for _, name := range must.Get(s.listStoreFiles())(t) {
		if info, err := fs.Info("/s/" + name); err == nil && !strings.HasPrefix(name, "wal-") {
			n += info.Disk
		}
	}
	return n
}

// TestReclaimFault makes file system calls of reclaiming fail. No data may be lost, all files must
// be closed, and the next attempt must free the space.
func TestReclaimFault(t *testing.T) {
	const slack = 1 << 10
	h := reclaimHooks
	h.tableBytes, h.minMerge = 16<<10, -1
	start := vfstest.NewMem()
	want := makeWasteful(t, start, h)
	first, step := int64(0), vfstest.FaultStep(4)
	for _, errno := range []error{syscall.EIO, syscall.ENOSPC} {
		for _, persists := range []bool{false, true} {
			first = first%step + 1
			for call := first; ; call += step {
				mem := start.KillClone()
				fault := &vfstest.Fault{Call: call, Err: errno, Persists: persists, ShortWrite: call%2 == 0}
				var armed atomic.Bool
				fault.Match = func(vfstest.Op, string) bool { return armed.Load() }
				var removeFailed atomic.Bool // a file could not be removed, so the next open removes it
				h.fs, h.reclaimSlack = vfstest.Inject(mem, func(op vfstest.Op, name string) error {
					err := fault.Check(op, name)
					if err != nil && op == vfstest.OpRemove {
						removeFailed.Store(true)
					}
					return err
				}), -1
				reopen := opener(t, "/s", reclaimOpts, h)
				s := reopen()
				before := dataBytesOf(t, mem, s)
				armed.Store(true)
				reclaimNow(t, s, slack)
				armed.Store(false)
				desc := fmt.Sprintf("fault %v (persists %t) in call %d", errno, persists, call)
				check := func() {
					t.Helper()
					if got, err := contents(s); err != nil || !maps.EqualFunc(got, want, bytes.Equal) {
						t.Fatalf("%s: the store has wrong contents: %d keys, want %d; error %v", desc, len(got), len(want), err)
					}
					if _, err := s.verify(t.Context()); err != nil {
						t.Fatalf("%s: Verify: %v", desc, err)
					}
				}
				check()
				if s.checkPoisoned() != nil {
					if err := s.Close(); !errors.Is(err, partd.ErrNeedsReopen) {
						t.Fatalf("%s: Close: error %v, want ErrNeedsReopen", desc, err)
					}
					s = reopen()
					check()
				}
				reclaimNow(t, s, slack)
				after := dataBytesOf(t, mem, s)
				check()
				must.Do(t, s.Close())
				if n := mem.OpenCount(); n != 0 {
					t.Fatalf("%s: %d files are still open", desc, n)
				}
				s = reopen()
				check()
				if reopened := dataBytesOf(t, mem, s); reopened > before*2/3 || after > reopened+8<<10 && !removeFailed.Load() {
					t.Fatalf("%s: the data files had %d bytes before reclaiming, %d after it, and %d after reopening, want at most two thirds after reopening, and about as few before", desc, before, after, reopened)
				}
				must.Do(t, s.Close())
				if !fault.Hit() {
					t.Logf("fault %v (persists %t): %d calls, %d bytes before reclaiming, %d after", errno, persists, call, before, after)
					break
				}
			}
		}
	}
}

// littleRoom is a disk with an adjustable size. It records the peak of the bytes in use.
type littleRoom struct {
	vfs.FS
	t    *testing.T
	dir  string
	size atomic.Int64
	peak atomic.Int64 // maximum bytes in use
}

func (d *littleRoom) used() int64 {
	n := disk(d.t, d.dir, "")
	d.peak.Store(max(d.peak.Load(), n))
	return n
}

func (d *littleRoom) Free(string) (int64, error) { return d.size.Load() - d.used(), nil }

// TestReclaimLittleRoom checks that space is reclaimed in steps if there is less free space than live data.
func TestReclaimLittleRoom(t *testing.T) {
	d := &littleRoom{t: t, dir: t.TempDir()}
	d.size.Store(1 << 40)
	d.FS = vfstest.Inject(vfs.OS{}, func(op vfstest.Op, name string) error {
		if op == vfstest.OpSync { // measure at each sync of a new file, while the old files still exist
			d.used()
		}
		return nil
	})
	s := opener(t, d.dir, &Options{Memory: MinMemory, FileSize: 2 << 20}, hooks{fs: d, reclaimSlack: -1})()
	live := 0
	for n := range 400 {
		mustAppend(t, s, fmt.Sprint("dead", n%5), strings.Repeat("d", 15_000))
		mustAppend(t, s, fmt.Sprint("large", n%5), strings.Repeat("d", 60_000))
		for _, size := range []int{15_000, 20_000} {
			mustAppend(t, s, fmt.Sprint("live", n%5), strings.Repeat("l", size))
			live += size
		}
	}
	must.Do(t, s.Delete(t.Context(), "dead0", "dead1", "dead2", "dead3", "dead4", "large0", "large1", "large2", "large3", "large4"))
	must.Do(t, s.Flush(t.Context()))
	const room = 4 << 20
	d.peak.Store(0)
	before := d.used()
	d.size.Store(before + room)
	reclaimNow(t, s, 1<<20)
	after := d.used()
	t.Logf("%d live bytes; disk usage before %d, peak %d, after %d", live, before, d.peak.Load(), after)
	if d.peak.Load() > before+room || after > int64(live)*3/2+8<<20 {
		t.Errorf("with %d live bytes and %d free bytes: disk usage %d before, %d at its peak, %d after; want a peak within the free space, and less waste after", live, room, before, d.peak.Load(), after)
	}
	mustVerify(t, s)
	must.Do(t, s.Close())
}
