package objstore

import (
	"os"
	"testing"
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

// The plan of a job that can be run is what running it takes.
func TestPlanIsWhatHappens(t *testing.T) {
	j := Job{Writers: 1, Readers: 1, Bytes: 16 << 20, EntryBytes: 1000, Options: Options{Memory: MinMemory, SegmentSize: 1 << 20}}
	p, err := j.Plan()
	if err != nil {
		t.Fatal(err)
	}
	c := Count(new(Memory))
	s := open(t, c, j.Options)
	appendAll(t, s, 16<<20/1010, 980)
	if n := count(t, s); n != 16<<20/1010 {
		t.Error(n)
	}
	got := c.Requests()
	near := func(what string, got, want int64) {
		t.Helper()
		if got > want*3/2+4 || want > got*3/2+4 {
			t.Errorf("%s: %d, planned were %d", what, got, want)
		}
	}
	near("PUT", got.Put, p.Requests.Put)
	near("GET", got.Get, p.Requests.Get)
	t.Logf("%v, planned were %v", got, p.Requests)
}
