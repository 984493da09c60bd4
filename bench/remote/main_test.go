package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/bench/internal/program"
	"github.com/go-partd/partd/internal/server/metrics"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/remote"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

func TestMain(m *testing.M) {
	program.ServeIfChild()
	readIfChild()
	os.Exit(m.Run())
}

// TestLoads runs each load with little data. The loads check the values on the server.
func TestLoads(t *testing.T) {
	for name, load := range map[string]func(context.Context, string) (float64, error){
		"Go clients":  func(ctx context.Context, url string) (float64, error) { return appendSmall(ctx, url, 2, 2, 8) },
		"raw clients": func(ctx context.Context, url string) (float64, error) { return appendRaw(ctx, url, 2, 4) },
	} {
		if rate, err := withServer(t.Context(), "mem:", load); err != nil || rate <= 0 {
			t.Errorf("%s: rate = %v MB/s, error %v; want a positive rate", name, rate, err)
		}
	}
	_, err := withPythonServer(t.Context(), func(ctx context.Context, url string) (float64, error) { return appendRaw(ctx, url, 2, 4) })
	if errors.Is(err, program.ErrNoPython) && os.Getenv("PARTD_REQUIRE_ALL") == "" {
		t.Skip(err)
	}
	must.Check(t, err)
}

// TestReaders checks that the readers read the expected number of bytes, with little data.
func TestReaders(t *testing.T) {
	for _, store := range []string{"log:", "file:", "mem:"} {
		if err := measureReaders(t.Context(), "readers, "+store, store, 16, 1); err != nil {
			t.Errorf("measureReaders() with the store %s: %v", store, err)
		}
	}
}

// TestJob checks that the readers of a small job read the bytes that its tasks have appended.
func TestJob(t *testing.T) {
	must.Do(t, measureJob(t.Context(), "job", 3, 1e6, 1))
}

// TestMetrics checks that Prometheus's parser accepts the server's metrics, and that they count the operations of
// this test.
func TestMetrics(t *testing.T) {
	program := t.TempDir() + "/partd-server"
	if out, err := exec.Command("go", "build", "-o", program, "github.com/go-partd/partd/cmd/partd-server").CombinedOutput(); err != nil {
		t.Fatalf("building partd-server: %v\n%s", err, out)
	}
	cmd := exec.Command(program, "--listen", "tcp://127.0.0.1:0", "--http", "127.0.0.1:0", "--max-bytes", "1GiB", "--store", "log:"+t.TempDir())
	p := must.Get(procs.StartServer(t.Context(), cmd, 1))(t)
	t.Cleanup(p.Kill)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := must.Get(remote.Dial(ctx, p.URL(), nil))(t)
	defer func() { _ = c.Close() }()
	for range 5 {
		must.Do(t, c.Append(ctx, partd.Entry{Key: "k", Value: make([]byte, 1000)}))
	}
	address := regexp.MustCompile(`address=(http://\S+)`).FindStringSubmatch(p.Stderr())
	if address == nil {
		t.Fatalf("the log does not contain the address of the HTTP server: %s", p.Stderr())
	}
	var text []byte
	counted := regexp.MustCompile(`_count\{[^}]*"append"[^}]*\} 5\n`)
	for end := time.Now().Add(30 * time.Second); !counted.Match(text) && time.Now().Before(end); { // counts may follow the replies
		r, err := http.Get(address[1] + "/metrics")
		must.Do(t, err)
		text, err = io.ReadAll(r.Body)
		if err = errors.Join(err, r.Body.Close()); err != nil || r.Header.Get("Content-Type") != metrics.ContentType {
			t.Fatalf("reading /metrics: error %v, headers %v, want the content type %s", err, r.Header, metrics.ContentType)
		}
	}
	families, err := new(expfmt.TextParser).TextToMetricFamilies(strings.NewReader(string(text)))
	if err != nil {
		t.Fatalf("parsing the metrics: %v:\n%s", err, text)
	}
	if typeLines := strings.Count(string(text), "# TYPE "); len(families) < 35 || len(families) != typeLines {
		t.Errorf("parsed %d metrics, but the text has %d TYPE lines; want the same number, at least 35", len(families), typeLines)
	}
	series := 0
	for name, f := range families {
		series += len(f.Metric)
		if f.GetHelp() == "" || !strings.HasPrefix(name, "partd_") || (f.GetType() == dto.MetricType_COUNTER) != strings.HasSuffix(name, "_total") {
			t.Errorf("metric %s has type %s and help %q; want a help text, the prefix partd_, and the suffix _total only for counters", name, f.GetType(), f.GetHelp())
		}
		for _, m := range f.Metric {
			if f.GetType() != dto.MetricType_HISTOGRAM {
				continue
			}
			labels := fmt.Sprint(m.Label)
			h, last := m.GetHistogram(), uint64(0)
			for _, b := range h.Bucket {
				if b.GetCumulativeCount() < last {
					t.Errorf("%s%s: a bucket's cumulative count is below that of the previous bucket", name, labels)
				}
				last = b.GetCumulativeCount()
			}
			if last != h.GetSampleCount() || h.GetSampleSum() <= 0 {
				t.Errorf("%s%s: the last bucket counts %d of %d samples, with the sum %v; want all samples and a positive sum", name, labels, last, h.GetSampleCount(), h.GetSampleSum())
			}
			if strings.Contains(labels, `"append"`) && h.GetSampleCount() != 5 {
				t.Errorf("the histogram counts %d appends, want 5", h.GetSampleCount())
			}
		}
	}
	if series > 100 {
		t.Errorf("after one client's appends, there are %d series, want at most 100", series)
	}
	must.Do(t, p.Stop(30*time.Second))
}
