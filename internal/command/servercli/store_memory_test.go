package servercli_test

import (
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/race"
	"github.com/go-partd/partd/internal/testutil/serverproc"
	"github.com/go-partd/partd/remote"
)

// TestMemoryOfStoreAndMessages checks that the process stays near --memory: it may use a fifth and 30 MiB more, for
// the program and uncollected garbage.
func TestMemoryOfStoreAndMessages(t *testing.T) {
	require(t, runtime.GOOS == "linux" && !race.Enabled, "Linux's /proc, without the race detector")
	const memory = 128 << 20
	p := start(t, "--store", "log:"+t.TempDir(), "--memory", fmt.Sprint(memory))
	c, err := remote.Dial(t.Context(), p.URLs[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	entries := make([]partd.Entry, 1000)
	for i := range entries {
		entries[i] = partd.Entry{Key: fmt.Sprint("small", i), Value: make([]byte, 1000)}
	}
	for range 150 {
		if err := c.Append(t.Context(), entries...); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			c, err := remote.Dial(t.Context(), p.URLs[0], nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			key, large := fmt.Sprint("large", i), make([]byte, 7<<20)
			for range 6 {
				if err := c.Append(t.Context(), partd.Entry{Key: key, Value: large}); err != nil {
					t.Error(err)
				}
				if _, err := c.Get(t.Context(), key); err != nil {
					t.Error(err)
				}
				if err := c.Delete(t.Context(), key); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	now, peak, err := serverproc.Memory(p.Pid())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the server uses %d MiB, at its peak %d", now>>20, peak>>20)
	if limit := int64(memory + memory/5 + 30<<20); peak > limit {
		t.Errorf("the server used %d MiB, want at most %d", peak>>20, limit>>20)
	}
	stop(t, p)
}
