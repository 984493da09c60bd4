package metrics

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
)

func TestWriter(t *testing.T) {
	var h Histogram
	for _, d := range []time.Duration{0, 100 * time.Microsecond, 2 * time.Millisecond, time.Hour} {
		h.Observe(d)
	}
	var b strings.Builder
	w := NewWriter(&b)
	w.Single("a_total", Counter, "its \\ help\ntext", 3)
	w.Begin("b", Gauge, "several samples")
	w.Sample(-1.5, "of", "a \"b\"\\\n", "and", "c")
	w.Sample(1e20)
	w.Begin("h", Durations, "times")
	w.Histogram(&h, "op", "x")
	if err := w.Flush(); err != nil || h.Count() != 4 {
		t.Fatalf("Count = %d and Flush = %v, want 4 durations", h.Count(), err)
	}
	want := `# HELP a_total its \\ help\ntext
# TYPE a_total counter
a_total 3
# HELP b several samples
# TYPE b gauge
b{of="a \"b\"\\\n",and="c"} -1.5
b 1e+20
# HELP h times
# TYPE h histogram
h_bucket{op="x",le="0.0001"} 2
h_bucket{op="x",le="0.0003"} 2
h_bucket{op="x",le="0.001"} 2
h_bucket{op="x",le="0.003"} 3
`
	if got := b.String(); !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "h_bucket{op=\"x\",le=\"30\"} 3\nh_bucket{op=\"x\",le=\"+Inf\"} 4\nh_sum{op=\"x\"} 3600.0021\nh_count{op=\"x\"} 4\n") {
		t.Errorf("the metrics are\n%s\nwant, at the beginning\n%s", got, want)
	}
}

type brokenWriter struct{}

var errBroken = errors.New("it broke")

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

func TestBrokenWriter(t *testing.T) {
	w := NewWriter(brokenWriter{})
	w.Single("a", Gauge, "b", 1)
	must.Fail(t, w.Flush(), errBroken, "Flush")
}
