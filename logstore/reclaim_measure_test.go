package logstore

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestReclaimAfterSets sets keys repeatedly, which frees little space, and then deletes other keys.
// The space of the deleted keys must be freed, both after sets of one key, and after sets of so many
// keys that a measurement found few dead bytes.
func TestReclaimAfterSets(t *testing.T) {
	for _, keys := range []int{1, 5000} {
		t.Run(fmt.Sprint(keys), func(t *testing.T) {
			dir := t.TempDir()
			s := opener(t, dir, &Options{Memory: MinMemory, FileSize: 4 << 20}, hooks{fs: vfs.OS{}, reclaimSlack: 2 << 20})()
			for i := range 20 << 10 {
				mustAppend(t, s, fmt.Sprint(i%256), strings.Repeat("v", 1000))
			}
			must.Do(t, s.Flush(t.Context()))
			for i := range 20_000 {
				must.Do(t, s.Set(t.Context(), fmt.Sprint("key ", i%keys), fmt.Append(nil, i)))
			}
			settle(t, s)
			s.mu.Lock()
			if keys > 1 {
				if s.reclaim.deadShare > 1.0/4 {
					t.Errorf("after sets of %d keys, the expected share of dead bytes is %f, want at most 1/4", keys, s.reclaim.deadShare)
				}
				s.reclaim.nextTime = time.Now().Add(time.Hour) // prevent another measurement
			} else if s.reclaim.deadShare < 1 {
				t.Errorf("after sets of one key, the expected share of dead bytes is %f, want 1", s.reclaim.deadShare)
			}
			s.mu.Unlock()
			for i := range 256 {
				must.Do(t, s.Delete(t.Context(), fmt.Sprint(i)))
			}
			settle(t, s)
			if keys > 1 { // simulate that time has passed
				s.mu.Lock()
				s.reclaim.nextTime, s.reclaim.hasTimer = time.Now().Add(10*time.Millisecond), false
				s.background.startIfDue()
				s.mu.Unlock()
			}
			for i := 0; disk(t, dir, "seg-") > 5<<20; i++ {
				if time.Sleep(10 * time.Millisecond); i == 1000 {
					t.Fatalf("segments still use %d bytes after 10 seconds, want at most 5 MiB", disk(t, dir, "seg-"))
				}
			}
			settle(t, s)
			must.Do(t, s.Close())
		})
	}
}

// denseFS is a file system without sparse files.
type denseFS struct{ vfs.FS }

type denseFile struct{ vfs.File }

func (d denseFS) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := d.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return denseFile{f}, nil
}

func (f denseFile) Info() (vfs.Info, error) {
	info, err := f.File.Info()
	info.Disk = info.Size
	return info, err
}

// TestReclaimWithoutHoles checks that a blob file is copied only once on a file system without sparse files.
func TestReclaimWithoutHoles(t *testing.T) {
	copies := 0
	mem := vfstest.Inject(vfstest.NewMem(), func(op vfstest.Op, name string) error {
		if op == vfstest.OpRename && strings.Contains(name, blobTmpName) {
			copies++
		}
		return nil
	})
	h := reclaimHooks
	h.fs, h.reclaimSlack = denseFS{mem}, -1
	s := opener(t, "/s", &Options{Memory: MinMemory, FileSize: 64 << 10}, h)()
	value := strings.Repeat("v", 20_000)
	for i := range 21 {
		mustAppend(t, s, fmt.Sprint(i), value)
	}
	for i := range 20 {
		if i%4 < 3 { // keep the last value of each file
			must.Do(t, s.Delete(t.Context(), fmt.Sprint(i)))
		}
	}
	reclaimNow(t, s, 1<<10)
	first := copies
	for range 3 {
		reclaimNow(t, s, 1<<10)
	}
	wantValue(t, s, "3", value)
	if first == 0 || copies > first {
		t.Errorf("blob files were copied %d times at first and %d times later, want at least once and then never", first, copies-first)
	}
	must.Do(t, s.Close())
}

// TestReclaimAfterOpen checks that a store frees space that an earlier process made dead.
func TestReclaimAfterOpen(t *testing.T) {
	mem := vfstest.NewMem()
	h := reclaimHooks
	h.fs, h.reclaimSlack = mem, 1<<20 // too much for the store to reclaim the space by itself
	s := opener(t, "/s", reclaimOpts, h)()
	for i := range 100 {
		mustAppend(t, s, fmt.Sprint(i%10), strings.Repeat("v", 500))
	}
	must.Do(t, s.Delete(t.Context(), "0", "1", "2", "3", "4", "5", "6", "7", "8"))
	must.Do(t, s.Flush(t.Context()))
	settle(t, s)
	before := dataBytesOf(t, mem, s)
	must.Do(t, s.Close())
	h.reclaimSlack = reclaimHooks.reclaimSlack
	s = opener(t, "/s", reclaimOpts, h)()
	settle(t, s)
	if n := dataBytesOf(t, mem, s); n > before/2 {
		t.Errorf("after Open, data files use %d of %d bytes, want at most half", n, before)
	}
	must.Do(t, s.Close())
}

