package program

import (
	"bytes"
	"cmp"
	"errors"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestProcessTreeMemory checks that the measured memory includes all processes of a pipeline, but not the test process.
func TestProcessTreeMemory(t *testing.T) {
	pages := bytes.Repeat([]byte{1}, 300<<20)
	u := must.Get(RunMeasured(t.Context(), time.Minute, 0,
		exec.Command("sh", "-c", `head -c 50000000 /dev/zero | tail -c 49000000 | tail -c1 >/dev/null; sleep 0.3`)))(t)
	if u.Memory < 20<<20 || u.Memory > 250<<20 {
		t.Errorf("the measured memory of a tail of 49 MB is %d bytes, want 20 MiB to 250 MiB", u.Memory)
	}
	peak := slices.MaxFunc(u.Trace, func(a, b [2]float64) int { return cmp.Compare(a[1], b[1]) })
	sorted := slices.IsSortedFunc(u.Trace, func(a, b [2]float64) int { return cmp.Compare(a[0], b[0]) })
	if len(u.Trace) < 2 || !sorted || peak[1] < 1<<20 || peak[1] > 250<<20 {
		t.Errorf("the trace has %d samples, sorted %v, with the peak %v; want several sorted samples with a peak of 1 MiB to 250 MiB", len(u.Trace), sorted, peak)
	}
	if pages[1] != 1 || u.CPU <= 0 {
		t.Errorf("measured %v CPU seconds, want more than 0", u.CPU)
	}
}

func TestTimeout(t *testing.T) {
	if _, err := RunMeasured(t.Context(), 50*time.Millisecond, 0, exec.Command("sh", "-c", "sleep 20 | cat")); !errors.Is(err, ErrTimeout) {
		t.Fatalf("RunMeasured() error = %v, want %v", err, ErrTimeout)
	}
}

func TestTooMuchMemory(t *testing.T) {
	_, err := RunMeasured(t.Context(), time.Minute, 30<<20, exec.Command("sh", "-c", "head -c 90000000 /dev/zero | tail -c 80000000 | sleep 50"))
	must.Fail(t, err, ErrMemory, "RunMeasured()")
}
