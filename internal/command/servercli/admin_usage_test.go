package servercli_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// adminURL returns the address of a server's HTTP endpoint, from its log.
func adminURL(t testing.TB, p *procs.Server) string {
	t.Helper()
	addressRE := regexp.MustCompile(`address="?(http://[^"\s]+)`)
	for range 500 {
		if m := addressRE.FindStringSubmatch(p.Stderr()); m != nil {
			return m[1]
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("the log lacks the HTTP address: %s", p.Stderr())
	return ""
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