// TestReclaimAfterFullDisk deletes keys while a full disk prevents flushing. Their space must be freed later.
func TestReclaimAfterFullDisk(t *testing.T) {
	var full atomic.Bool
	mem := vfstest.NewMem()
	h := reclaimHooks
	h.reclaimSlack = -1
	h.fs = vfstest.Inject(mem, func(op vfstest.Op, name string) error {
		if full.Load() && op == vfstest.OpWrite && strings.Contains(name, "seg-") {
			return syscall.ENOSPC
		}
		return nil
	})
	s := opener(t, "/s", reclaimOpts, h)()
	for i := range 100 {
		mustAppend(t, s, fmt.Sprint(i%10), strings.Repeat("v", 500))
	}
	must.Do(t, s.Flush(t.Context()))
	full.Store(true)
	for i := range 10 {
		must.Do(t, s.Delete(t.Context(), fmt.Sprint(i)))
	}
	reclaimNow(t, s, 1<<10)
	full.Store(false)
	s.mu.Lock()
	s.reclaim.nextTime = time.Time{} // simulate that time has passed
	s.background.startIfDue()
	s.mu.Unlock()
	settle(t, s)
	if n := dataBytesOf(t, mem, s); n > 8<<10 {
		t.Errorf("data files still use %d bytes, want at most 8 KiB", n)
	}
	must.Do(t, s.Close())
}

// TestMeasureAfterDrop checks that a measurement without segments fails and keeps the expected share of dead bytes.
func TestMeasureAfterDrop(t *testing.T) {
	s := opener(t, "/s", nil, hooks{fs: vfstest.NewMem()})()
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // Drop cancels the context of a measurement
	if _, err := s.reclaimer.measureWaste(ctx, nil, 1<<40); err == nil || s.reclaim.deadShare < 1 {
		t.Errorf("measureWaste: error %v, want an error; the expected share of dead bytes is %g, want 1", err, s.reclaim.deadShare)
	}
}

// churn runs many short jobs on a store. Each job appends to its own keys and reads them, and a
// later job removes them. Some other keys remain.
type churn struct {
	t         *testing.T
	s         *Store
	dir       string
	memory    int64
	live      map[string]int64
	liveBytes int64
	allowance int64   // disk space allowed besides the live data and memory
	maxRatio  float64 // largest disk usage so far, relative to the bound
	log       []string
}

func (c *churn) append(key string, pieces, size int) {
	c.t.Helper()
	v := bytes.Repeat([]byte{byte(len(key)), byte(pieces)}, size/2)
	for pieces > 0 {
		var batch []partd.Entry
		for range min(pieces, 100) {
			batch = append(batch, partd.Entry{Key: key, Value: v})
		}
		must.Do(c.t, c.s.Append(c.t.Context(), batch...))
		pieces -= len(batch)
		c.live[key] += int64(len(batch) * len(v))
		c.liveBytes += int64(len(batch) * len(v))
	}
}

func (c *churn) remove(key string) {
	c.liveBytes -= c.live[key]
	delete(c.live, key)
}

// sample returns the disk space in use and checks it against the bound.
func (c *churn) sample() int64 {
	c.t.Helper()
	used := disk(c.t, c.dir, "")
	bound := 2*c.liveBytes + 2*c.memory + c.allowance
	c.maxRatio = max(c.maxRatio, float64(used)/float64(bound))
	if used > bound {
		c.t.Errorf("the store uses %d bytes of disk for %d live bytes, want at most %d", used, c.liveBytes, bound)
	}
	return used
}

// job appends 4 MB and removes the keys of an earlier job.
func (c *churn) job(n int) {
	c.t.Helper()
	jobKey := func(job, i int) string { return fmt.Sprintf("job %d, key %d", job, i) }
	for i := range 20 {
		c.append(jobKey(n, i), 150, 1000)
	}
	for i := range 4 {
		c.append(jobKey(n, 20+i), 1, 250_000)
	}
	if n%50 == 0 {
		c.append(fmt.Sprint("stays ", n%5), 1000, 1000)
		c.append(fmt.Sprint("stays ", n%5), 2, 200_000)
	}
	c.sample()
	for i := range 24 {
		v, err := c.s.Get(c.t.Context(), jobKey(n, i))
		if err != nil || int64(len(v[0])) != c.live[jobKey(n, i)] {
			c.t.Fatalf("Get(%s) = %d bytes, want %d; error %v", jobKey(n, i), len(v[0]), c.live[jobKey(n, i)], err)
		}
	}
	const lifetime = 3 // in jobs: job n removes the keys of job n-lifetime
	if n < lifetime {
		return
	}
	var keys []string
	for i := range 24 {
		keys = append(keys, jobKey(n-lifetime, i))
	}
	var err error
	if n%2 == 0 {
		err = c.s.Delete(c.t.Context(), keys...)
	} else {
		_, err = c.s.Pop(c.t.Context(), keys...)
	}
	must.Do(c.t, err)
	for _, k := range keys {
		c.remove(k)
	}
	c.sample()
}

