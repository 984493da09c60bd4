package shuffle_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/attempttest"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/shuffle"
	"github.com/go-partd/partd/stores"
)

func TestAttemptsOnStores(t *testing.T) {
	for _, url := range []string{
		"mem:", "file:%s", "log:%s?memory=16MiB", "buffer+file:%s?memory=1MiB", "zstd+log:%s?memory=16MiB", "snappy+buffer+log:%s?buffer.memory=1MiB&log.memory=16MiB",
		shuffle.ThreeServers(t), "zstd+" + shuffle.ThreeServers(t),
	} {
		t.Run(strings.SplitAfter(url, ":")[0], func(t *testing.T) {
			if strings.Contains(url, "%s") {
				url = fmt.Sprintf(url, t.TempDir()+"/store")
			}
			store := must.Get(stores.Open(t.Context(), url))(t)
			attempttest.Run(t, store)
			if err := partd.Close(t.Context(), store); err != nil && !errors.Is(err, errors.ErrUnsupported) {
				t.Error(err)
			}
		})
	}
}
