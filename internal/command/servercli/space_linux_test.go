package servercli_test

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestQuota checks that stores of any kind stay within their quota, and accept appends right after a drop.
func TestQuota(t *testing.T) {
	t.Parallel()
	const quota = 16 << 20
	for _, scheme := range []string{"log:", "zstd+log:", "file:", "buffer+file:", "mem:"} {
		t.Run(scheme, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			store := scheme + dir
			if scheme == "mem:" {
				store = scheme
			}
			p := start(t, "--store", store, "--memory", "16MiB", "--max-bytes", fmt.Sprint(quota))
			ctx, c := boundedContext(t, 0), dialServer(t, p)
			for round := range 2 {
				var err error
				stored := 0
				for ; err == nil && stored < 10*quota/50_000; stored++ {
					if err = c.Append(ctx, partd.Entry{Key: fmt.Sprint("k", stored%10), Value: randomBytes(stored, 50_000)}); err != nil {
						break
					}
				}
				if !errors.Is(err, syscall.EDQUOT) || errors.Is(err, partd.ErrUnknownOutcome) || !strings.Contains(err.Error(), "allows 16 MiB") {
					t.Fatalf("append %d: error %v, want EDQUOT with the quota and a known outcome", stored+1, err)
				}
				if stored*50_000 < quota/8 {
					t.Errorf("round %d: only %[3]d bytes of values fit into a quota of %[2]d", round, quota, stored*50_000)
				}
				size := diskUsage(dir)
				if size > quota {
					t.Errorf("round %d: the store uses %d bytes, want at most its quota of %d", round, size, quota)
				}
				t.Logf("round %d: %d bytes of values, %d on disk", round, stored*50_000, size)
				v, err := c.Get(ctx, "k0")
				if err != nil || len(v[0]) != (stored+9)/10*50_000 {
					t.Errorf("round %d: Get(k0) = %d bytes, %v, want %d", round, len(v[0]), err, (stored+9)/10*50_000)
				}
				must.Do(t, c.Drop(ctx))
			}
			stop(t, p)
		})
	}
}

func TestSmallestQuota(t *testing.T) {
	p := start(t, "--store", "log:"+t.TempDir(), "--memory", "64MiB", "--namespaces", "1", "--max-bytes", "2MiB", "--namespace-max-bytes", "2MiB")
	defer stop(t, p)
	for _, namespace := range []string{"", "/job7"} {
		if err := dialServer(t, p, namespace).Append(t.Context(), partd.Entry{Key: "k", Value: randomBytes(0, 50_000)}); err != nil {
			t.Errorf("Append in namespace %q: %v", namespace, err)
		}
	}
}

