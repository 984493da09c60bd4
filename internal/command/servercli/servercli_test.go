package servercli_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/command/cli"
	"github.com/go-partd/partd/internal/command/servercli"
	"github.com/go-partd/partd/internal/testutil/hostile"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/remote"
	"github.com/go-partd/partd/stores"
)

func TestMain(m *testing.M) {
	procs.CollectLess()
	procs.TempInMemory()
	procs.Roles{"server": procs.Program(servercli.Main), "partd": procs.Program(cli.Main)}.Main(m)
}

// command returns a command that runs the test binary as partd-server or partd.
func command(role string, args ...string) *exec.Cmd {
	cmd := procs.Command(role, args...)
	cmd.Env = slices.DeleteFunc(cmd.Env, func(v string) bool { return strings.HasPrefix(v, "PARTD_SERVER_") }) // the user's settings
	return cmd
}

// start starts a server on a free port. It is killed when the test ends.
func start(t testing.TB, args ...string) *procs.Server {
	t.Helper()
	return startChild(t, "server", append([]string{"--listen", "tcp://127.0.0.1:0"}, args...)...)
}

// startChild starts a child program that is a server. It is killed when the test ends.
func startChild(t testing.TB, child string, args ...string) *procs.Server {
	t.Helper()
	p := must.Get(procs.StartServer(context.Background(), command(child, args...), 1))(t)
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("the server's log:\n%.4000s", p.Stderr())
		}
	})
	return p
}

func stop(t testing.TB, p *procs.Server) {
	t.Helper()
	must.Do(t, p.Stop(30*time.Second))
}

// require skips the test unless ok is set. If PARTD_REQUIRE_ALL is set, it fails the test instead.
func require(t testing.TB, ok bool, label string) {
	t.Helper()
	if !ok {
		procs.Skip(t, "this test needs %s", label)
	}
}

func requirePython(t testing.TB, modules string) string {
	t.Helper()
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		path, err := exec.LookPath(name)
		if err == nil && exec.Command(path, "-c", "import "+modules).Run() == nil {
			return path
		}
	}
	require(t, false, "Python with the modules "+modules)
	return ""
}

// dialServer returns a client of a server. The optional namespace is written as /NAME.
func dialServer(t *testing.T, p *procs.Server, namespace ...string) *remote.Client {
	t.Helper()
	c := must.Get(remote.Dial(t.Context(), p.URL()+strings.Join(namespace, ""), nil))(t)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// randomBytes returns bytes that do not compress.
func randomBytes(seed, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return b
}

func openPeer(t *testing.T, p *procs.Server) *hostile.Peer {
	t.Helper()
	network, address := p.Address()
	peer := must.Get(hostile.Open(t.Context(), network, address, time.Minute))(t)
	t.Cleanup(func() { _ = peer.Close() })
	return peer
}

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
				if !must.Check(t, c.Append(ctx, partd.Entry{Key: fmt.Sprint(w, " ", i%2), Value: fmt.Appendf(nil, "%d%s\n", i, value)})) {
					return
				}
				mu.Lock()
				acked[w] = i + 1
				mu.Unlock()
			}
		})
	}
	var ackedBefore [writers]int
	must.Eventually(t, time.Minute, "some writers have not appended 50 pieces", func() bool {
		mu.Lock()
		defer mu.Unlock()
		ackedBefore = acked
		return slices.Min(acked[:]) >= 50
	})
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
	if err != nil || restored.Keys != copied.Keys || restored.Bytes != copied.Bytes || restored.Sum != copied.Sum {
		t.Errorf("the backup is %+v, but restoring it returned %+v, %v", copied, restored, err)
	}
	stop(t, p)
}