// TestChurn checks that the disk space of many short jobs stays within bounds. PARTD_JOBS sets
// the number of jobs. If it is unset, there are 60 jobs, and less disk space is allowed.
func TestChurn(t *testing.T) {
	allowance := int64(256 << 20)
	jobs, err := strconv.Atoi(os.Getenv("PARTD_JOBS"))
	if err != nil {
		jobs, allowance = 60, allowance/2
	}
	opts := &Options{Memory: 8 << 20}
	c := &churn{t: t, dir: t.TempDir(), memory: opts.Memory, allowance: allowance, live: map[string]int64{}}
	c.s = opener(t, c.dir, opts, hooks{fs: vfs.OS{}})()
	start, appended := time.Now(), 0
	for n := range jobs {
		c.job(n)
		appended += 4
		if n%(jobs/10) == 0 {
			c.log = append(c.log, fmt.Sprintf("%d+%d", c.liveBytes>>20, c.sample()>>20))
		}
	}
	took := time.Since(start)
	settle(t, c.s)
	t.Logf("%d jobs, %d MB, %.1f s; live data + disk usage in MiB: %s; final disk usage %d; peak %.2f of the bound",
		jobs, appended, took.Seconds(), strings.Join(c.log, " "), c.sample()>>20, c.maxRatio)
	for k, want := range c.live {
		v, err := c.s.Get(t.Context(), k)
		if err != nil || int64(len(v[0])) != want {
			t.Errorf("Get(%s) = %d bytes, want %d; error %v", k, len(v[0]), want, err)
		}
	}
	if readable, err := c.s.verify(t.Context()); err != nil || readable.Bytes < c.liveBytes {
		t.Errorf("Verify counts %d bytes, want at least %d; error %v", readable.Bytes, c.liveBytes, err)
	}
	must.Do(t, c.s.Close())
	if used := disk(t, c.dir, ""); used > 2*c.liveBytes+c.s.reclaim.slack*2 {
		t.Errorf("the closed store uses %d bytes of disk for %d live bytes, want about twice as many", used, c.liveBytes)
	}
}

// TestReclaimReturnsFreedBytes checks that Reclaim returns the number of bytes that it freed, or why it failed.
func TestReclaimReturnsFreedBytes(t *testing.T) {
	var failing atomic.Bool
	mem := vfstest.NewMem()
	h := reclaimHooks
	h.reclaimSlack = 1 << 20 // too much for the store to reclaim the space by itself
	h.fs = vfstest.Inject(mem, func(op vfstest.Op, _ string) error {
		if failing.Load() && op == vfstest.OpRead {
			return syscall.EIO
		}
		return nil
	})
	s := opener(t, "/s", reclaimOpts, h)()
	fill := func() {
		t.Helper()
		for i := range 100 {
			mustAppend(t, s, fmt.Sprint(i%10), strings.Repeat("v", 500))
			mustAppend(t, s, fmt.Sprint("large", i%10), string(largeValue))
		}
		for i := range 9 {
			must.Do(t, s.Delete(t.Context(), fmt.Sprint(i), fmt.Sprint("large", i)))
		}
		must.Do(t, s.Flush(t.Context()))
		settle(t, s)
		s.mu.Lock()
		s.reclaim.nextTime = time.Time{} // simulate that time has passed
		s.mu.Unlock()
	}
	fill()
	before := dataBytesOf(t, mem, s)
	freed, err := s.Reclaim(t.Context())
	after := dataBytesOf(t, mem, s)
	if d := before - after; err != nil || freed < d*4/5 || freed > d || after > before/2 { // d also has the rest of each block
		t.Errorf("Reclaim = %d, %v, but the files have %d bytes instead of %d", freed, err, after, before)
	}
	if freed, err := s.Reclaim(t.Context()); err != nil || freed != 0 {
		t.Errorf("Reclaim without dead data = %d, %v, want 0", freed, err)
	}
	fill()
	failing.Store(true)
	must.Fail(t, must.Err(s.Reclaim(t.Context())), syscall.EIO, "Reclaim of a disk that fails")
	failing.Store(false)
	must.Do(t, s.Close())
	must.Fail(t, must.Err(s.Reclaim(t.Context())), partd.ErrClosed, "Reclaim of a closed store")
}
