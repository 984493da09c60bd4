package servercli_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// TestMonitoring checks that each metric in a dashboard, an alert or the status page is listed in
// docs/operations.md, which TestAdmin compares with the server. The tables module tests its own metrics.
func TestMonitoring(t *testing.T) {
	t.Parallel()
	page := must.Get(os.ReadFile("../../../docs/operations.md"))(t)
	const dir = "../../../packaging/monitoring/"
	for _, name := range []string{"partd-server.json", "alerts.yml", "../../internal/server/adminhttp/status.html"} {
		text := must.Get(os.ReadFile(dir + name))(t)
		metrics := regexp.MustCompile(`partd_[a-z_]+`).FindAllString(string(text), -1)
		if len(metrics) < 10 {
			t.Errorf("%s uses the metrics %v, want at least 10", name, metrics)
		}
		for _, m := range metrics {
			if !strings.HasPrefix(m, "partd_tables_") && !strings.Contains(string(page), "`"+strings.TrimSuffix(m, "_bucket")+"`") {
				t.Errorf("%s uses the metric %s, which docs/operations.md lacks", name, m)
			}
		}
	}
	board := must.Get(os.ReadFile(dir + "partd-server.json"))(t)
	for _, m := range regexp.MustCompile("`(partd_[a-z_]+)`").FindAllStringSubmatch(string(page), -1) {
		if !regexp.MustCompile(m[1] + `(_bucket)?\{`).Match(board) {
			t.Errorf("partd-server.json has no panel for the metric %s", m[1])
		}
	}
	for _, name := range []string{"partd-server.json", "partd-tables.json"} {
		text := must.Get(os.ReadFile(dir + name))(t)
		var board struct {
			Panels []struct {
				Title   string
				Targets []struct{ Expr string }
			}
		}
		if err := json.Unmarshal(text, &board); err != nil {
			t.Errorf("%s is not a valid dashboard: %v", name, err)
		}
		for _, p := range board.Panels {
			for _, target := range p.Targets {
				if !strings.Contains(target.Expr, `instance=~"$instance"`) {
					t.Errorf("%s: panel %s has an expression that does not select a server: %s", name, p.Title, target.Expr)
				}
			}
		}
	}
	checkAlertPages(t, dir)
	_, err := exec.LookPath("promtool")
	require(t, err == nil, "promtool")
	if out, err := exec.Command("promtool", "check", "rules", dir+"alerts.yml").CombinedOutput(); err != nil {
		t.Errorf("promtool check rules alerts.yml: %v: %s", err, out)
	}
	if out, err := exec.Command("promtool", "test", "rules", dir+"alerts_test.yml").CombinedOutput(); err != nil {
		t.Errorf("promtool test rules alerts_test.yml: %v: %s", err, out)
	}
	checkExpressions(t, dir+"partd-server.json", dir+"partd-tables.json")
}

// checkAlertPages checks that each alert has a unit test with an alert that fires, and that a page explains the alert.
func checkAlertPages(t *testing.T, dir string) {
	t.Helper()
	var texts [4]string
	for i, name := range []string{"alerts.yml", "alerts_test.yml", "../../docs/operations.md", "../../tables/docs/flight.md"} {
		text := must.Get(os.ReadFile(dir + name))(t)
		texts[i] = string(text)
	}
	rules, tests, pages := texts[0], texts[1], texts[2]+texts[3]
	alerts := regexp.MustCompile(`- alert: (\w+)\n +expr: `).FindAllStringSubmatch(rules, -1)
	if len(alerts) < 20 || len(alerts) != strings.Count(rules, "- alert:") {
		t.Errorf("alerts.yml has %d alerts, of which %d could be read", strings.Count(rules, "- alert:"), len(alerts))
	}
	for _, a := range alerts {
		if !regexp.MustCompile(`alertname: ` + a[1] + `\n +exp_alerts:\n +- `).MatchString(tests) {
			t.Errorf("alerts_test.yml has no test in which %s fires", a[1])
		}
		if !strings.Contains(pages, "| `"+a[1]+"` |") {
			t.Errorf("no page has a row for %s", a[1])
		}
	}
}

// checkExpressions makes promtool parse the expressions of dashboards, with Grafana's variables replaced.
func checkExpressions(t *testing.T, files ...string) {
	t.Helper()
	var text []byte
	for _, file := range files {
		board := must.Get(os.ReadFile(file))(t)
		text = append(text, board...)
	}
	rules := "groups:\n- name: dashboard\n  rules:\n"
	for _, m := range regexp.MustCompile(`"expr": ("[^\n]*")`).FindAllStringSubmatch(string(text), -1) {
		var expr string
		must.Do(t, json.Unmarshal([]byte(m[1]), &expr))
		expr = strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*").Replace(expr)
		rules += "  - record: a\n    expr: '" + expr + "'\n"
	}
	// promtool must not lint the rules, because they have the same name and may be identical.
	path := t.TempDir() + "/rules.yml"
	must.Do(t, os.WriteFile(path, []byte(rules), 0o600))
	if out, err := exec.Command("promtool", "check", "rules", "--lint=none", path).CombinedOutput(); err != nil {
		t.Errorf("promtool rejects an expression of %s: %v: %s", files, err, out)
	}
}

// adminURL returns the address of a server's HTTP endpoint, from its log.
func adminURL(t testing.TB, p *procs.Server) string {
	t.Helper()
	addressRE := regexp.MustCompile(`address="?(http://[^"\s]+)`)
	var m []string
	must.Eventually(t, time.Minute, "the log lacks the HTTP address", func() bool {
		m = addressRE.FindStringSubmatch(p.Stderr())
		return m != nil
	})
	return m[1]
}

func httpGet(t testing.TB, url string) (code int, body string) {
	t.Helper()
	r := must.Get(http.Get(url))(t)
	defer r.Body.Close()
	text := must.Get(io.ReadAll(r.Body))(t)
	return r.StatusCode, string(text)
}

type usage struct {
	connections, goroutines, descriptors int
	memory                               int64 // resident bytes
}

// usageOf measures a server's usage with its metrics and /proc.
func usageOf(t testing.TB, p *procs.Server, admin string) (u usage) {
	t.Helper()
	_, body := httpGet(t, admin+"/metrics")
	for name, count := range map[string]*int{"partd_goroutines": &u.goroutines, "partd_connections": &u.connections} {
		m := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(body)
		if m == nil {
			t.Fatalf("/metrics lacks %s: %s", name, body)
		}
		n := must.Get(strconv.ParseFloat(m[1], 64))(t)
		*count = int(n)
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.Pid()))
	must.Do(t, err)
	u.descriptors = len(files)
	if u.memory, _, err = procs.Memory(p.Pid()); err != nil {
		t.Fatal(err)
	}
	return u
}

// checkUsageRecovers fails the test unless a server's usage returns to about the earlier level within a minute.
func checkUsageRecovers(t testing.TB, p *procs.Server, admin string, before usage) {
	t.Helper()
	const tolerance = 30 // additional descriptors for data files and the measuring connection
	var now usage
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		now = usageOf(t, p, admin)
		if now.connections <= before.connections && now.goroutines <= before.goroutines+tolerance && now.descriptors <= before.descriptors+tolerance {
			t.Logf("before the load %+v, after it %+v", before, now)
			return
		}
	}
	t.Errorf("the server used %+v before the load, and a minute after it still %+v", before, now)
}
