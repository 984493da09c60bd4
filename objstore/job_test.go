package objstore

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestPlanMatchesRequests checks that jobs make the planned numbers of requests, with a tolerance of a tenth, or of one
// pass of each reader over the segments.
func TestPlanMatchesRequests(t *testing.T) {
	for _, c := range []struct {
		writers, readers int
		mib, entry       int64
		disk             int64
	}{
		{1, 1, 16, 1000, 0},
		{2, 3, 48, 1000, 0},
		{4, 8, 96, 200, 0},
		{1, 1, 16, 1000, 1 << 30},
		{2, 3, 48, 1000, 1 << 30},
		{4, 8, 96, 200, 1 << 30},
	} {
		o := Options{Memory: MinMemory, Disk: c.disk, DiskDir: t.TempDir()}
		j := Job{Writers: c.writers, Readers: c.readers, Bytes: c.mib << 20, EntryBytes: c.entry, Options: o}
		p := must.Get(j.Plan())(t)
		counter := NewCounter(new(Memory))
		keys := runJob(t, j, func() partd.Partd { return open(t, counter, o) })
		if want := int(j.Bytes / c.entry / int64(c.writers)); keys != want {
			t.Errorf("the readers saw %d keys, want %d", keys, want)
		}
		got := counter.Requests()
		slack := int64(2)
		if c.disk == 0 {
			slack += p.Segments * int64(c.readers) // one pass
		}
		wantNear := func(kind string, got, want int64) {
			if 10*(got-slack) > 11*want || 10*(want-slack) > 11*got {
				t.Errorf("%+v: %d %s requests, planned %d", c, got, kind, want)
			}
		}
		wantNear("PUT", got.Put, p.Requests.Put)
		wantNear("GET", got.Get, p.Requests.Get)
		t.Logf("%+v: %d segments, %d passes, %d bytes of disk: %v; planned %v", c, p.Segments, p.Passes, p.DiskBytes, got, p.Requests)
	}
}

// TestPlanRefuses checks that Plan returns an error if readers would exceed the disk limit.
func TestPlanRefuses(t *testing.T) {
	j := Job{Writers: 100, Readers: 100, Bytes: 1e12, EntryBytes: 100, Options: Options{Memory: 1 << 30, Disk: 1 << 30}}
	if p, err := j.Plan(); err == nil || !strings.Contains(err.Error(), "disk=0") {
		t.Errorf("Plan() = %+v, %v; want an error that recommends disk=0", p, err)
	}
	j.Options.Disk = 20 << 30
	if p, err := j.Plan(); err != nil || p.DiskBytes < 1e10 || p.DiskBytes > 11e9 {
		t.Errorf("Plan() = %+v, %v; want 10 to 11 GB of disk", p, err)
	}
}

// TestCostOfLargeJob plans a shuffle of 10 TB from 1,000 writers to 1,000 readers with a disk. Its
// requests must cost at most 15 dollars if each process has 4 GiB of memory, and 30 dollars with
// 1 GiB. A tenth of the data must cost about a tenth.
func TestCostOfLargeJob(t *testing.T) {
	dollars := func(bytes, memory int64) float64 {
		j := Job{Writers: 1000, Readers: 1000, Bytes: bytes, EntryBytes: 100, Options: Options{Memory: memory, SegmentSize: memory, Disk: 100e9}}
		p := must.Get(j.Plan())(t)
		return p.RequestDollars
	}
	for memory, limit := range map[int64]float64{4 << 30: 15, 1 << 30: 30} {
		total, tenth := dollars(1e13, memory), dollars(1e12, memory)
		if total > limit || total > 11*tenth {
			t.Errorf("with %d GiB, the job costs %.2f dollars, want at most %.2f; a tenth of the data costs %.2f", memory>>30, total, limit, tenth)
		}
	}
}

// runJob runs a job's stores one after another, and returns the number of keys that the readers saw.
func runJob(t testing.TB, j Job, open func() partd.Partd) (keys int) {
	t.Helper()
	value := make([]byte, j.EntryBytes-3-10) // the rest of the entry is its head and key
	for range j.Writers {
		s := open()
		for i := range j.Bytes / j.EntryBytes / int64(j.Writers) {
			must.Do(t, s.Append(t.Context(), partd.Entry{Key: fmt.Sprintf("%010d", i), Value: value}))
		}
		must.Do(t, errors.Join(partd.Flush(t.Context(), s), partd.Close(t.Context(), s)))
	}
	for i := range j.Readers {
		s := open()
		for c, err := range partd.ScanPart(t.Context(), s, i, j.Readers) {
			must.Do(t, err)
			if c.Last {
				keys++
			}
		}
		must.Do(t, partd.Close(t.Context(), s))
	}
	return keys
}