// TestQuotaOfANamespace checks that a full namespace refuses appends, even after a restart, but does not affect
// other namespaces or the default store.
func TestQuotaOfANamespace(t *testing.T) {
	const quota = 8 << 20
	dir := t.TempDir()
	args := []string{"--store", "log:" + dir, "--memory", "64MiB", "--namespaces", "2", "--namespace-max-bytes", fmt.Sprint(quota), "--http", "127.0.0.1:0"}
	p := start(t, args...)
	ctx := boundedContext(t, 0)
	fill := func(namespace string) (n int, err error) {
		c := dialServer(t, p, namespace)
		for ; err == nil && n < 3*quota/50_000; n++ {
			err = c.Append(ctx, partd.Entry{Key: fmt.Sprint("k", n%10), Value: randomBytes(n, 50_000)})
		}
		return n, err
	}
	wantFull := func(namespace string, err error) {
		t.Helper()
		if !errors.Is(err, syscall.EDQUOT) || errors.Is(err, partd.ErrUnknownOutcome) || !strings.Contains(err.Error(), "allows 8.0 MiB") {
			t.Errorf("namespace %s: error %v, want EDQUOT with the quota and a known outcome", namespace, err)
		}
	}
	for _, namespace := range []string{"/a", "/b", "/c"} { // two are open at a time
		n, err := fill(namespace)
		wantFull(namespace, err)
		if n*50_000 < quota/8 {
			t.Errorf("namespace %s: only %d bytes of values fit into its quota", namespace, n*50_000)
		}
		if size := diskUsage(filepath.Join(dir, "namespaces", namespace)); size > quota {
			t.Errorf("namespace %s uses %d bytes, want at most %d", namespace, size, quota)
		}
	}
	if _, err := fill(""); err != nil {
		t.Errorf("filling the default store, which has no quota: %v", err)
	}
	_, body := httpGet(t, adminURL(t, p)+"/metrics")
	for _, want := range []string{"partd_room_refused_total 3", "partd_namespace_stores_limit 2", "partd_namespaces_in_use 3"} {
		if !strings.Contains(body, "\n"+want+"\n") {
			name, _, _ := strings.Cut(want, " ")
			_, metric, _ := strings.Cut(body, "\n"+name+" ")
			t.Errorf("/metrics has %[2]s with the value %.20[3]q, want %[1]s", want, name, metric)
		}
	}
	stop(t, p)
	p = start(t, args...)
	_, err := fill("/a") // pending data has been written, so there may be space
	wantFull("/a", err)
	if size := diskUsage(filepath.Join(dir, "namespaces/a")); size > quota {
		t.Errorf("after a restart, namespace a uses %d bytes, want at most %d", size, quota)
	}
	must.Do(t, dialServer(t, p, "/a").Drop(ctx))
	if n, err := fill("/a"); n*50_000 < quota/8 {
		t.Errorf("after a drop, namespace a accepts only %d appends: %v", n, err)
	}
	stop(t, p)
}

// TestDeletesFreeSpace checks that after deletes, a store at its quota accepts appends within a
// minute, even if the quota is small and requests to another namespace close the store.
func TestDeletesFreeSpace(t *testing.T) {
	t.Parallel()
	for _, quota := range []int{8 << 20, 24 << 20} {
		for _, namespace := range []string{"", "/full"} {
			t.Run(fmt.Sprint(quota>>20, " MiB", namespace), func(t *testing.T) {
				limit := fmt.Sprint(quota)
				p := start(t, "--store", "log:"+t.TempDir(), "--memory", "64MiB", "--namespaces", "1", "--namespace-max-bytes", limit, "--max-bytes", limit)
				ctx, c, other := boundedContext(t, 0), dialServer(t, p, namespace), dialServer(t, p, "/other")
				n := 0
				add := func() error {
					n++
					return c.Append(ctx, partd.Entry{Key: fmt.Sprint("k", n%10), Value: randomBytes(n, 50_000)})
				}
				closeStore := func() {
					must.Do(t, other.Append(ctx, partd.Entry{Key: "k", Value: []byte("v")}))
					time.Sleep(50 * time.Millisecond)
				}
				for refused := 0; refused < 20; { // until all pending data has been written
					if err := add(); errors.Is(err, syscall.EDQUOT) {
						refused++
						closeStore()
					} else if err != nil {
						t.Fatal(err)
					}
				}
				for i := range 9 {
					must.Do(t, c.Delete(ctx, fmt.Sprint("k", i)))
				}
				closeStore()
				for start := time.Now(); ; closeStore() {
					if err := add(); err == nil {
						break
					} else if !errors.Is(err, syscall.EDQUOT) || time.Since(start) > time.Minute {
						t.Fatalf("Append up to a minute after the deletes: %v", err)
					}
				}
				stop(t, p)
			})
		}
	}
}

func diskUsage(dir string) (size int64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			if info, err := e.Info(); err == nil {
				size += min(info.Size(), info.Sys().(*syscall.Stat_t).Blocks*512) // the quota of a file: store counts the lengths of its files
			}
		}
		return nil
	})
	return size
}
