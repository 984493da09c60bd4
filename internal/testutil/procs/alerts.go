package procs

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// ramps are gauges that keep changing while a state lasts.
var ramps = []string{"partd_tables_tail_oldest_seconds", "partd_disk_free_bytes", "partd_tables_disk_free_bytes"}

const minutes = 200 // how long the state lasts; longer than any rule waits

// CheckAlerts fails the test unless exactly the alerts in want fire while a server stays in a
// state. before and after are the server's metrics, scraped gap apart; counters keep growing at the
// rate between them. An empty after means that the server does not answer. rules is the path of the
// file with the rules. Without promtool, CheckAlerts skips the test, or fails it if
// PARTD_REQUIRE_ALL is set.
func CheckAlerts(t *testing.T, rules, job, before, after string, gap time.Duration, want ...string) {
	t.Helper()
	if _, err := exec.LookPath("promtool"); err != nil {
		Skip(t, "promtool is missing: install Debian's package prometheus")
	}
	rules, err := filepath.Abs(rules)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(rules)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "rule_files: [%q]\nevaluation_interval: 1m\ntests:\n- interval: 1m\n  input_series:\n", rules)
	series := func(name, values string) {
		name = strings.TrimSuffix(name, "}")
		if !strings.Contains(name, "{") {
			name += "{"
		} else {
			name += ","
		}
		fmt.Fprintf(&b, "  - {series: '%sjob=%q, instance=\"server:1\"}', values: '%s'}\n", name, job, values)
	}
	up := 0
	if after != "" {
		up = 1
	}
	series("up", fmt.Sprintf("%dx%d", up, minutes))
	old, _ := parse(before)
	current, types := parse(after)
	for name, value := range current {
		metric, _, _ := strings.Cut(name, "{")
		if !regexp.MustCompile(`\b` + metric + `\b`).Match(text) {
			continue
		}
		step := 0.0
		switch {
		case strings.HasSuffix(metric, "_free_bytes"): // from the old to the new value during the whole state
			step = (value - old[name]) / minutes
		case types[metric] == "counter" || slices.Contains(ramps, metric):
			step = (value - old[name]) / gap.Minutes()
		}
		start := value
		if step != 0 {
			start = old[name]
		}
		sign := "+"
		if step < 0 {
			sign = "-"
		}
		series(name, fmt.Sprintf("%f%s%fx%d", start, sign, max(step, -step), minutes))
	}
	slices.Sort(want)
	fmt.Fprintf(&b, "  promql_expr_test:\n  - expr: count by (alertname) (ALERTS{alertstate=\"firing\"})\n    eval_time: %dm\n    exp_samples:\n", minutes)
	for _, alert := range want {
		fmt.Fprintf(&b, "    - {labels: '{alertname=%q}', value: 1}\n", alert)
	}
	file := filepath.Join(t.TempDir(), "test.yml")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("promtool", "test", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("the alerts that fire are not %q: %s\n%s", want, out, b.String())
	}
}

// parse returns the samples in Prometheus' text format, and the type of each metric.
func parse(text string) (samples map[string]float64, types map[string]string) {
	samples, types = map[string]float64{}, map[string]string{}
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		if name, kind, ok := strings.Cut(strings.TrimPrefix(lines.Text(), "# TYPE "), " "); ok && strings.HasPrefix(lines.Text(), "# TYPE ") {
			types[name] = kind
			continue
		}
		if i := strings.LastIndexByte(lines.Text(), ' '); i > 0 && !strings.HasPrefix(lines.Text(), "#") {
			if value, err := strconv.ParseFloat(lines.Text()[i+1:], 64); err == nil {
				samples[lines.Text()[:i]] = value
			}
		}
	}
	return samples, types
}
