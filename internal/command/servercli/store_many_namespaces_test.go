package servercli_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/remote"
)

// TestManyNamespaces checks that memory and descriptors do not grow with the number of namespaces.
func TestManyNamespaces(t *testing.T) {
	require(t, runtime.GOOS == "linux", "Linux's /proc, to measure the server's resources")
	many := procs.Number(t, "PARTD_NAMESPACES", 120)
	p := start(t, "--store", "log:"+t.TempDir(), "--memory", "128MiB", "--http", "127.0.0.1:0")
	admin := adminURL(t, p)
	forEachNamespace := func(begin, end int, f func(ctx context.Context, c *remote.Client, name string) error) {
		t.Helper()
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				for i := begin + g; i < end; i += 4 {
					name := fmt.Sprint("job", i)
					c, err := remote.Dial(t.Context(), p.URL()+"/"+name, nil)
					if err == nil {
						err = f(t.Context(), c, name)
						_ = c.Close()
					}
					if err != nil {
						t.Errorf("namespace %s: %v", name, err)
						return
					}
				}
			})
		}
		wg.Wait()
	}
	write := func(ctx context.Context, c *remote.Client, name string) error {
		return c.Append(ctx, partd.Entry{Key: "k", Value: []byte(name)})
	}
	forEachNamespace(0, many/10, write)
	withFew := usageOf(t, p, admin)
	forEachNamespace(many/10, many, write)
	forEachNamespace(0, many, func(ctx context.Context, c *remote.Client, name string) error {
		values, err := c.Get(ctx, "k")
		if err == nil && string(values[0]) != name {
			err = fmt.Errorf("key k has the value %q, want %q", values[0], name)
		}
		return err
	})
	list, err := dialServer(t, p).Namespaces(t.Context())
	if err != nil || len(list) != many {
		t.Errorf("Namespaces lists %d namespaces (error %v), want %d", len(list), err, many)
	}
	withAll := usageOf(t, p, admin)
	t.Logf("usage with %d namespaces %+v, with %d %+v", many/10, withFew, many, withAll)
	if withAll.descriptors > withFew.descriptors+40 || withAll.goroutines > withFew.goroutines+40 || withAll.memory > withFew.memory+64<<20 {
		t.Errorf("usage grows with the number of namespaces: from %+v to %+v", withFew, withAll)
	}
	stop(t, p)
}
