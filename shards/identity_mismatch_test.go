package shards_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/shards"
	"github.com/go-partd/partd/stores"
)

// TestServerWithAnotherStore checks that old and new clients reject a server that restarted with an
// empty directory, until the server restarts with its original directory or is adopted.
func TestServerWithAnotherStore(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := startCluster(t)
	store := open(t, c.url())
	for i := range 30 {
		must.Do(t, store.Append(ctx, partd.Entry{Key: fmt.Sprint(i), Value: []byte("x")}))
	}
	serverOf := c.serverOf(t)
	key := ""
	for k, i := range serverOf {
		if i == 1 && k != "partd-shards" {
			key = k
		}
	}
	originalArgs := c.args[1]
	expectRefused := func(label string, err error) {
		t.Helper()
		if !errors.Is(err, shards.ErrStoreMismatch) || !strings.Contains(err.Error(), "shard "+c.addresses[1]+": ") {
			t.Errorf("%s = %v, want ErrStoreMismatch of the restarted server", label, err)
		}
	}
	restartWith := func(args []string) {
		must.Do(t, c.servers[1].Stop(time.Minute))
		c.args[1] = args
		c.restart(t, 1)
	}
	for range 2 {
		restartWith([]string{"--store", "log:" + t.TempDir() + "/data", "--listen"})
		_, err := store.Get(ctx, key)
		expectRefused("Get", err)
		_, err = stores.Open(ctx, c.url())
		expectRefused("Open", err)
		restartWith(originalArgs)
		if got, err := scan(ctx, store, 0, 1); err != nil || len(got) != 30 {
			t.Errorf("scan with the original store = %d keys, %v, want 30", len(got), err)
		}
	}
	restartWith([]string{"--store", "log:" + t.TempDir() + "/data", "--listen"})
	must.Do(t, stores.NewSet().Adopt(ctx, c.url(), c.addresses[1]))
	for k, i := range serverOf {
		if i == 1 {
			delete(serverOf, k)
		}
	}
	if got, err := scan(ctx, store, 0, 1); err != nil || len(got) == 0 || len(got) != len(serverOf)-1 {
		t.Errorf("scan after Adopt = %d keys, %v, want %d", len(got), err, len(serverOf)-1)
	}
	must.Do(t, store.Append(ctx, partd.Entry{Key: "new", Value: []byte("x")}))
	restartWith(originalArgs)
	_, err := scan(ctx, store, 0, 1)
	expectRefused("scan with the original store after Adopt", err)
	must.Do(t, partd.Close(ctx, store))
	for _, name := range []string{"elsewhere:1", ""} {
		if err := stores.NewSet().Adopt(ctx, c.url(), name); !errors.As(err, new(*stores.URLError)) {
			t.Errorf("Adopt(%q) = %v, want a URLError", name, err)
		}
	}
}
