package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/serverproc"
)

// adminURL returns where a server tells how it goes, which its log says.
func adminURL(t testing.TB, p *serverproc.Process) string {
	t.Helper()
	at := regexp.MustCompile(`address="?(http://[^"\s]+)`)
	for range 500 {
		if m := at.FindStringSubmatch(p.Stderr()); m != nil {
			return m[1]
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("the log does not say where it tells: %s", p.Stderr())
	return ""
}

func httpGet(t testing.TB, url string) (code int, body string) {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(text)
}

// holding is what a process has at a moment.
type holding struct {
	connections, goroutines, descriptors int
	memory                               int64 // resident bytes
}

// holdingOf asks a server, and the system, what it has.
func holdingOf(t testing.TB, p *serverproc.Process, at string) (h holding) {
	t.Helper()
	_, body := httpGet(t, at+"/metrics")
	for name, to := range map[string]*int{"partd_goroutines": &h.goroutines, "partd_connections": &h.connections} {
		m := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(body)
		if m == nil {
			t.Fatalf("it tells no %s: %s", name, body)
		}
		n, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		*to = int(n)
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	h.descriptors = len(files)
	if h.memory, _, err = serverproc.Memory(p.Pid()); err != nil {
		t.Fatal(err)
	}
	return h
}

// comesBack fails unless a server has, once it is left alone, about what it had before.
func comesBack(t testing.TB, p *serverproc.Process, at string, before holding) {
	t.Helper()
	const more = 30 // descriptors of data files, the connection that asks
	var now holding
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		now = holdingOf(t, p, at)
		if now.connections <= before.connections && now.goroutines <= before.goroutines+more && now.descriptors <= before.descriptors+more {
			t.Logf("before the load %+v, after it %+v", before, now)
			return
		}
	}
	t.Errorf("the server had %+v, and a minute after the load it has %+v", before, now)
}
