package objstore

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/go-partd/partd"
)

// docs/cloud-plan.md is what partd-cloud plan prints.
func TestPlanPageIsCurrent(t *testing.T) {
	const path = "../docs/cloud-plan.md"
	page := PlanPage()
	if os.Getenv("PARTD_WRITE_PLAN") != "" {
		if err := os.WriteFile(path, []byte(page), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != page {
		t.Errorf("%s is not what partd-cloud plan prints, PARTD_WRITE_PLAN=1 writes it (%v)", path, err)
	}
}

// The plans of jobs that can be run are what running them takes, within a tenth, or a pass.
func TestPlanIsWhatHappens(t *testing.T) {
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
		p, err := j.Plan()
		if err != nil {
			t.Fatal(err)
		}
		counter := Count(new(Memory))
		keys := runJob(t, j, func() partd.Partd { return open(t, counter, o) })
		if want := int(j.Bytes / c.entry / int64(c.writers)); keys != want {
			t.Errorf("%d keys, want %d", keys, want)
		}
		got := counter.Requests()
		slack := int64(2)
		if c.disk == 0 {
			slack += p.Segments * int64(c.readers) // a pass
		}
		near := func(what string, got, want int64) {
			if 10*(got-slack) > 11*want || 10*(want-slack) > 11*got {
				t.Errorf("%+v: %s: %d, planned were %d", c, what, got, want)
			}
		}
		near("PUT", got.Put, p.Requests.Put)
		near("GET", got.Get, p.Requests.Get)
		t.Logf("%+v: %d segments, %d passes, %d bytes of disk: %v; planned were %v", c, p.Segments, p.Passes, p.DiskBytes, got, p.Requests)
	}
}

// A plan refuses the disk that its readers would refuse.
func TestPlanRefuses(t *testing.T) {
	j := Job{Writers: 100, Readers: 100, Bytes: 1e12, EntryBytes: 100, Options: Options{Memory: 1 << 30, Disk: 1 << 30}}
	if p, err := j.Plan(); err == nil || !strings.Contains(err.Error(), "disk=0") {
		t.Error(p, err)
	}
	j.Options.Disk = 20 << 30
	if p, err := j.Plan(); err != nil || p.DiskBytes < 1e10 || p.DiskBytes > 11e9 {
		t.Error(p, err)
	}
}

// 10 TB from 1,000 writers to 1,000 readers take 15 dollars of requests where each has 4 GiB of
// memory and a disk, and 30 where each has 1 GiB; a tenth of the data takes about a tenth.
func TestDollars(t *testing.T) {
	dollars := func(bytes, memory int64) float64 {
		j := Job{Writers: 1000, Readers: 1000, Bytes: bytes, EntryBytes: 100, Options: Options{Memory: memory, SegmentSize: memory, Disk: 100e9}}
		p, err := j.Plan()
		if err != nil {
			t.Fatal(err)
		}
		return p.RequestDollars
	}
	for memory, most := range map[int64]float64{4 << 30: 15, 1 << 30: 30} {
		all, tenth := dollars(1e13, memory), dollars(1e12, memory)
		if all > most || all > 11*tenth {
			t.Errorf("%d GiB: %.2f dollars, a tenth of it %.2f", memory>>30, all, tenth)
		}
	}
}

// runJob runs a job by stores that open returns, one after the other, and returns how many
// keys the readers have seen.
func runJob(t testing.TB, j Job, open func() partd.Partd) (keys int) {
	t.Helper()
	value := make([]byte, j.EntryBytes-3-10) // beside its head and its key
	for range j.Writers {
		s := open()
		for i := range j.Bytes / j.EntryBytes / int64(j.Writers) {
			if err := s.Append(t.Context(), partd.Entry{Key: fmt.Sprintf("%010d", i), Value: value}); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(partd.Flush(t.Context(), s), partd.Close(t.Context(), s)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range j.Readers {
		s := open()
		for c, err := range partd.ScanPart(t.Context(), s, i, j.Readers) {
			if err != nil {
				t.Fatal(err)
			}
			if c.Last {
				keys++
			}
		}
		if err := partd.Close(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	return keys
}
