package servercli_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/remote"
	"github.com/go-partd/partd/stores"
)

// TestBackupUnderLoad copies a server's store while four clients write, and then restores the
// copy. The copy must be a snapshot: each client appends to two keys in turn, and the copy must
// contain a prefix of that sequence, with everything that was acknowledged before the copy.
func TestBackupUnderLoad(t *testing.T) {
	const writers = 4
	dir := t.TempDir()
	p := start(t, "--store", "log:"+dir+"/data", "--memory", "64MiB")
	ctx := boundedContext(t, 0)
	dial := func() *remote.Client {
		t.Helper()
		c := must.Get(remote.Dial(ctx, p.URL(), nil))(t)
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	target := must.Get(stores.Open(ctx, "zstd+log:"+dir+"/backup"))(t)
	defer func() { _ = partd.Close(context.Background(), target) }()
	value := strings.Repeat("v", 2000)
	var acked [writers]int
	var mu sync.Mutex
	writing, stopWriting := context.WithCancel(ctx)
	defer stopWriting()
	var wg sync.WaitGroup
	for w := range writers {
		c := dial()
		wg.Go(func() {
			for i := 0; writing.Err() == nil; i++ {
				if err := c.Append(ctx, partd.Entry{Key: fmt.Sprint(w, " ", i%2), Value: fmt.Appendf(nil, "%d%s\n", i, value)}); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				acked[w] = i + 1
				mu.Unlock()
			}
		})
	}
	time.Sleep(300 * time.Millisecond)
	mu.Lock()
	ackedBefore := acked
	mu.Unlock()
	source := dial()
	copied, err := partd.Copy(ctx, target, source, nil)
	stopWriting()
	wg.Wait()
	if err != nil {
		t.Fatalf("Copy under load: %v", err)
	}
	for w := range writers {
		v := must.Get(target.Get(ctx, fmt.Sprint(w, " ", 0), fmt.Sprint(w, " ", 1)))(t)
		n := 0
		for parts := [2]string{string(v[0]), string(v[1])}; ; n++ {
			rest, found := strings.CutPrefix(parts[n%2], fmt.Sprintf("%d%s\n", n, value))
			if !found {
				if parts[0]+parts[1] != "" {
					t.Errorf("writer %d: the copy lacks piece %d, but has later pieces", w, n)
				}
				break
			}
			parts[n%2] = rest
		}
		if n < ackedBefore[w] || n > acked[w] {
			t.Errorf("writer %d: the copy has %d pieces, want at least the %d acknowledged before the copy, and at most the %d acknowledged in total", w, n, ackedBefore[w], acked[w])
		}
	}
	must.Do(t, source.Drop(ctx))
	restored, err := partd.Copy(ctx, source, target, nil)
	if err != nil || restored.Keys != copied.Keys || restored.Bytes != copied.Bytes || restored.Checksum != copied.Checksum {
		t.Errorf("the backup is %+v, but restoring it returned %+v, %v", copied, restored, err)
	}
	stop(t, p)
}
