package rest

import (
	"cmp"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/flightd"
	"github.com/go-partd/partd/tables/internal/faces/operations"
	"github.com/go-partd/partd/tables/internal/faces/serving"
	web "github.com/go-partd/partd/tables/page"
)

// TestAnswersArrive checks that each endpoint answers even if its body, or its wait for a slot, takes longer than
// IdleTimeout.
func TestAnswersArrive(t *testing.T) {
	const idle = time.Second
	store := must.Get(tables.Open(t.Context(), t.TempDir(), nil))(t)
	server := must.Get(flightd.New(store, &flightd.Options{IdleTimeout: idle, Queries: 1, Puts: 1}))(t)
	address, _ := nettest.Serve(t, func(ctx context.Context, l net.Listener) error {
		return web.Serve(ctx, l, server.Core, Handler(server.Core, store, Options{}))
	}, store)
	c := &catalog{t, "", store, "http://" + address, ""}
	c.send("POST", "namespaces", object{"namespace": []string{"ns"}}, 200)
	for _, name := range []string{"t", "renamed", "dropped"} {
		c.create("ns", name)
	}
	other, end := server.NewCall(t.Context(), &serving.Caller{Rights: serving.Admin}, "192.0.2.1:1")
	defer end(nil)
	release := must.Get(serving.Acquire(other, operations.BothSlots))(t)
	time.AfterFunc(3*idle, release)
	bodies := map[string]string{
		"create-namespace": `{"namespace": ["new"]}`, "namespace-properties": `{"updates": {"a": "b"}}`, "commit": `{"requirements": [], "updates": []}`,
		"create-table": `{"name": "new", "schema": {"type": "struct", "fields": []}}`, "rename-table": `{"source": {"namespace": ["ns"], "name": "renamed"}, "destination": {"namespace": ["ns"], "name": "other"}}`,
	}
	tableOf := map[string]string{"drop-table": "dropped"}
	var all sync.WaitGroup
	defer all.Wait()
	for _, e := range (&handler{}).endpoints() {
		names := strings.NewReplacer("/{prefix}", "", "{namespace}", "ns", "{table}", cmp.Or(tableOf[e.name], "t"), "{view}", "v", "{plan}", "p")
		method, url := cmp.Or(e.method, http.MethodPost), c.url+names.Replace(e.path)
		if e.name == "drop-namespace" {
			url = c.url + "/v1/namespaces/none"
		}
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			r := must.Get(http.NewRequestWithContext(ctx, method, url, nil))(t)
			if method == http.MethodPost {
				r.Body = slowBody(bodies[e.name]+"   ", idle)
			}
			a, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Errorf("%s %s: got no answer: %v", method, url, err)
				return
			}
			_ = a.Body.Close()
			if bodies[e.name] != "" && a.StatusCode >= 300 || a.StatusCode >= 500 {
				t.Errorf("%s %s: got status %d", method, url, a.StatusCode)
			}
		})
	}
}

// slowBody returns a body that takes twice the given time, in three pieces. Each piece comes in time.
func slowBody(text string, idle time.Duration) io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		for i := range 3 {
			if _, err := io.WriteString(w, text[i*len(text)/3:(i+1)*len(text)/3]); err != nil {
				return // the server has answered
			}
			time.Sleep(idle * 2 / 3)
		}
		_ = w.Close() // always returns nil
	}()
	return r
}
