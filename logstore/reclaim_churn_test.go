package logstore

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
)

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
		if err := c.s.Append(c.t.Context(), batch...); err != nil {
			c.t.Fatal(err)
		}
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
	if err != nil {
		c.t.Fatal(err)
	}
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
